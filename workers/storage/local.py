"""A folder of this host as storage: the default, with the layout of the real one, `{bucket}/{user_id}/{file}`."""

import errno
import os
from pathlib import Path
from typing import Final, Literal

from workers.errors import Misconfigured, StageEnds, TryAgain
from workers.spool import write_durably
from workers.storage.keys import check_bucket, split_key

MODE: Final = 0o644
"""People open these files with other programs, whatever umask the worker runs under. Folders follow the umask."""

_TO_BE_MENDED: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
)


class LocalBucket:
    """Assets in `{root}/{bucket}/{user_id}/{file}`: each is whole or not there, also after a power cut."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put(self, bucket: str, key: str, data: bytes, *, content_type: str, seconds: float) -> None:
        """See `Bucket.put`. The same bytes a second time are not written again.

        `seconds` cannot be kept: a write to a disk is not interruptible. It writes the same bytes to the same
        name, so an overrun harms nobody.
        """
        user, file = split_key(key)
        try:
            folder = self._folder(check_bucket(bucket), user)
            target = folder / file
            try:
                if target.is_symlink() or not target.is_file() or target.read_bytes() != data:
                    write_durably(target, data)
                target.chmod(MODE)
            finally:
                for leftover in folder.glob(f".{file}.*.tmp"):  # of a writer that died, or of this full disk
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise self._problem(error, f"cannot take {bucket}/{key}", "StorageUnwritable") from error

    def get(self, bucket: str, key: str, *, most: int, seconds: float) -> bytes | None:
        """See `Bucket.get`. A link in the file's place is nothing that was put here."""
        user, file = split_key(key)
        target = self.root / check_bucket(bucket) / user / file
        try:
            if target.is_symlink() or not target.parent.resolve().is_relative_to(self.root.resolve()):
                return None
            with target.open("rb") as stored:
                return stored.read(most)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._problem(error, f"does not give {bucket}/{key}", "StorageUnreadable") from error

    def remove(self, bucket: str, key: str, *, seconds: float) -> None:
        """See `Bucket.remove`. What a writer that died left of it goes too; a missing root is a disk that is away."""
        user, file = split_key(key)
        folder = self.root / check_bucket(bucket) / user
        if not self.root.is_dir():
            raise Misconfigured(
                f"the storage folder {self.root} is not there (make it, if nothing was ever stored)",
                error_type="StorageUnwritable",
            )
        try:
            if not folder.exists():
                return
            self._within(folder)
            for stored in (folder / file, *folder.glob(f".{file}.*.tmp")):
                stored.unlink(missing_ok=True)
            _fsync(folder)
        except OSError as error:
            raise self._problem(error, f"does not let go of {bucket}/{key}", "StorageUnwritable") from error

    def url(self, bucket: str, key: str, *, how: Literal["public", "signed"], holds: int, seconds: float) -> str:
        """See `Bucket.url`. The file:// URL of this host, either way: a folder signs nothing, and never runs out."""
        user, file = split_key(key)
        return (self.root / check_bucket(bucket) / user / file).as_uri()

    def _folder(self, bucket: str, user: str) -> Path:
        """The folder, made durably where it is missing. A link that leads out of the root is refused."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.root
        for name in (bucket, user):
            within, folder = folder, folder / name
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                _fsync(within)
        self._within(folder)
        return folder

    def _within(self, folder: Path) -> None:
        if not folder.resolve().is_relative_to(self.root.resolve()):
            raise Misconfigured(
                f"the storage folder {folder} is a link that leads out of {self.root}", error_type="StorageUnwritable"
            )

    def _problem(self, error: OSError, what: str, mended: str) -> StageEnds:
        said = f"the storage folder {self.root} {what}: {os.strerror(error.errno or 0)}"
        if error.errno in _TO_BE_MENDED:
            return Misconfigured(said, error_type=mended)
        return TryAgain(said, error_type="StorageError")


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
