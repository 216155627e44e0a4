"""Rolling up: a work of the supervisor. Days that are over are added up, so that reports need not count their jobs."""

from datetime import datetime
from typing import Final

import structlog

from statemachine.errors import StoreAway
from statemachine.store import EventStore
from statemachine.store.rolling import roll
from workers.ports import Clock

log = structlog.get_logger()

REST_SECONDS: Final = 600.0
"""How long after the last day that is due it is looked again."""


class Rolling:
    """A plain object with `tick()`. Any number may run at once: each day is rolled up by one of them."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._due = clock.monotonic()

    def tick(self) -> datetime | None:
        """Roll up one day, if one is due: leases are looked at in between. Never raises for the database being away."""
        if self._clock.monotonic() < self._due:
            return None
        try:
            day = next(roll(self._store.engine, self._clock.now()), None)
        except StoreAway as error:
            log.warning("database away", reason=str(error))
            return None
        except Exception:  # what keeps days from being rolled up must not keep leases from being ended
            log.exception("no day rolled up")
            day = None
        if day is None:
            self._due = self._clock.monotonic() + REST_SECONDS
        else:
            log.info("day rolled up", day=f"{day:%Y-%m-%d}")
        return day
