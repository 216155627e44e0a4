"""One run of retention: finish what an earlier one began, archive what is old enough, forget what is not archived."""

import fcntl
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ourvidz.archive.emptying import Emptied, empty, unfinished
from ourvidz.archive.errors import ArchiveBusy
from ourvidz.archive.telling import Tell
from ourvidz.archive.writing import PARTIAL, Order, write
from statemachine.store import EventStore
from statemachine.store.retention import forget_letters, forget_workers
from statemachine.store.rolling import roll

LOCK: Final = ".lock"
LETTERS_AT_ONCE: Final = 500
"""Removed in one transaction."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did. `skipped` are archives of other tables than today's."""

    emptied: list[Emptied]
    skipped: list[str]


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows went for good."""

    workers: int
    dead_letters: int


def archive(store: EventStore, folder: Path, order: Order, *, tell: Tell) -> Run:
    """Archive all that the order names, and remove it. Safe to kill at any moment, and to run again.

    At no time is a job in neither place. Raises ArchiveBusy, ArchiveDamaged.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # who else may read it is for its owner to say
    run = Run(emptied=[], skipped=[])
    with _alone(folder):
        for left_behind in folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(left_behind)
        deque(roll(store.engine, store.now()), maxlen=0)  # only what ended on days that are rolled up may go
        for path in unfinished(store, folder):
            _empty(store, path, order, run, tell)
        last = None  # what was left by the first archive of a run is not in its next one
        while (written := write(store, folder, order, after=last, tell=tell)) is not None:
            _empty(store, written.path, order, run, tell)
            last = written.last
    return run


def _empty(store: EventStore, path: Path, order: Order, run: Run, tell: Tell) -> None:
    emptied = empty(store, path, by=order.by, tell=tell)
    if emptied is None:
        run.skipped.append(path.name)
    else:
        run.emptied.append(emptied)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else archives into the folder meanwhile. The lock ends with the process."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveBusy(f"{folder}: somebody else is archiving into it") from error
        yield


def forget(store: EventStore, *, workers_before: datetime | None, letters_before: datetime | None) -> Forgotten:
    """Remove rows of workers and dead letters that are older than that. They go into no archive."""
    workers = letters = 0
    if workers_before is not None:
        with store.write() as connection:
            workers = forget_workers(connection, workers_before)
    if letters_before is not None:
        while True:
            with store.write() as connection:
                found = forget_letters(connection, letters_before, limit=LETTERS_AT_ONCE)
            letters += found
            if found < LETTERS_AT_ONCE:
                break
    return Forgotten(workers=workers, dead_letters=letters)
