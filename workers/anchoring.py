"""Anchoring: the supervisor's other work. What was written to the history gets its anchor, here and in the log."""

from collections.abc import Sequence

import structlog

from statemachine.anchor import Anchor, Key
from statemachine.errors import StoreAway
from statemachine.store import EventStore
from statemachine.store.anchors import MOST, Horizon, anchor_at, horizon, newest, settled, write
from workers.ports import Clock

log = structlog.get_logger()


class Anchoring:
    """A plain object with `tick()`. Any number may run at once: each window is anchored by one of them.

    Whoever sees another's anchor waits its whole time again, so that of several one anchors and the others stand by.
    """

    def __init__(
        self, store: EventStore, clock: Clock, *, name: str, seconds: float, keys: Sequence[Key] = (), most: int = MOST
    ) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._seconds = seconds
        self._key = keys[0] if keys else None
        self._most = most
        self._due = self._patient_until = clock.monotonic()
        self._seen: Anchor | None = None
        self._horizon: Horizon | None = None

    def tick(self) -> Anchor | None:
        """Write the next anchor, if it is time and the window is closed. Never raises for the database being away."""
        if self._clock.monotonic() < self._due:
            return None
        try:
            if self._horizon is None:
                self._horizon = self._look()
            anchor = None if self._horizon is None else self._write(self._horizon)
        except StoreAway as error:
            log.warning("database away", reason=str(error))
            self._horizon = None
            return None
        except Exception:  # whoever keeps the history from being anchored must not keep leases from being ended
            log.exception("not anchored")
            self._horizon = None
            self._wait()
            return None
        if anchor is not None:
            self._seen = anchor
            log.info(
                "anchored",
                anchor=anchor.line,
                up_to=anchor.up_to,
                jobs=anchor.jobs,
                events=anchor.events,
                key_id=anchor.key_id,
            )
        return anchor

    def _look(self) -> Horizon | None:
        """Where the window may end; None where there is nothing to do for a while."""
        seen = self._seen
        with self._store.read() as connection:
            last, ahead = newest(connection), horizon(connection)
            there = seen is None or anchor_at(connection, seen.sequence) == seen
        if seen is not None and not there:
            log.error("an anchor is gone", anchor=seen.line)  # nobody but us can tell, if all behind it is gone too
        others = there and seen is not None and last != seen
        self._seen = last
        if others or ahead.up_to <= (0 if last is None else last.up_to):
            self._wait()
            return None
        self._patient_until = self._clock.monotonic() + self._seconds
        return ahead

    def _write(self, ahead: Horizon) -> Anchor | None:
        with self._store.read() as connection:
            closed = settled(connection, ahead)
        if closed is False:
            self._waits_on(ahead)
            return None  # until the next tick
        self._horizon = None
        if closed is None:
            return None
        with self._store.write() as connection:
            anchor = write(
                connection, ahead.up_to, key=self._key, at=self._clock.now(), made_by=self._name, most=self._most
            )
        if anchor is None or anchor.up_to == ahead.up_to:
            self._wait()
        return anchor

    def _waits_on(self, ahead: Horizon) -> None:
        """Somebody who began before the window was looked at is writing still."""
        if self._clock.monotonic() >= self._patient_until:
            log.warning("a long transaction keeps the history from being anchored", up_to=ahead.up_to)
            self._patient_until = self._clock.monotonic() + self._seconds

    def _wait(self) -> None:
        self._due = self._clock.monotonic() + self._seconds
