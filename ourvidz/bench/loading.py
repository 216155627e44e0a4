"""From errands into the database: several processes, each making and writing whole chunks of its own."""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from itertools import islice
from typing import Final

import msgspec
from sqlalchemy import Engine, select

from ourvidz.bench.errands import Errand
from ourvidz.bench.life import Life
from ourvidz.bench.story import live
from statemachine.store.bulk import Whole, write_whole
from statemachine.store.codec import canonical
from statemachine.store.database import open_engine, reading, transaction
from statemachine.store.schema import jobs

CHUNK: Final = 500
"""Jobs of one transaction. On SQLite the other processes wait for it."""


class Loaded(msgspec.Struct, frozen=True):
    """What was written; `there` were so already."""

    jobs: int = 0
    events: int = 0
    there: int = 0

    def __add__(self, other: "Loaded") -> "Loaded":
        """Both together."""
        return Loaded(self.jobs + other.jobs, self.events + other.events, self.there + other.there)


def load(url: str, errands: Iterable[Errand], *, processes: int) -> Iterator[Loaded]:
    """Make each errand's life and write it, chunk by chunk. What is there already is left as it is."""
    # Spawned: a forked child would share its parent's connections.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        under_way: deque[Future[Loaded]] = deque()
        for chunk in _chunks(errands):
            under_way.append(pool.submit(load_chunk, url, chunk))
            if len(under_way) > 2 * processes:
                yield under_way.popleft().result()
        for future in under_way:
            yield future.result()


def load_chunk(url: str, chunk: list[Errand]) -> Loaded:
    """One transaction. A chunk of which a job is there is there as a whole, since it was written so."""
    engine = _engine(url)
    with reading(engine) as connection:
        if connection.scalar(select(jobs.c.id).where(jobs.c.id == chunk[0].job_id)) is not None:
            return Loaded(there=len(chunk))
    lives = [live(errand) for errand in chunk]
    with transaction(engine) as connection:
        write_whole(connection, [whole(life) for life in lives])
    return Loaded(jobs=len(lives), events=sum(len(life.rows) for life in lives))


def whole(life: Life) -> Whole:
    """The life as it is stored."""
    content = None if life.content is None else canonical(life.content)
    return Whole(job=life.job, rows=life.rows, raw=life.raw, content=content)


@cache
def _engine(url: str) -> Engine:
    """One a process."""
    return open_engine(url)


def _chunks(errands: Iterable[Errand]) -> Iterator[list[Errand]]:
    remaining = iter(errands)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
