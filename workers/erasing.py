"""What lies of a job outside of the database: which files may be in storage, and removing them.

The database goes first: with its transaction it is in the history that these files are to go, and none can be forgotten
when storage is away just then. To remove them again does no harm.
"""

from typing import Any, Final

from statemachine.job import Job
from workers.errors import Misconfigured, StageEnds, TryAgain
from workers.ports import Bucket
from workers.spool import Spool
from workers.storage.keys import asset_key

SECONDS: Final = 30.0
"""For one file."""


def files(job: Job) -> list[dict[str, Any]]:
    """Every file that this job may have in storage: bucket, key and, of what was uploaded last, the digest.

    Names follow from the job, so that one is found too whose upload went through and whose event was lost.
    """
    known: dict[tuple[str, str], str | None] = {}
    match job.request:
        case {"bucket": str() as bucket, "extension": str() as extension, "num_images": int() as number}:
            for index in range(number):
                known[bucket, asset_key(job.user_id, job.id, index, extension)] = None
    for asset in job.assets:
        if asset.bucket is not None and asset.key is not None:
            known[asset.bucket, asset.key] = asset.digest
    return [
        {"bucket": bucket, "key": key} | ({} if digest is None else {"digest": digest})
        for (bucket, key), digest in known.items()
    ]


class Remover:
    """Removes the files of erased jobs. A storage that is away, or lets nobody in, is not asked again by this one."""

    def __init__(self, bucket: Bucket, spool: Spool) -> None:
        self._bucket = bucket
        self._spool = spool
        self._away: StageEnds | None = None

    def remove(self, job: Job) -> None:
        """Remove what storage, and this host's spool, have of an erased job. Raises StageEnds; safe to run twice."""
        assert job.erased is not None
        self._spool.remove(job.id)  # other hosts sweep theirs by themselves: the job is finished
        if self._away is not None:
            raise self._away
        try:
            for file in job.erased.files:
                self._bucket.remove(file["bucket"], file["key"], seconds=SECONDS)
        except (TryAgain, Misconfigured) as away:
            self._away = away
            raise
