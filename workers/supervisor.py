"""The supervisor: ends leases that nobody renews, and those of a worker whose death was seen.

Any number may run at once; each of their writes is fenced.
"""

from datetime import datetime
from typing import Final

import msgspec
import structlog

from statemachine import decisions
from statemachine.errors import Conflict, StoreAway
from statemachine.store import EventStore
from statemachine.store.claims import Lease
from workers.ports import Clock

log = structlog.get_logger()

STALLED: Final = 1 / 3
"""A database that takes this share of a lease to answer may have kept renewals waiting as long."""


class _Seen(msgspec.Struct):
    renewed_at: datetime | None
    since: float


class Supervisor:
    """A plain object with `tick(now)`.

    It expires only a lease that its own monotonic clock saw unrenewed for a whole lease time: no wall clock that
    jumps, and no database that was away for a while, can make it take a job from a worker that lives.
    """

    def __init__(self, store: EventStore, clock: Clock, *, name: str, lease_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._lease_seconds = lease_seconds
        self._seen: dict[tuple[str, int], _Seen] = {}

    def tick(self) -> int:
        """Look at every lease once; return how many were ended. Never raises for the database being away."""
        asked = self._clock.monotonic()
        try:
            leases = self._store.leases()
        except StoreAway as error:
            log.warning("database away", reason=str(error))
            self._seen.clear()  # it comes back with old leases: everybody gets a whole lease time to renew
            return 0
        monotonic = self._clock.monotonic()
        if monotonic - asked > self._lease_seconds * STALLED:
            log.warning("database stalled", seconds=round(monotonic - asked, 3))
            self._seen.clear()  # so it did for those who wanted to renew
        self._seen = {(lease.job_id, lease.token): self._sighting(lease, monotonic) for lease in leases}
        return sum(self._expire(lease) for lease in leases if self._over(lease, monotonic))

    def _sighting(self, lease: Lease, monotonic: float) -> _Seen:
        known = self._seen.get((lease.job_id, lease.token))
        if known is None or known.renewed_at != lease.renewed_at:
            return _Seen(lease.renewed_at, monotonic)
        return known

    def _over(self, lease: Lease, monotonic: float) -> bool:
        """Nobody's wall clock is asked: one that was set back would keep the leases of the dead alive."""
        length = self._lease_seconds
        if lease.expires_at is not None and lease.renewed_at is not None:
            length = max(length, (lease.expires_at - lease.renewed_at).total_seconds())  # its worker's own setting
        return monotonic - self._seen[lease.job_id, lease.token].since >= length

    def worker_died(self, worker_id: str, how: str) -> int:
        """Hand back what a worker held whose end was seen, without waiting for its leases to run out.

        Return how many leases were ended. Raises StoreAway.
        """
        held = [lease for lease in self._store.leases() if lease.worker_id == worker_id]
        return sum(self._end(lease, "worker died", f"{worker_id}: {how}") for lease in held)

    def _expire(self, lease: Lease) -> int:
        detail = f"{lease.worker_id} did not renew its lease for {self._lease_seconds:g} s"
        try:
            return self._end(lease, "lease expired", detail)
        except StoreAway as error:
            log.info("lease not ended", job=lease.job_id, reason=str(error))
            return 0

    def _end(self, lease: Lease, reason: str, detail: str) -> int:
        """The job goes back to wait its turn, or is poison and fails."""
        try:
            job = self._store.load(lease.job_id)
            if job.token != lease.token or job.worker_id is None:
                return 0
            events = decisions.interrupt(job, reason=reason, by=self._name, now=self._store.now(), detail=detail)
            if self._store.expire(lease, job, events) is None:
                return 0  # renewed in the meantime
        except Conflict as error:
            log.info("lease not ended", job=lease.job_id, reason=str(error))  # its worker lives, or another was first
            return 0
        except StoreAway:
            raise
        except Exception:  # one job that cannot be read must not keep the others from being resumed
            log.exception("lease not ended", job=lease.job_id)
            return 0
        log.warning("lease ended", job=lease.job_id, token=lease.token, worker=lease.worker_id, reason=reason)
        return 1
