"""How long something takes, and how much of that the database."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Engine, event


class Times(msgspec.Struct, frozen=True):
    """Seconds of one call each: as a whole, and in the database from a statement's sending to its answer.

    SQLite finds rows as they are asked for, so that `database` is but a part of its time: there the whole one counts.
    """

    whole: list[float]
    database: list[float]


class Stopwatch:
    """Adds up what an engine's statements take while it is on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._begun = 0.0
        self.seconds = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """From here on."""
        event.listen(self._engine, "before_cursor_execute", self._begins)
        event.listen(self._engine, "after_cursor_execute", self._ends)
        try:
            yield
        finally:
            event.remove(self._engine, "before_cursor_execute", self._begins)
            event.remove(self._engine, "after_cursor_execute", self._ends)

    def _begins(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def _ends(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._begun


def measure(engine: Engine, calls: Sequence[Callable[[], object]]) -> Times:
    """Time each call, one after the other. The first of them is made once before: what it warms up is not its own."""
    calls[0]()
    whole, database = list[float](), list[float]()
    watch = Stopwatch(engine)
    with watch.on():
        for call in calls:
            watch.seconds = 0.0
            begun = time.perf_counter()
            call()
            whole.append(time.perf_counter() - begun)
            database.append(watch.seconds)
    return Times(whole, database)


def percentile(seconds: Sequence[float], share: float) -> float:
    """The smallest time that this share of them does not exceed."""
    return sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
