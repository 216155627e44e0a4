"""The doors of the house: real things where one thread can have them, fakes elsewhere, and each effect numbered."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from statemachine.store import EventStore
from statemachine.store.database import open_engine, reading, transaction
from tests.fakes import (
    Effect,
    FakeClock,
    FakeReferences,
    MemoryBucket,
    ScriptedAnswer,
    ScriptedReceiver,
    around,
    ready,
)
from tests.world.kinds import DEADLY, HUGE
from tests.world.watch import Watch
from workers.engines.faults import Cancelled, Paused, failed
from workers.engines.messages import (
    AssetWritten,
    CheckpointWritten,
    Enhance,
    Failed,
    FromEngine,
    Generate,
    Generated,
    Progress,
    Ready,
    Started,
)
from workers.engines.null import NullEngine
from workers.errors import StageEnds
from workers.ports import EngineDied, ReferencePicture
from workers.spool import DiskSpool, Spool, sha256

_JOB: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NoWakeUps:
    """Everybody looks each round anyway."""

    def notify(self) -> None:
        """Nobody sleeps."""

    def wait(self, seconds: float) -> bool:
        """Never asked."""
        raise AssertionError(f"nobody waits {seconds} s in one thread")

    def close(self) -> None:
        """Nothing is open."""


@lru_cache(maxsize=4)
def engine_at(path: Path) -> Engine:
    """One a file: worlds that follow each other at the same place compile each statement once, a third of their time.

    What a crash takes away are its connections: `dispose` closes them.
    """
    return open_engine(f"sqlite:///{path}")


class HookedStore(EventStore):
    """The real store; beginning, committing and having committed are effects."""

    def __init__(self, path: Path, clock: FakeClock, effect: Effect) -> None:
        super().__init__(engine_at(path), clock=clock, wakeups=NoWakeUps())
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
    """The real spool; what it writes and removes are effects."""

    def __init__(self, root: Path, effect: Effect) -> None:
        super().__init__(root)
        self._effect = effect

    def write(self, job_id: str, name: str, data: bytes) -> str:
        with around(self._effect, "spool.write"):
            return super().write(job_id, name, data)

    def discard(self, job_id: str, name: str) -> None:
        with around(self._effect, "spool.discard"):
            super().discard(job_id, name)

    def remove(self, job_id: str) -> None:
        with around(self._effect, "spool.remove"):
            super().remove(job_id)

    def set_aside(self, job_id: str) -> None:
        with around(self._effect, "spool.set_aside"):
            super().set_aside(job_id)


class RememberingBucket(MemoryBucket):
    """Remembers the digests of all that was ever put under a key."""

    def __init__(self, effect: Effect, watch: Watch) -> None:
        super().__init__(effect)
        self._watch = watch
        self.contents: dict[str, set[str]] = {}

    def put(self, bucket: str, key: str, data: bytes, *, content_type: str, seconds: float) -> None:
        self._watch.uploads(_JOB.findall(key)[-1], key)
        try:
            super().put(bucket, key, data, content_type=content_type, seconds=seconds)
        finally:
            if (bucket, key) in self.objects:  # it is there, whatever its sender came to hear
                self.contents.setdefault(f"{bucket}/{key}", set()).add(sha256(self.objects[bucket, key]))


class WatchedReceiver(ScriptedReceiver):
    """The watch sees each callback."""

    def __init__(self, effect: Effect, watch: Watch) -> None:
        super().__init__(effect=effect)
        self._watch = watch

    def post(self, callback_id: str, body: bytes, *, seconds: float) -> ScriptedAnswer:
        self._watch.tells(_JOB.findall(callback_id)[0], callback_id)
        return super().post(callback_id, body, seconds=seconds)


class WatchedReferences(FakeReferences):
    """The watch sees each fetch. A URL says nothing of its job: there is one in the world."""

    def __init__(self, effect: Effect, watch: Watch, ids: Callable[[], list[str]]) -> None:
        super().__init__(effect)
        self._watch = watch
        self._ids = ids

    def fetch(self, urls: Sequence[str], *, seconds: float) -> list[ReferencePicture | StageEnds]:
        for job_id in self._ids():
            self._watch.fetches(job_id)
        return super().fetch(urls, seconds=seconds)


class HookedEngine:
    """`workers.ports.Engine` over the null engine: each of its messages is an effect. It keeps a checkpoint a step."""

    def __init__(self, spool: Spool, effect: Effect, watch: Watch) -> None:
        self._watch = watch
        self._engine = NullEngine(checkpoint_every=1)
        self._spool = spool
        self._effect = effect
        self._stopped: dict[str, Cancelled] = {}

    def ready(self) -> Ready:
        return ready("null")

    def run(self, request: Generate | Enhance) -> Iterator[FromEngine]:
        if isinstance(request, Enhance):
            self._watch.enhances(request)
        else:
            self._watch.draws(request)
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
            if isinstance(request, Generate) and isinstance(message, Progress):
                self._watch.steps(request, message.step)
            self._effect(f"engine.{type(message).__name__}")
            stop = self._stopped.get(request.request_id)
            if isinstance(stop, Paused) and isinstance(message, CheckpointWritten):
                yield message
            if stop is not None and not (isinstance(stop, Paused) and isinstance(message, _ENDS_SOON)):
                yield failed(request.request_id, stop)
                return
            yield message

    def cancel(self, request_id: str, *, keep: bool = False) -> None:
        """Heard before the next message; with `keep` after the next checkpoint, if one is still to come."""
        if keep:
            self._stopped.setdefault(request_id, Paused())
        else:
            self._stopped[request_id] = Cancelled()


_ENDS_SOON: Final = (Progress, AssetWritten, Generated)
"""What a request may still say that is to be kept: its checkpoint comes next, or its steps are over."""
