"""The faults. Each is a generator: it does one thing, and yields the seconds until the next."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.queues.servers import Crowd, Postgres
from benchmarks.queues.systems import WORKERS, System


@dataclass(frozen=True)
class Target:
    """What a fault may lay hands on."""

    server: Postgres
    database: str
    system: System


@dataclass(frozen=True)
class Fault:
    """`seconds` is about how long it lasts, so that the load can be laid around it."""

    what: str
    seconds: float
    strike: Callable[[Target], Iterator[float]]


def _restart(target: Target) -> Iterator[float]:
    target.server.stop_at_once()
    yield 3.0
    target.server.start()


def _end_backends(target: Target) -> Iterator[float]:
    for _ in range(8):
        target.server.end_backends(target.database)
        yield 1.5


def _crowd(target: Target) -> Iterator[float]:
    # The service's own pools would keep what they have, and never notice.
    target.server.end_backends(target.database)
    with Crowd(target.server) as crowd:
        for _ in range(120):
            crowd.grow()
            yield 0.1


def _crash(target: Target) -> Iterator[float]:
    target.system.kill(0)
    yield 0.0


def _crashes(target: Target) -> Iterator[float]:
    for kill in range(12):
        target.system.kill(kill % WORKERS)
        yield 5.0


FAULTS: Final[Mapping[str, Fault]] = {
    "restart": Fault("database stopped at once, started 3 s later", 5.0, _restart),
    "backends": Fault("all backends of the service ended, eight times in 12 s", 12.0, _end_backends),
    "pool": Fault("all connections ended, and taken by another client for 12 s", 12.0, _crowd),
    "crash": Fault("SIGKILL for one of two workers", 0.0, _crash),
    "kills": Fault("SIGKILL for the workers by turns, every 5 s for a minute", 60.0, _crashes),
}
