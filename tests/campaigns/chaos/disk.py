"""A disk of the service's own that is full when we want it to be: a small tmpfs in a mount namespace."""

import errno
import os
import subprocess
from pathlib import Path
from typing import Final, Self

MEGABYTE: Final = bytes(1024 * 1024)


class NoDisk(Exception):
    """This host lets us make no namespace."""


class SmallDisk:
    """Mounted on `folder` for whoever is started behind `prefix`, and for nobody else. ENOSPC comes from the kernel."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        """Raises NoDisk."""
        folder.mkdir(parents=True)
        script = 'mount -t tmpfs -o size="$2"m none "$1" && echo mounted && exec sleep infinity'
        command = ["unshare", "--user", "--map-root-user", "--mount"]
        command += ["sh", "-c", script, "disk", str(folder), str(megabytes)]
        try:
            self._holder = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise NoDisk("there is no unshare on this host") from error
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self._holder.wait()
            raise NoDisk("neither a user namespace nor a tmpfs in it is allowed here")
        self.seen = Path(f"/proc/{self._holder.pid}/root{folder}")
        """The folder as we see it from outside."""
        self.prefix = ["nsenter", "--target", str(self._holder.pid), "--user", "--mount", "--preserve-credentials"]
        self._balloon = self.seen / "balloon"

    def fill(self) -> None:
        """Leave no byte."""
        descriptor = os.open(self._balloon, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(descriptor, MEGABYTE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)

    def empty(self) -> None:
        """As much room as before."""
        self._balloon.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()
