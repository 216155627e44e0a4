"""A copy of a SQLite database, made while the service runs."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ourvidz.durably import sync


class CopyDamaged(Exception):
    """The copy is not a sound database."""


def back_up(source: Path, target: Path) -> None:
    """Copy the database as one moment has it, check the copy, and have it on the disk under its name, or nothing.

    Readers and writers go on meanwhile. Raises FileExistsError, sqlite3.Error, CopyDamaged.
    """
    if target.exists():
        raise FileExistsError(17, "there is a file of that name already", str(target))
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)  # prompts are in it
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        with closing(sqlite3.connect(partial)) as copy:
            (said,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise CopyDamaged(f"the copy is not sound: {said}")
        sync(partial)
        partial.rename(target)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)
