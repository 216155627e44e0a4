"""The house: every real object of the service over fakes of its ports, in one thread, on a real SQLite file."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, select

from statemachine.errors import StoreAway
from statemachine.store import EventStore
from statemachine.store.database import open_engine, reading, transaction
from statemachine.store.schema import jobs
from tests.fakes import Crash, Effect, FakeClock, FakeReferences, MemoryBucket, ScriptedReceiver, around
from tests.world.kinds import DEADLY, GONE, HUGE, LATE
from tests.world.redis import FakeLists, Server
from workers.engines.faults import Cancelled, Paused, failed
from workers.engines.messages import Enhance, Failed, FromEngine, Generate, Ready, Started
from workers.engines.null import NullEngine
from workers.errors import GiveUp, TryAgain
from workers.ingress import Ingress
from workers.ports import EngineDied
from workers.presets import PRESETS, QUEUES
from workers.spool import DiskSpool, Spool, sha256
from workers.stages import HANDLERS
from workers.supervisor import Supervisor
from workers.tools import StageSettings
from workers.worker import Identity, Ports, Worker

LEASE: float = 10.0
ROUNDS = 200
"""More rounds than any job needs: past them, something loops."""


class NoWakeUps:
    """Everybody looks each round anyway."""

    def notify(self) -> None:
        """Nobody sleeps."""

    def wait(self, seconds: float) -> bool:
        """Never asked."""
        raise AssertionError(f"nobody waits {seconds} s in one thread")

    def close(self) -> None:
        """Nothing is open."""


class HookedStore(EventStore):
    """The real store; beginning, committing and having committed are effects."""

    def __init__(self, path: Path, clock: FakeClock, effect: Effect) -> None:
        super().__init__(open_engine(f"sqlite:///{path}"), clock=clock, wakeups=NoWakeUps())
        self._effect = effect

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._effect("db.begin")
        with transaction(self.engine) as connection:
            yield connection
            self._effect("db.commit:before")
        self._effect("db.commit:after")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._effect("db.read")
        with reading(self.engine) as connection:
            yield connection


class HookedSpool(DiskSpool):
    """The real spool; its writes are effects."""

    def __init__(self, root: Path, effect: Effect) -> None:
        super().__init__(root)
        self._effect = effect

    def write(self, job_id: str, name: str, data: bytes) -> str:
        with around(self._effect, "spool.write"):
            return super().write(job_id, name, data)

    def remove(self, job_id: str) -> None:
        with around(self._effect, "spool.remove"):
            super().remove(job_id)


class RememberingBucket(MemoryBucket):
    """Remembers the digests of all that was ever put under a key."""

    def __init__(self, effect: Effect) -> None:
        super().__init__(effect)
        self.contents: dict[str, set[str]] = {}

    def put(self, bucket: str, key: str, data: bytes, *, content_type: str, seconds: float) -> None:
        super().put(bucket, key, data, content_type=content_type, seconds=seconds)
        self.contents.setdefault(f"{bucket}/{key}", set()).add(sha256(data))


class HookedEngine:
    """`workers.ports.Engine` over the null engine: each of its messages is an effect."""

    def __init__(self, spool: Spool, effect: Effect) -> None:
        self._engine = NullEngine()
        self._spool = spool
        self._effect = effect
        self._cancelled: dict[str, Cancelled] = {}

    def ready(self) -> Ready:
        return Ready(
            pid=1,
            engine="null",
            device="cpu",
            device_name="none",
            threads=1,
            versions={},
            models={},
            families=["sdxl", "wan"],
            can_enhance=True,
        )

    def run(self, request: Generate | Enhance) -> Iterator[FromEngine]:
        self._effect("engine.run")
        yield Started(request_id=request.request_id)
        if request.prompt == DEADLY:
            raise EngineDied("engine crashed", "SIGSEGV", started=True)
        if request.prompt == HUGE:
            yield Failed(
                request_id=request.request_id, error_class="device_memory", error_type="OutOfMemory", message="2 GiB"
            )
            return
        for message in self._engine.run(request, self._spool):
            self._effect(f"engine.{type(message).__name__}")
            if request.request_id in self._cancelled:
                yield failed(request.request_id, self._cancelled[request.request_id])
                return
            yield message

    def cancel(self, request_id: str, *, keep: bool = False) -> None:
        """Heard before the next message."""
        self._cancelled[request_id] = Paused() if keep else Cancelled()


class World:
    """What survives a crash, and the processes that do not. `plan(number, name)` is asked before each effect."""

    def __init__(self, folder: Path, empty_sqlite: Path, plan: Callable[[int, str], None] | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self.count = 0
        self.trace: list[str] = []
        self.boots = 0
        self.quiet = 0
        self.clock = FakeClock()
        self.redis = Server(self.clock)
        self.path = folder / "world.sqlite"
        shutil.copy(empty_sqlite, self.path)
        self.bucket = RememberingBucket(self.effect)
        self.receiver = ScriptedReceiver(effect=self.effect)
        self.references = FakeReferences(self.effect)
        self.references.ends = {LATE: [TryAgain("host answered 503")], GONE: [GiveUp("host answered 404")] * ROUNDS}
        self.processes = Processes(self)
        self.others: list[Processes] = []

    def effect(self, name: str) -> None:
        """Number the effect; the plan may raise, or let time pass."""
        if self.quiet:
            return
        self.count += 1
        self.trace.append(name)
        if self.plan is not None:
            self.plan(self.count, name)

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

    def run(self) -> None:
        """Until every job has ended; a crash is followed by a new start. Raises AssertionError when it never ends."""
        for _ in range(ROUNDS):
            try:
                if not self.processes.booted:
                    self.processes.boot()
                self.processes.round()
                for others in self.others:
                    others.round()
                if self.settled():
                    return
            except Crash:
                self.processes.die()
                self.processes = Processes(self)
        raise AssertionError(f"not settled after {ROUNDS} rounds: {self.states()}")

    def settled(self) -> bool:
        """Lists are empty and all jobs have ended."""
        return self.redis.empty() and all(state in ("completed", "failed", "cancelled") for state in self.states())

    def states(self) -> list[str]:
        """The states of all jobs."""
        with reading(self.processes.store.engine) as connection:
            return list(connection.scalars(select(jobs.c.state)))

    @property
    def store(self) -> EventStore:
        """The store of the living processes."""
        return self.processes.store


class Processes:
    """Ingress, worker with its engine, supervisor: what a crash takes away."""

    def __init__(self, world: World, effect: Effect | None = None) -> None:
        self._world = world
        hook = effect or world.effect
        self.store = HookedStore(world.path, world.clock, hook)
        self.spool = HookedSpool(world.folder / "spool", hook)
        self._hook = hook
        self.booted = False

    def boot(self) -> None:
        """Start all of them, under new names."""
        world = self._world
        world.boots += 1
        name = f"w{world.boots}"
        identity = Identity(
            worker_id=name,
            host="host",
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
            engine=HookedEngine(self.spool, self._hook),
        )
        settings = StageSettings(on_missing_reference="generate_without", worker_version="test")
        self.worker = Worker(identity, self.store, ports, HANDLERS, settings, pause=_patient, draw=lambda: 0.5)
        self.ingresses = [
            Ingress(
                FakeLists(world.redis, queue, name, self._hook),
                self.store,
                now=world.clock.now,
                draw=lambda: 0.5,
                draw_seed=lambda: 4711,
            )
            for queue in QUEUES
        ]
        self.supervisor = Supervisor(self.store, world.clock, name=f"s{world.boots}", lease_seconds=LEASE)
        with suppress(StoreAway):
            self.worker.sweep_spool()
        self.booted = True

    def round(self) -> None:
        """Everybody gets a turn, then a second passes. While the database is away each tries again, as threads do."""
        now = self._world.clock.now()
        for ingress in self.ingresses:
            ingress.tick(now)
        for step in (
            self.supervisor.tick,
            lambda: self.worker.heartbeat_tick(now),
            lambda: self.worker.claim_tick(now),
        ):
            with suppress(StoreAway):
                step()
        while any(lane.tick(now) for lane in self.worker.lanes.values()):
            continue
        self._world.clock.advance(1.0)

    def die(self) -> None:
        """Take the process's connections with it."""
        self.store.engine.dispose()


def _patient(failures: int) -> None:
    if failures > 10:
        raise AssertionError(f"the database was away {failures} times in a row")
