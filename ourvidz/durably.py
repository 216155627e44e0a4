"""Files that are there after a crash as well."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have a file, or what a folder lists, on the disk before anything else is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
