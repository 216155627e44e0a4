"""Group commit: the appends of many threads in one transaction, without a thread or a timer of its own."""

import threading
from collections.abc import Callable
from typing import Any

from statemachine.errors import Conflict, StoreAway
from statemachine.events import Event
from statemachine.job import Job
from statemachine.store.append import Sealed, prepare
from statemachine.store.store import EventStore


class _Ticket:
    __slots__ = ("outcome", "sealed")

    def __init__(self, sealed: Sealed) -> None:
        self.sealed = sealed
        self.outcome: Job | Exception | None = None


class Writer:
    """One a process. Whoever comes while a commit is under way goes with the next one, together with all others.

    The first of those who wait commits for everybody, so a lonely append costs no hand-over and no linger. While
    the database is away, `append` waits (`pause` is called with the number of failures so far) and writes the same
    sealed bytes again: a commit whose acknowledgement was lost is then recognised and not written twice.
    """

    def __init__(self, store: EventStore, *, pause: Callable[[int], None], limit: int = 200) -> None:
        self.store = store
        self._pause = pause
        self._limit = limit
        self._waiting: list[_Ticket] = []
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()

    def append(
        self,
        job: Job,
        events: list[Event],
        *,
        worker_id: str | None,
        personal: dict[str, Any] | None = None,
    ) -> Job:
        """Write `events` behind `job` and return it as it then stands.

        Raises StaleJob, FencedOut, IllegalEvent; StoreAway only when `pause` raises it (the process is stopping).
        """
        ticket = _Ticket(prepare(job, events, worker_id=worker_id, at=self.store.now(), personal=personal))
        with self._queue_lock:
            self._waiting.append(ticket)
        failures = 0
        while ticket.outcome is None:
            with self._commit_lock:
                if ticket.outcome is None:
                    self.tick()
            if isinstance(ticket.outcome, StoreAway):
                ticket.outcome = None
                failures += 1
                self._pause(failures)
                with self._queue_lock:
                    self._waiting.append(ticket)
        if isinstance(ticket.outcome, Exception):
            raise ticket.outcome
        return ticket.outcome

    def tick(self) -> int:
        """Commit what waits, one append a job; return how many appends got their answer."""
        with self._queue_lock:
            group: dict[str, _Ticket] = {}
            later: list[_Ticket] = []
            for ticket in self._waiting:
                job_id = ticket.sealed.before.id
                if job_id in group or len(group) >= self._limit:
                    later.append(ticket)
                else:
                    group[job_id] = ticket
            self._waiting = later
        tickets = list(group.values())
        if not tickets:
            return 0
        outcomes = self._commit(tickets)
        if len(tickets) > 1 and any(_erred(outcome) for outcome in outcomes):
            # One bad row must harm no neighbour: each again, alone, so that only the guilty one hears of it.
            outcomes = [self._commit([ticket])[0] for ticket in tickets]
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            ticket.outcome = outcome
        return len(tickets)

    def _commit(self, tickets: list[_Ticket]) -> list[Job | Exception]:
        """Write `tickets` in one transaction and return what each is to hear."""
        try:
            return [*self.store.append_group([ticket.sealed for ticket in tickets])]
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers whose rows it was are told
            return [error] * len(tickets)


def _erred(outcome: Job | Exception) -> bool:
    """The transaction failed for a reason of its contents, not of the network or of another writer."""
    return isinstance(outcome, Exception) and not isinstance(outcome, Conflict | StoreAway)
