"""Where worlds stand, one after the other: a folder that forgets, an empty database, and an ear for surprises."""

import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from ourvidz.migrate import upgrade
from tests.world.faults import FAULTS, Plan
from tests.world.house import World
from tests.world.invariants import Calm, check, check_same
from tests.world.kinds import KINDS

RAM: Final = Path("/dev/shm")
"""The world's fsyncs protect nobody."""
UNEXPECTED: Final = {"unexpected", "attempt lost", "history refused", "lease not ended", "ingress.refused_by_store"}
"""What the service logs when it meets what nobody has thought of. It lives on; the world does not forgive it."""

Faults = tuple[tuple[str, int], ...]


class Violated(AssertionError):
    """An invariant did not hold; the sentence says which."""


class Drawn(NamedTuple):
    """One world, and all that has to be known to have it again."""

    seed: int
    kind: str
    faults: Faults

    def __str__(self) -> str:
        return f"{self.seed}:{self.kind}:" + ",".join(f"{name}@{point}" for name, point in self.faults)

    @classmethod
    def parse(cls, text: str) -> "Drawn":
        """From its own words. Raises ValueError."""
        seed, kind, listed = text.split(":")
        faults = [each.rpartition("@") for each in listed.split(",")]
        unknown = [name for name, _, _ in faults if name not in FAULTS] + [kind][: kind not in KINDS]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}")
        return cls(int(seed), kind, tuple((name, int(point)) for name, _, point in faults))


class Ground:
    """One world at a time; what they have in common is done once."""

    def __init__(self, folder: Path, empty_sqlite: Path) -> None:
        self.folder = folder
        self._empty = empty_sqlite
        self._calm: dict[str, Calm] = {}
        self._surprises: list[str] = []

    def calm(self, kind: str) -> Calm:
        """How a job of this kind lives and ends when nothing is done to it."""
        if kind not in self._calm:
            with self.world(kind, 0) as world:
                world.run()
                check(world)
                self._calm[kind] = Calm.of(world)
        return self._calm[kind]

    def live(self, drawn: Drawn) -> None:
        """Have a world live through it. Raises Violated."""
        calm = self.calm(drawn.kind)
        with self.world(drawn.kind, drawn.seed) as world:
            self.live_through(world, drawn.faults, calm)

    def effects(self, kind: str, faults: Faults) -> int:
        """How many effects a life with these faults has. Raises Violated."""
        calm = self.calm(kind)
        with self.world(kind, 0) as world:
            self.live_through(world, faults, calm)
            return world.count

    def live_through(self, world: World, faults: Faults, calm: Calm) -> None:
        """Have `world` live through `faults`. Raises Violated where that shows."""
        world.plan = Plan(world, faults)
        try:
            world.run()
            check(world)
            check_same(world, calm)
            assert not self._surprises, f"the service was surprised: {self._surprises}"
        except Exception as error:  # whatever it is, say where
            raise Violated(f"{error}" if isinstance(error, AssertionError) else repr(error)) from error

    def hear(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        """A processor of structlog: what the service says while it dies a thousand times is nobody's to read."""
        if event["event"] in UNEXPECTED and method != "info":
            self._surprises.append(f"{event['event']}: {event.get('error') or event.get('reason')}")
        raise structlog.DropEvent

    @contextmanager
    def world(self, kind: str, seed: int) -> Iterator[World]:
        """A new one, in the place of the one before, with one payload of `kind` pushed. `seed`: of its dice."""
        self._surprises.clear()
        folder = self.folder / "world"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        world = World(folder, self._empty, seed)
        world.push(*KINDS[kind])
        try:
            yield world
        finally:
            world.processes.die()


@contextmanager
def ground(within: Path | None = None) -> Iterator[Ground]:
    """Prepare one, and leave nothing of it."""
    before = structlog.get_config()
    folder = Path(tempfile.mkdtemp(prefix="ourvidz-world-", dir=within or (RAM if RAM.is_dir() else None)))
    try:
        empty = folder / "empty.sqlite"
        upgrade(f"sqlite:///{empty}")
        prepared = Ground(folder, empty)
        structlog.configure(processors=[prepared.hear])
        yield prepared
    finally:
        structlog.configure(**before)
        shutil.rmtree(folder)
