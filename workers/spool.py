"""The spool: one folder a job on the worker's own disk, for what must survive a crash of the process.

A file is written under a temporary name, fsynced, renamed, and the folder is fsynced; its digest goes into the
event that tells of it. On reading, a file whose digest differs is as good as not there.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Spool(Protocol):
    """Where a job's files lie between the stages. Names are plain file names, never paths."""

    def folder(self, job_id: str) -> str:
        """The job's folder, made if it is not there. An absolute path for the engine process."""

    def write(self, job_id: str, name: str, data: bytes) -> str:
        """Store `data` durably and return its sha256 in hex. Overwrites."""

    def read(self, job_id: str, name: str, digest: str) -> bytes:
        """Return the file. Raises FileNotFoundError when it is missing or its digest is another."""

    def discard(self, job_id: str, name: str) -> None:
        """Remove one file. Safe to run twice."""

    def remove(self, job_id: str) -> None:
        """Remove the job's folder and all in it. Safe to run twice."""

    def jobs(self) -> Iterator[str]:
        """The ids of the jobs that have a folder; what else lies there is none of ours."""


def sha256(data: bytes) -> str:
    """The digest used everywhere: sha256 in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def write_durably(path: Path, data: bytes) -> None:
    """Temporary name, fsync, rename, fsync of the folder: after a crash the file is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class DiskSpool:
    """A spool in a folder of this host."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def folder(self, job_id: str) -> str:
        """See `Spool.folder`."""
        folder = self.root / job_id
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def write(self, job_id: str, name: str, data: bytes) -> str:
        """See `Spool.write`."""
        write_durably(Path(self.folder(job_id)) / name, data)
        return sha256(data)

    def read(self, job_id: str, name: str, digest: str) -> bytes:
        """See `Spool.read`."""
        data = (self.root / job_id / name).read_bytes()
        if sha256(data) != digest:
            raise FileNotFoundError(f"{job_id}/{name}: expected digest {digest[:12]}…, found {sha256(data)[:12]}…")
        return data

    def discard(self, job_id: str, name: str) -> None:
        """See `Spool.discard`."""
        (self.root / job_id / name).unlink(missing_ok=True)

    def remove(self, job_id: str) -> None:
        """See `Spool.remove`."""
        shutil.rmtree(self.root / job_id, ignore_errors=True)

    def jobs(self) -> Iterator[str]:
        """See `Spool.jobs`."""
        if self.root.is_dir():
            yield from (entry.name for entry in self.root.iterdir() if _JOB_ID.fullmatch(entry.name) and entry.is_dir())
