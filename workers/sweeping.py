"""Sweeping: a host's spool keeps what somebody goes on from, and nothing else.

What remains otherwise: folders of jobs that ended while their worker was dying, or that another host has taken up.
Folders of jobs that the database does not know stay for a week. It may be the database that is wrong: restored from a
backup, or another one that somebody tried a worker on. Hours of a device may be in them, and the right one comes back.
"""

from typing import Final

import structlog

from statemachine.store import EventStore
from workers.held import Held
from workers.spool import DiskSpool

UNKNOWN_SECONDS: Final = 7 * 86_400.0
"""For so long the folder of a job that is not in the database stays untouched before it is removed."""

log = structlog.get_logger()


class Sweeping:
    """Cleans the spool that it shares with the other workers of this host. One thread at a time."""

    def __init__(self, store: EventStore, spool: DiskSpool, held: Held, *, name: str) -> None:
        self._store = store
        self._spool = spool
        self._held = held
        self._name = name

    def tick(self) -> int:
        """Remove what nobody needs; return how many folders. Costs one query, and none where the spool is empty."""
        # A job that was taken from us may be on our device still: its folder goes when we have let go of it.
        held = {job.id for job in self._held.jobs()}
        folders = [job_id for job_id in self._spool.jobs() if job_id not in held]
        swept = self._set_aside(folders) if folders else []
        self._spool.clear()
        if swept:
            log.info("spool swept", folders=len(swept))
        return len(swept)

    def _set_aside(self, folders: list[str]) -> list[str]:
        found = self._store.folders(self._name, folders)
        old = [job_id for job_id in found.unknown if self._spool.untouched(job_id) > UNKNOWN_SECONDS]
        if not found.needless and not old:
            return []
        # Asked again, and set aside before anybody can claim one: a worker beside this one may be just about to.
        with self._store.claimed_by_nobody(self._name, [*found.needless, *old]) as again:
            swept = [*again.needless, *(job_id for job_id in old if job_id in again.unknown)]
            for job_id in swept:
                self._spool.set_aside(job_id)
        return swept
