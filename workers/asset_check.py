"""What was uploaded, held against what the storage has."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from statemachine.finding import Finding, Wrong
from statemachine.job import Job
from statemachine.states import State
from statemachine.store.chain import Upload
from workers.errors import GiveUp, StageEnds
from workers.ports import Bucket
from workers.spool import sha256

AT_ONCE: Final = 8
SECONDS: Final = 60.0
"""For one file."""
SILENCE: Final = 5
"""A storage that gave no answer for so many files in a row is asked no more."""

Digest = str | None | StageEnds
"""Of what is there; None where nothing is; or why that is not known."""


class AssetCheck:
    """Reads files and compares them. `looked_at` counts those for which the storage answered.

    `moved` says whether a job has gone on since its history was read: then a file may have been replaced rightly.
    """

    def __init__(self, bucket: Bucket, moved: Callable[[Job], bool]) -> None:
        self._bucket = bucket
        self._moved = moved
        self._silent = 0
        self.looked_at = 0
        self.not_asked = 0

    def check(self, jobs: Sequence[tuple[Job, Sequence[Upload]]]) -> Iterator[Finding]:
        """What is wrong with the files of these jobs."""
        # While a job uploads, a file may be there before the event that tells of it.
        wanted = [(job, upload) for job, uploads in jobs if job.state is not State.UPLOADING for upload in uploads]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(wanted), AT_ONCE):
                part = wanted[start : start + AT_ONCE]
                if self._silent >= SILENCE:
                    self.not_asked += len(part)
                    continue
                for (job, upload), digest in zip(
                    part, pool.map(self._read, [upload for _, upload in part]), strict=True
                ):
                    yield from self._judge(job, upload, digest)

    def _read(self, upload: Upload) -> Digest:
        file = upload.file
        try:
            data = self._bucket.get(file.bucket, file.key, most=file.bytes + 1, seconds=SECONDS)
        except StageEnds as trouble:
            return trouble
        return None if data is None else sha256(data)

    def _judge(self, job: Job, upload: Upload, digest: Digest) -> Iterator[Finding]:
        if isinstance(digest, StageEnds):
            self._silent += not isinstance(digest, GiveUp)
            yield _wrong(Wrong.ASSET_UNREAD, upload, digest.message)
            return
        self._silent, self.looked_at = 0, self.looked_at + 1
        if job.erased is not None:
            if digest is not None:
                yield _wrong(Wrong.ERASED_LEFT, upload, "the storage has it still, and it was to go")
        elif digest != upload.file.digest and not self._moved(job):
            kind = Wrong.ASSET_MISSING if digest is None else Wrong.ASSET_CHANGED
            yield _wrong(kind, upload, "it is not there" if digest is None else "it is not the file that was uploaded")


def _wrong(kind: Wrong, upload: Upload, said: str) -> Finding:
    return Finding(kind=kind, job_id=upload.job_id, version=upload.version, asset=upload.place, said=said)
