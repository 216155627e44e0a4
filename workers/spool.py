"""The spool: one folder a job on the worker's own disk, for what must survive a crash of the process.

A file is written under a temporary name, fsynced, renamed, and the folder is fsynced; its digest goes into the
event that tells of it. On reading, a file whose digest differs is as good as not there.

The database knows a spool by its name, which lies in it. All workers of a host share one; `workers/sweeping.py` cleans.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

NAME: Final = ".host"
"""The file with the spool's name."""
ASIDE: Final = ".removed"
"""The folder of what nobody looks at any more, until it is removed."""
LEFT_SECONDS: Final = 3600.0
"""A file is written in seconds: a temporary one that nobody touched for so long has lost its process."""

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


def named(root: Path, host: str) -> str:
    """The name of the spool in `root`: that of the host that used it first, whatever its host is called by now.

    So a pod that finds the volume of the one before it has its files, and so has a host that was renamed.
    """
    file, mine = root / NAME, root / f"{NAME}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_durably(mine, host.encode())
            with suppress(FileExistsError):  # another was first, and its name holds
                os.link(mine, file)
            mine.unlink()
        return file.read_text().strip() or host
    except OSError:
        return host  # nothing can be kept here either: the first job says so, and pauses its lane


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
        """The ids of the jobs that have a folder; what else lies there is none of ours."""
        if self.root.is_dir():
            yield from (entry.name for entry in self.root.iterdir() if _JOB_ID.fullmatch(entry.name) and entry.is_dir())

    def untouched(self, job_id: str) -> float:
        """Seconds since something was last written into the job's folder."""
        folder = self.root / job_id
        return time.time() - max(_changed(path) for path in (folder, *folder.glob("*")))

    def set_aside(self, job_id: str) -> None:
        """Take the job's folder out of everybody's sight, at once and whole. Safe to run twice."""
        (self.root / ASIDE).mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (self.root / job_id).rename(self.root / ASIDE / f"{job_id}.{secrets.token_hex(4)}")

    def clear(self) -> None:
        """Remove what was set aside, and what processes left that died while they wrote."""
        for folder in self.root.glob(f"{ASIDE}/*"):
            shutil.rmtree(folder, ignore_errors=True)
        for left in self.root.rglob(".*.tmp"):
            if time.time() - _changed(left) > LEFT_SECONDS:
                left.unlink(missing_ok=True)


def _changed(path: Path) -> float:
    """When it was last written, by this host's clock; long ago where it is gone by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
