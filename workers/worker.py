"""A worker: claims jobs, walks them through its lanes, keeps their leases alive."""

import json
import random
import threading
from collections.abc import Callable, Mapping, Set
from datetime import datetime
from typing import Final

import msgspec
import structlog

from statemachine.errors import StoreAway
from statemachine.job import Job
from statemachine.states import DEVICE_STAGES, State
from statemachine.store import EventStore
from statemachine.store.affinity import Affinity
from statemachine.store.claims import Claimant
from statemachine.store.reading import unwanted
from statemachine.store.writer import Writer
from workers.claiming import Claiming
from workers.draining import Draining
from workers.generations import generation_ended
from workers.held import Held
from workers.lane import Handler, Lane
from workers.policy import Policy, refusal
from workers.ports import Bucket, Clock, Engine, Metrics, Receiver, References
from workers.recorder import StoreRecorder
from workers.spool import DiskSpool
from workers.stages.on_device import request_id
from workers.sweeping import Sweeping
from workers.tools import StageSettings, Tools

LANES: Final[dict[str, tuple[State, ...]]] = {
    "prepare": (State.FETCHING_REFS,),
    "engine": DEVICE_STAGES,
    "deliver": (State.UPLOADING, State.CALLBACK),
}
SLOTS: Final = {"prepare": 2, "engine": 2, "deliver": 4}
"""Two in the engine lane: while one is on the device, the next already lies in the engine process."""

log = structlog.get_logger()
_dice: Final = random.SystemRandom()


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who this worker is, and what it can make. Its spool has the name of its host where no other is given."""

    worker_id: str
    host: str
    pid: int
    device: str
    job_types: list[str]
    models: dict[str, str]
    version: str
    lease_seconds: float = 30.0
    spool: str | None = None
    spool_grace_seconds: float = 30.0


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The doors of one worker."""

    clock: Clock
    spool: DiskSpool
    bucket: Bucket
    receiver: Receiver
    references: References
    engine: Engine
    metrics: Metrics | None = None


