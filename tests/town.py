"""Hosts on one database: real workers with the null engine, a spool a host, in one thread under one clock."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from statemachine.admission import NewJob
from statemachine.job import Job
from statemachine.store import open_store
from tests.fakes import Crash, FakeClock, FakeReferences, MemoryBucket, ScriptedReceiver, ready
from workers.arrivals import build_payload, read
from workers.engines.messages import Enhance, FromEngine, Generate, Ready, Started
from workers.engines.null import NullEngine
from workers.presets import PRESETS
from workers.spool import DiskSpool
from workers.stages import HANDLERS
from workers.supervisor import Supervisor
from workers.tools import StageSettings
from workers.worker import Identity, Ports, Worker

LEASE: Final = 10.0
GRACE: Final = 30.0
ROUNDS: Final = 100
"""Seconds, and more than any job here needs."""

Effect = Callable[[str], None]


class InThread:
    """`workers.ports.Engine` without a process of its own. Each message is an effect."""

    def __init__(self, spool: DiskSpool, effect: Effect) -> None:
        self._engine = NullEngine()
        self._spool = spool
        self._effect = effect
        self.orders: list[Generate | Enhance] = []
        self.keep = False

    def ready(self) -> Ready:
        return ready("null")

    def run(self, request: Generate | Enhance) -> Iterator[FromEngine]:
        self.orders.append(request)
        yield Started(request_id=request.request_id)
        for message in self._engine.run(request, self._spool):
            self._effect(f"engine.{type(message).__name__}")
            yield message

    def cancel(self, request_id: str, *, keep: bool = False) -> None:
        """Whoever leaves early says so; nothing runs by then."""


class Host:
    """A host with one worker, and after a crash with its next one."""

    def __init__(self, town: "Town", name: str, *, lease: float = LEASE) -> None:
        self.town = town
        self.name = name
        self.lease = lease
        self.spool = DiskSpool(town.folder / name)
        self.boots = 0
        self.boot()

    def boot(self) -> None:
        """Start a worker, in the spool that is there."""
        self.boots += 1
        town = self.town
        self.engine = InThread(self.spool, town.effect)
        identity = Identity(
            worker_id=f"{self.name}-{self.boots}",
            host=self.name,
            pid=self.boots,
            device="cpu",
            job_types=list(PRESETS),
            models={},
            version="test",
            lease_seconds=self.lease,
            spool_grace_seconds=GRACE,
        )
        ports = Ports(
            clock=town.clock,
            spool=self.spool,
            bucket=town.bucket,
            receiver=town.receiver,
            references=town.references,
            engine=self.engine,
        )
        settings = StageSettings()
        self.worker = Worker(identity, town.store, ports, HANDLERS, settings, pause=_fail, draw=lambda: 0.5)

    def round(self) -> int:
        """One turn; returns how many jobs were claimed in it."""
        now = self.town.clock.now()
        self.worker.heartbeat_tick(now)
        claimed = self.worker.claim_tick(now)
        while any(lane.tick(now) for lane in self.worker.lanes.values()):
            continue
        return claimed

    def files(self, job: Job) -> list[str]:
        """What lies in its folder of the job."""
        return sorted(path.name for path in (self.spool.root / job.id).glob("*"))


class Town:
    """What the hosts share: database, storage, receiver, the web. `plan` hears of each effect, and may raise Crash."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.plan: Effect = lambda name: None
        self.clock = FakeClock()
        self.store = open_store(url, clock=self.clock)
        self.bucket = MemoryBucket(self.effect)
        self.receiver = ScriptedReceiver(effect=self.effect)
        self.references = FakeReferences(self.effect)
        self.supervisor = Supervisor(self.store, self.clock, name="s", lease_seconds=LEASE)

    def effect(self, name: str) -> None:
        self.plan(name)

    def crash_at(self, name: str, nth: int = 1) -> None:
        """The worker dies at the nth effect of that name; then nothing happens any more."""
        left = [nth]

        def plan(found: str) -> None:
            left[0] -= found == name
            if left[0] == 0:
                self.plan = lambda name: None
                raise Crash

        self.plan = plan

    def admit(self, job_type: str, number: int = 1, *, num_images: int = 1, **config: Any) -> Job:
        payload = build_payload(
            job_type,
            "a heron at dawn",
            job_id=f"00000000-0000-4000-8000-{number:012d}",
            user_id="7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11",
            seed=7,
            num_images=num_images,
            config={"sample_steps": 12, **config},
        )
        raw = json.dumps(payload).encode()
        new = read(raw, queue="q", source="redis", now=self.clock.now(), draw_seed=lambda: 1)
        assert isinstance(new, NewJob)
        self.store.admit([new])
        return self.store.load(new.job_id)

    def pass_time(self, seconds: float, *hosts: Host) -> int:
        """So many seconds, in each of which every one of `hosts` has a turn; returns how many jobs they claimed."""
        claimed = 0
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.supervisor.tick()
            claimed += sum(host.round() for host in hosts)
        return claimed

    def until_done(self, job: Job, *hosts: Host) -> Job:
        """Let time pass until the job has ended."""
        for _ in range(ROUNDS):
            if self.store.finished(job.id):
                return self.store.load(job.id)
            self.pass_time(1, *hosts)
        raise AssertionError(f"still {self.store.load(job.id).state} after {ROUNDS} s")

    def kinds(self, job: Job) -> list[str]:
        return [row.kind for row in self.store.history(job.id)]


def _fail(failures: int) -> None:
    raise AssertionError("the database was away")
