"""The event store: one door to the database for everyone who works on jobs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, select

from statemachine.admission import Admission, DeadLetter, NewJob
from statemachine.errors import Conflict
from statemachine.events import Event
from statemachine.job import Job, Stored
from statemachine.store import claims, spools
from statemachine.store.admit import admit
from statemachine.store.affinity import Affinity
from statemachine.store.append import Sealed, append, prepare
from statemachine.store.archived import not_here
from statemachine.store.claims import Claimant, Lease
from statemachine.store.clock import DatabaseClock
from statemachine.store.codec import replay, stored
from statemachine.store.database import open_engine, reading, transaction
from statemachine.store.projections import upsert
from statemachine.store.rebuild import Rebuilt, rebuild
from statemachine.store.schema import Row, job_events, job_payloads, jobs, workers
from statemachine.store.schema_version import check as check_schema
from statemachine.store.spools import Folders
from statemachine.store.wakeups import WakeUps, open_wakeups

PASS_OVER: Final = timedelta(minutes=1)
"""For how long a job whose history cannot be read is left out of claims before it is looked at again."""


class StoreClock(Protocol):
    """The time that goes into events and leases."""

    def now(self) -> datetime:
        """Aware, UTC."""


class EventStore:
    """Append, claim, renew and read. Every method is one transaction; errors are those of `statemachine.errors`."""

    def __init__(self, engine: Engine, *, clock: StoreClock, wakeups: WakeUps) -> None:
        self.engine = engine
        self.clock = clock
        self.wakeups = wakeups
        self.passed_over: dict[str, str] = {}  # jobs that no claim can take, and why
        self._passed_over_at = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """The database's time where it has one of its own, the host's otherwise."""
        return self.clock.now()

    def read(self) -> AbstractContextManager[Connection]:
        """A read-only connection on one snapshot."""
        return reading(self.engine)

    def write(self) -> AbstractContextManager[Connection]:
        """A write transaction. What is written into the history goes through `append_group` all the same."""
        return transaction(self.engine)

    def admit(self, arrivals: Sequence[NewJob | DeadLetter], *, at: datetime | None = None) -> list[Admission]:
        """Make jobs or dead letters of `arrivals`, all or none; wake the workers."""
        moment = at or self.now()
        with self.write() as connection:
            verdicts = admit(connection, arrivals, at=moment)
        self.wakeups.notify()
        return verdicts

    def append_group(self, group: Sequence[Sealed]) -> list[Job | Conflict]:
        """Write the appends of many jobs in one transaction. See `append.append`."""
        with self.write() as connection:
            results = append(connection, list(group))
        if any(isinstance(job, Job) and (job.worker_id is None or job.cancel_pending) for job in results):
            self.wakeups.notify()  # something became claimable, or ended, or its holder is to stop
        return results

    def append(
        self,
        job: Job,
        events: list[Event],
        *,
        worker_id: str | None = None,
        personal: dict[str, Any] | None = None,
    ) -> Job:
        """Write `events` behind `job`. Raises StaleJob or FencedOut; see `Writer` for many at once."""
        sealed = prepare(job, events, worker_id=worker_id, at=self.now(), personal=personal)
        result = self.append_group([sealed])[0]
        if isinstance(result, Conflict):
            raise result
        return result

    def claim(
        self,
        who: Claimant,
        *,
        drawing: int = 0,
        telling: int = 0,
        expected: bool = False,
        affinity: Affinity | None = None,
    ) -> list[Job]:
        """Lease due jobs to `who`. See `claims.claim`. `expected`: something rang, so it is not asked first."""
        now = self.now()
        if not timedelta(0) <= now - self._passed_over_at <= PASS_OVER:  # perhaps somebody has mended them
            self.passed_over, self._passed_over_at = {}, now
        if not expected and self.engine.dialect.name == "sqlite":
            with self.read() as connection:  # an idle claimant must not take SQLite's one write lock
                if not claims.any_due(connection, who, now=now, passed_over=self.passed_over):
                    return []
        with self.write() as connection:
            return claims.claim(
                connection,
                who,
                drawing=drawing,
                telling=telling,
                now=now,
                passed_over=self.passed_over,
                affinity=affinity,
            )

    def expire(self, lease: Lease, job: Job, events: list[Event]) -> Job | None:
        """Write `events`, which end the lease, unless it was renewed since it was seen: then nothing, and None."""
        sealed = prepare(job, events, worker_id=None, at=self.now())
        with self.write() as connection:
            result = append(connection, [sealed])[0] if claims.free(connection, lease) else None
            if isinstance(result, Conflict):
                raise result  # and the lease stands as it stood: the transaction is undone
        self.wakeups.notify()
        return result

    def renew(self, worker_id: str, held: Mapping[str, tuple[int, str | None]], *, seconds: float) -> set[str]:
        """Extend leases to `seconds` from now; return the ids of those that are still this worker's."""
        now = self.now()
        with self.write() as connection:
            return claims.renew(connection, worker_id, held, until=now + timedelta(seconds=seconds), now=now)

    def leases(self) -> list[Lease]:
        """Every lease that somebody holds."""
        with self.read() as connection:
            return claims.held_by_anyone(connection)

    def folders(self, spool: str, job_ids: Sequence[str]) -> Folders:
        """Sort out the folders of a spool. See `spools.look`."""
        with self.read() as connection:
            return spools.look(connection, spool, job_ids)

    @contextmanager
    def claimed_by_nobody(self, spool: str, job_ids: Sequence[str]) -> Iterator[Folders]:
        """As `folders`, and within the context none of the needless ones is claimed."""
        with self.write() as connection:
            yield spools.look(connection, spool, job_ids, lock=True)

    def see_worker(self, row: Row) -> None:
        """Write the worker's own row: that it lives, what it can do, how it is."""
        with self.write() as connection:
            upsert(connection, workers, [row])

    def load(self, job_id: str) -> Job:
        """The job as its history says. Raises UnknownJob."""
        return replay(job_id, self.history(job_id))

    def history(self, job_id: str) -> list[Stored]:
        """The job's events, oldest first. Raises UnknownJob."""
        statement = select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.version)
        with self.read() as connection:
            rows = [stored(row) for row in connection.execute(statement)]
            if not rows:
                raise not_here(connection, job_id)
        return rows

    def content(self, job_id: str) -> dict[str, Any]:
        """The job's personal content; empty when it was erased or never readable."""
        with self.read() as connection:
            text = connection.scalar(select(job_payloads.c.content).where(job_payloads.c.job_id == job_id))
        return dict(json.loads(text)) if text else {}

    def finished(self, job_id: str) -> bool:
        """True where the job is known and has ended."""
        with self.read() as connection:
            row = connection.execute(select(jobs.c.finished_at).where(jobs.c.id == job_id)).one_or_none()
        return row is not None and row.finished_at is not None

    def rebuild(self, job_ids: Sequence[str] | None = None) -> Iterator[Rebuilt]:
        """Make the projections again from the events alone, in batches; yield what changed."""
        return rebuild(self.engine, job_ids)

    def check_schema(self) -> None:
        """Raise SchemaMismatch unless the tables are of this version."""
        with self.read() as connection:
            check_schema(connection)

    def close(self) -> None:
        """Give the connections back and stop listening."""
        self.wakeups.close()
        self.engine.dispose()


def open_store(url: str, *, clock: StoreClock | None = None) -> EventStore:
    """Open the database at a SQLAlchemy URL. Raises ValueError for a URL that is neither SQLite nor PostgreSQL."""
    engine = open_engine(url)
    return EventStore(engine, clock=clock or DatabaseClock(engine), wakeups=open_wakeups(engine))