class Worker:
    """A plain object. `claim_tick`, `heartbeat_tick` and each lane's `tick` are called by threads, or by a test."""

    def __init__(
        self,
        identity: Identity,
        store: EventStore,
        ports: Ports,
        handlers: Mapping[State, Handler],
        settings: StageSettings,
        *,
        pause: Callable[[int], None],
        draw: Callable[[], float] = _dice.random,
        engine_up: Callable[[], bool] = lambda: True,
        resident: Callable[[], Set[str]] = frozenset,
        affinity_seconds: float = 0.0,
        policy: Policy = refusal,
    ) -> None:
        self._policy = policy
        self.identity = identity
        self._spool_name = identity.spool or identity.host
        self._engine_up = engine_up
        self._resident = resident
        self.store = store
        self.ports = ports
        self.settings = settings
        self.held = Held()
        self.draining = False
        self._claiming = threading.Lock()
        self._draw = draw
        self._engine_state: tuple[str | None, int | None] = (None, None)
        self._started_at = store.now()
        self._seen_at: float | None = None
        self._renewed_at: float | None = None
        self._not_renewed: set[tuple[str, int]] = set()
        self.writer = Writer(store, pause=pause)
        self._recorder = StoreRecorder(
            store,
            self.writer,
            self.held,
            ports.clock,
            worker_id=identity.worker_id,
            lease_seconds=identity.lease_seconds,
            pause=pause,
        )
        self.lanes = {
            name: Lane(
                name,
                {state: handlers[state] for state in states},
                slots=SLOTS[name],
                tools_for=self._tools_for,
                hand_on=self._hand_on,
                let_go=self._let_go,
                worker_id=identity.worker_id,
                ended=self._count,
            )
            for name, states in LANES.items()
        }
        self._lane_of = {state: self.lanes[name] for name, states in LANES.items() for state in states}
        claimant = Claimant(
            worker_id=identity.worker_id,
            host=identity.host,
            spool=self._spool_name,
            device=identity.device,
            job_types=identity.job_types,
            version=identity.version,
            lease_seconds=identity.lease_seconds,
            grace_seconds=identity.spool_grace_seconds,
        )
        self._draining = Draining(
            store, self.writer, self.held, ports.engine, self.lanes["engine"], worker_id=identity.worker_id
        )
        self._claims = Claiming(
            claimant,
            store,
            self.held,
            engine=self.lanes["engine"],
            deliver=self.lanes["deliver"],
            engine_up=engine_up,
            resident=resident,
            affinity=Affinity(affinity_seconds, ports.clock.monotonic),
        )
        self._sweeping = Sweeping(store, ports.spool, self.held, name=self._spool_name)

    def claim_tick(self, now: datetime, *, expected: bool = False) -> int:
        """Claim what there is room for: never more than free slots + 1, nothing for a lane that is paused.

        `expected`: somebody rang, so the store need not be asked first whether there is anything.
        """
        with self._claiming:  # who hands everything back waits for a claim that is under way
            if self.draining:
                return 0
            claimed = self._claims.claim(now, expected=expected)
            for job in claimed:
                self.held.keep(job, monotonic=self.ports.clock.monotonic())
        for job in claimed:
            self._hand_on(job)
        return len(claimed)

    def heartbeat_tick(self, now: datetime, *, progress_seconds: float = 0.5) -> set[str]:
        """Renew the leases when a third of them is over, or progress is to be told; return the ids that were lost.

        One that could not be renewed is tried again at the next beat first: while this was asked the job may have ended
        in our own hands.
        """
        monotonic = self.ports.clock.monotonic()
        third = self.identity.lease_seconds / 3
        # Other hosts leave our files to us for as long as they hear of us.
        if self._seen_at is None or monotonic - self._seen_at >= min(third, self.identity.spool_grace_seconds / 3):
            self.see(now, state="draining" if self.draining else "active")
            self._seen_at = monotonic
        held = self.held.renewable(monotonic=monotonic)
        telling = any(progress is not None for _, progress in held.values())
        due = progress_seconds if telling else third
        if not held or (self._renewed_at is not None and monotonic - self._renewed_at < due):
            return set()
        kept = self.store.renew(self.identity.worker_id, held, seconds=self.identity.lease_seconds)
        self._renewed_at = monotonic
        still = {job.id: job.token for job in self.held.jobs()}
        gone = {
            (job_id, token) for job_id, (token, _) in held.items() if job_id not in kept and still.get(job_id) == token
        }
        lost = gone & self._not_renewed
        if gone > lost:
            self._renewed_at = None
        self._not_renewed = gone
        for job_id, token in lost:
            log.warning("lease lost", job=job_id, token=token)
            self.ports.engine.cancel(f"{job_id}:{token}")
        return {job_id for job_id, _ in lost}

    def cancel_tick(self) -> set[str]:
        """Stop the engine's work on jobs whose end was asked for; return their ids. Other stages see it as they write.

        Called when somebody rang, and now and then. An engine that was told so already is told again.
        """
        held = {job.id: job for job in self.held.jobs()}
        if not held:
            return set()
        with self.store.read() as connection:
            found = unwanted(connection, list(held))
        stopped = {job_id for job_id, token in found.items() if held[job_id].token == token}
        for job_id in stopped:
            self.ports.engine.cancel(request_id(held[job_id]))
        return stopped

    def engine_is(self, engine: str | None, pid: int | None) -> None:
        """What the worker's row tells of its engine process."""
        self._engine_state = (engine, pid)

    def pauses(self, now: datetime) -> list[str]:
        """Which lanes are paused, and why: somebody has to mend the set-up."""
        return [f"{name} paused: {lane.pause_reason}" for name, lane in self.lanes.items() if lane.paused(now)]

    def see(self, now: datetime, *, state: str) -> None:
        """Write the worker's own row."""
        who = self.identity
        engine, engine_pid = self._engine_state
        notes = self.pauses(now)
        notes += [] if self._engine_up() else ["its engine is not up"]
        if self.store.passed_over:
            notes.append(f"{len(self.store.passed_over)} jobs cannot be read: see `ourvidz jobs rebuild`")
        self.store.see_worker(
            {
                "worker_id": who.worker_id,
                "host": who.host,
                "pid": who.pid,
                "device": who.device,
                "engine": engine,
                "engine_pid": engine_pid,
                "job_types": json.dumps(who.job_types),
                "models": json.dumps(who.models),
                "state": state,
                "note": "; ".join(notes) or None,
                "version": who.version,
                "started_at": self._started_at,
                "last_seen_at": now,
                "resident": json.dumps(sorted(self._resident())),
                "spool": self._spool_name,
            }
        )

    def drain(self) -> None:
        """Claim nothing any more, and have everybody know at the next heartbeat."""
        self.draining = True
        self._seen_at = None

    def drain_tick(self, left: float) -> bool:
        """Put off what cannot end within `left` seconds. See `Draining.tick`; call `drain` before."""
        return self._draining.tick(left)

    def hand_back(self, reason: str) -> int:
        """Give up every lease that is still held; it costs the jobs no attempt. Returns how many.

        Call `drain` before, or the next claim takes them again.
        """
        with self._claiming:  # a claim that was under way is handed back as well
            held = self.held.jobs()
        return sum(self._draining.give_back(job, reason) for job in held)

    def sweep_spool(self) -> int:
        """Clean this host's spool; return how many folders went. See `Sweeping.tick`."""
        return self._sweeping.tick()

    def _tools_for(self, job: Job) -> Tools:
        self.held.begin(job, monotonic=self.ports.clock.monotonic())
        return Tools(
            job=job,
            recorder=self._recorder,
            clock=self.ports.clock,
            spool=self.ports.spool,
            bucket=self.ports.bucket,
            receiver=self.ports.receiver,
            references=self.ports.references,
            engine=self.ports.engine,
            settings=self.settings,
            draw=self._draw,
            policy=self._policy,
        )

    def _count(self, before: Job, after: Job) -> None:
        told = generation_ended(before, after, worker_id=self.identity.worker_id)
        if told is not None and self.ports.metrics is not None:
            self.ports.metrics.generation(told)

    def _hand_on(self, job: Job) -> None:
        self._lane_of[job.state].put(job)

    def _let_go(self, job: Job) -> None:
        self.held.release(job)
        try:
            # Who was fenced out may have written into the folder after another worker had ended the job.
            ended = job.state.terminal or self.store.finished(job.id)
        except StoreAway:
            return  # the next sweep finds it
        if ended:
            self.ports.spool.remove(job.id)
