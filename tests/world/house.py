"""The house: every real object of the service over fakes of its ports, in one thread, on a real SQLite file."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

from sqlalchemy import func, select

from statemachine.errors import StoreAway
from statemachine.store import EventStore
from statemachine.store.database import reading
from statemachine.store.schema import jobs
from tests.fakes import Crash, Effect, FakeClock, nothing
from tests.world.kinds import GONE, LATE
from tests.world.ports import (
    HookedEngine,
    HookedSpool,
    HookedStore,
    RememberingBucket,
    WatchedReceiver,
    WatchedReferences,
)
from tests.world.redis import FakeLists, Server
from tests.world.watch import Watch
from workers.errors import GiveUp, TryAgain
from workers.ingress import Ingress
from workers.presets import PRESETS, QUEUES
from workers.stages import HANDLERS
from workers.supervisor import Supervisor
from workers.tools import StageSettings
from workers.worker import Identity, Ports, Worker

LEASE: Final = 10.0
ROUNDS: Final = 200
"""More rounds than any job needs once faults have stopped: past them, something loops."""
IDLE: Final = 4.0
"""Seconds of a round in which nobody has anything in hand: the others' leases and signs of life run out."""


class World:
    """What survives a crash, and the processes that do not. `plan(number, name)` is asked before each effect.

    `struck` tells what was done to it; `crashes`, `losses`, `altered`, `retries` and `cancels` what that excuses.
    """

    def __init__(self, folder: Path, empty_sqlite: Path, seed: int = 0) -> None:
        self.folder = folder
        self.plan: Callable[[int, str], None] | None = None
        self.dice = Random(seed)
        self.count = 0
        self.trace: list[str] = []
        self.troubles: list[Callable[[str], None]] = []
        self.afterwards: list[Callable[[], None]] = []
        self.struck: list[str] = []
        self.first = ("", b"")
        self.pushes = 0
        self.altered = 0
        self.crashes = 0
        self.losses = 0
        self.retries = 0
        self.cancels: list[tuple[str, bool]] = []
        self.boots = 0
        self.quiet = 0
        self.host = "host"
        self.clock = FakeClock()
        self.redis = Server(self.clock)
        self.path = folder / "world.sqlite"
        shutil.copy(empty_sqlite, self.path)
        self.plain = HookedStore(self.path, self.clock, nothing)
        self.watch = Watch(self.plain)
        self.bucket = RememberingBucket(self.effect, self.watch)
        self.receiver = WatchedReceiver(self.effect, self.watch)
        self.references = WatchedReferences(self.effect, self.watch, self.ids)
        self.references.ends = {LATE: [TryAgain("host answered 503")], GONE: [GiveUp("host answered 404")] * ROUNDS}
        self.processes = Processes(self)
        self.others: list[Processes] = []

    def effect(self, name: str) -> None:
        """Number the effect; the plan may raise, or let time pass, and so may what it has brought about."""
        if self.quiet:
            return
        self.count += 1
        self.trace.append(name)
        if self.plan is not None:
            self.plan(self.count, name)
        for trouble in list(self.troubles):
            trouble(name)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No effect in here is numbered."""
        self.quiet += 1
        try:
            yield
        finally:
            self.quiet -= 1

    def push(self, queue: str, payload: bytes) -> None:
        """As the producer does."""
        self.redis.lists[queue].appendleft(payload)
        self.pushes += 1
        if self.pushes == 1:
            self.first = (queue, payload)

    def lose_files(self) -> None:
        """What the history says of the spool need not be true from here on."""
        self.losses += 1
        self.watch.blind = True

    def run(self) -> None:
        """Until every job has ended and nothing is to come; a crash is followed by a new start.

        Raises AssertionError when it does not end within `ROUNDS` rounds of the last fault.
        """
        struck, rounds = 0, 0
        while True:
            rounds = rounds + 1 if struck == len(self.struck) else 0
            struck = len(self.struck)
            assert rounds <= ROUNDS, f"not settled after {ROUNDS} rounds: {self.states()}"
            try:
                busy = self._turn()
            except Crash:
                self.crashes += 1
                self._start_anew()
                continue
            if self.settled():
                if not self.afterwards:
                    return
                self.afterwards.pop(0)()
            self.clock.advance(1.0 if busy else max(IDLE, self._until_due()))

    def settled(self) -> bool:
        """Lists are empty and all jobs have ended."""
        return self.redis.empty() and all(state in ("completed", "failed", "cancelled") for state in self.states())

    def states(self) -> list[str]:
        """The states of all jobs."""
        with reading(self.plain.engine) as connection:
            return list(connection.scalars(select(jobs.c.state)))

    def ids(self) -> list[str]:
        """The ids of all jobs."""
        with reading(self.plain.engine) as connection:
            return list(connection.scalars(select(jobs.c.id)))

    @property
    def store(self) -> EventStore:
        """The store of the living processes."""
        return self.processes.store

    def _turn(self) -> bool:
        """Everybody has a turn; whether anybody had something to do."""
        if not self.processes.booted:
            self.processes.boot()
        busy = self.processes.round()
        for others in list(self.others):
            try:
                busy |= others.round()
            except Crash:  # it was they who met it
                self.crashes += 1
                self.others.remove(others)
        if self.processes.leaving and not self.processes.linger():
            self.processes.leave()
            self._start_anew()
            busy = True
        return busy

    def _start_anew(self) -> None:
        self.processes.die()
        self.processes = Processes(self)

    def _until_due(self) -> float:
        """Seconds until a waiting job may be tried again: nobody has to sit them out."""
        with reading(self.plain.engine) as connection:
            due = connection.scalar(
                select(func.min(jobs.c.resume_at)).where(jobs.c.finished_at.is_(None), jobs.c.worker_id.is_(None))
            )
        return 0.0 if due is None else float((due - self.clock.now()).total_seconds())


class Processes:
    """Ingress, worker with its engine, supervisor: what a crash takes away."""

    def __init__(self, world: World, effect: Effect | None = None) -> None:
        self._world = world
        self._hook = effect or world.effect
        self.store = HookedStore(world.path, world.clock, self._hook)
        self.host = world.host
        self.spool = HookedSpool(world.folder / f"spool of {self.host}", self._hook)
        self.booted = False
        self.leaving = False

    def boot(self) -> None:
        """Start all of them, under new names."""
        world = self._world
        world.boots += 1
        name = f"w{world.boots}"
        identity = Identity(
            worker_id=name,
            host=self.host,
            pid=world.boots,
            device="cpu",
            job_types=list(PRESETS),
            models={},
            version="test",
            lease_seconds=LEASE,
        )
        ports = Ports(
            clock=world.clock,
            spool=self.spool,
            bucket=world.bucket,
            receiver=world.receiver,
            references=world.references,
            engine=HookedEngine(self.spool, self._hook, world.watch),
        )
        settings = StageSettings(on_missing_reference="generate_without")
        self.worker = Worker(identity, self.store, ports, HANDLERS, settings, pause=self._wait, draw=world.dice.random)
        self.ingresses = [
            Ingress(
                FakeLists(world.redis, queue, name, self._hook),
                self.store,
                now=world.clock.now,
                draw=world.dice.random,
                draw_seed=lambda: 4711,
            )
            for queue in QUEUES
        ]
        self.supervisor = Supervisor(self.store, world.clock, name=f"s{world.boots}", lease_seconds=LEASE)
        with suppress(StoreAway):
            self.worker.sweep_spool()
        self.booted = True

    def round(self) -> bool:
        """Everybody gets a turn; whether anything was done, or is in hand.

        While the database is away each tries again, as threads do.
        """
        now = self._world.clock.now()
        done = sum(ingress.tick(now) for ingress in self.ingresses)
        for step in (
            self.supervisor.tick,
            lambda: self.worker.heartbeat_tick(now),
            lambda: self.worker.claim_tick(now),
            self.worker.sweep_spool,
        ):
            with suppress(StoreAway):
                step()
        while any(lane.tick(now) for lane in self.worker.lanes.values()):
            done += 1
        return bool(done or self.worker.held.jobs())

    def drain(self) -> None:
        """They are told to stop: another thread puts off what is in hand, whatever this one is at."""
        self.leaving = True
        self.worker.drain()

    def linger(self) -> bool:
        """Put off what is in hand; whether something is worth another round."""
        try:
            return self.worker.drain_tick(0.0)
        except StoreAway:
            return False

    def leave(self) -> None:
        """Hand back what is still held, and say good-bye."""
        with suppress(StoreAway):
            self.worker.hand_back("drained")
            self.worker.see(self._world.clock.now(), state="stopped")
        for ingress in self.ingresses:
            ingress.close()

    def die(self) -> None:
        """Take the process's connections with it."""
        self.store.engine.dispose()

    def _wait(self, failures: int) -> None:
        """The database does not answer a lane. Its other threads go on trying meanwhile."""
        assert failures <= ROUNDS, f"the database was away {failures} times in a row"
        self._world.clock.advance(1.0)
        for step in (self.supervisor.tick, lambda: self.worker.heartbeat_tick(self._world.clock.now())):
            with suppress(StoreAway):
                step()
