"""Files that a command is told to write."""

import errno
import os
from pathlib import Path


def check_target(file: Path) -> None:
    """Refuse a file that cannot be written, by its own name and before anything is done for it. Raises OSError."""
    folder = file.parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(folder))
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder, and a file is wanted", str(file))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "nothing may be written into this folder", str(folder))
