"""One `ourvidz up` a data folder: the kernel holds it for us, and lets go when the last process of ours is dead."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

import structlog

from ourvidz.layers import SettingsError

WAIT_SECONDS: Final = 15.0
"""How long the Valkey of a killed `up` may take to end."""
LOOK_SECONDS: Final = 0.05

log = structlog.get_logger()


def hold(data_dir: Path, *, seconds: float = WAIT_SECONDS) -> int:
    """Hold the folder, made where it is not there, until the returned descriptor is closed everywhere.

    Children do not inherit it, unless it is passed to them: then the folder is held until they are gone as well.
    Waits for a holder up to `seconds`. Raises SettingsError when there is one after that.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + seconds
    told = False
    try:
        while not _taken(descriptor):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            if time.monotonic() >= until:
                raise SettingsError(
                    f"data_dir {data_dir}: another `ourvidz up` (pid {holder}) or its Valkey runs on it"
                )
            if not told:
                log.warning("data_dir is held: waiting for its holder to end", pid=holder, seconds=seconds)
                told = True
            time.sleep(LOOK_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
