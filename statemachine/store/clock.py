"""The time of events and leases: PostgreSQL's `clock_timestamp()`, or the host's beside SQLite."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine, func, select

from statemachine.errors import StoreAway
from statemachine.store.database import reading

RESYNC_SECONDS: Final = 30.0


class DatabaseClock:
    """The database's time, read from the host's monotonic clock and an offset that is measured anew now and then.

    No round trip a call, and one clock for all hosts: a host whose wall clock jumps moves no lease.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own = engine.dialect.name == "sqlite"
        self._base: datetime | None = None
        self._base_at = 0.0

    def now(self) -> datetime:
        """Aware, UTC. Raises StoreAway when PostgreSQL was never reached; keeps running when it goes away later."""
        if self._own:
            return datetime.now(UTC)
        elapsed = time.monotonic() - self._base_at
        if self._base is None or elapsed > RESYNC_SECONDS:
            try:
                self._measure()
            except StoreAway:
                if self._base is None:
                    raise
                self._base += timedelta(seconds=elapsed)
                self._base_at += elapsed
            elapsed = time.monotonic() - self._base_at
        assert self._base is not None
        return self._base + timedelta(seconds=elapsed)

    def _measure(self) -> None:
        with reading(self._engine) as connection:
            before = time.monotonic()
            base = connection.execute(select(func.clock_timestamp())).scalar_one()
            after = time.monotonic()
        self._base, self._base_at = base.astimezone(UTC), (before + after) / 2
