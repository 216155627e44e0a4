"""Claims in a full database beside claims in an empty one, by turns, so that both meet the same machine."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from sqlalchemy import and_, func, make_url, select, text

from ourvidz.bench.ground import prepare
from ourvidz.bench.loading import whole
from ourvidz.bench.story import live
from ourvidz.bench.year import plan_waiting
from statemachine import decisions
from statemachine.errors import Conflict
from statemachine.job import Job
from statemachine.store import EventStore, open_store
from statemachine.store.affinity import Affinity
from statemachine.store.append import prepare as sealed
from statemachine.store.bulk import write_whole
from statemachine.store.claims import Claimant
from statemachine.store.database import open_engine
from statemachine.store.schema import jobs
from workers.presets import LUSTIFY, PRESETS

USERS: Final = 20
AFFINITY_SECONDS: Final = 120.0
"""As workers have it by default."""


class Claims(msgspec.Struct, frozen=True):
    """Seconds of each claim, round by round."""

    full: list[float]
    empty: list[float]


def claims_beside(url: str, *, rounds: int, seed: int) -> Claims:
    """Claim one job here and one there, `rounds` times; what is claimed ends as cancelled.

    The empty database has `rounds` waiting jobs and no past. Where too few wait in the full one, as many are added.
    """
    with _empty_beside(url) as other:
        stores = [open_store(url), open_store(other)]
        try:
            for store in stores:
                _see_to(store, rounds, seed)
            windows = [Affinity(AFFINITY_SECONDS, time.monotonic) for _ in stores]
            taken = [list[float](), list[float]()]
            for number in range(rounds):
                for side in (0, 1) if number % 2 else (1, 0):
                    taken[side].append(_claim(stores[side], windows[side]))
        finally:
            for store in stores:
                store.close()
    return Claims(full=taken[0], empty=taken[1])


def _see_to(store: EventStore, wanted: int, seed: int) -> None:
    """Let at least so many wait."""
    free = and_(jobs.c.finished_at.is_(None), jobs.c.worker_id.is_(None))
    with store.read() as connection:
        waiting = connection.scalar(select(func.count()).select_from(jobs).where(free)) or 0
    if waiting >= wanted:
        return
    now = store.now()
    errands = plan_waiting(wanted - waiting, USERS, key=f"claims {seed} at {now.isoformat()}", until=now)
    with store.write() as connection:
        write_whole(connection, [whole(live(errand)) for errand in errands])


def _claim(store: EventStore, affinity: Affinity) -> float:
    who = Claimant(
        worker_id="bench-claimant",
        host="bench",
        spool="bench",
        device="cpu",
        job_types=list(PRESETS),
        lease_seconds=30.0,
        grace_seconds=30.0,
        resident=[LUSTIFY],
    )
    begun = time.perf_counter()
    (job,) = store.claim(who, drawing=1, telling=1, expected=True, affinity=affinity)
    seconds = time.perf_counter() - begun
    _end(store, job)
    return seconds


def _end(store: EventStore, job: Job) -> None:
    """Not claimed again, and held by nobody."""
    for decide in (
        lambda job: decisions.cancel(job, by="bench", reason="it was claimed to see how long that takes"),
        decisions.cancelled,
        decisions.start,
        lambda job: decisions.finish(job, now=store.now(), notified=False),
    ):
        (after,) = store.append_group([sealed(job, decide(job), worker_id=job.worker_id, at=store.now())])
        if isinstance(after, Conflict):
            raise after
        job = after


@contextmanager
def _empty_beside(url: str) -> Iterator[str]:
    """A database with the tables and nothing in them, on the same server or disk, for as long as the context lasts."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with TemporaryDirectory(dir=Path(str(parsed.database)).absolute().parent, prefix="empty-") as folder:
            beside = f"sqlite:///{folder}/empty.sqlite"
            prepare(beside)
            yield beside
        return
    name = f"ourvidz_empty_{secrets.token_hex(4)}"
    engine = open_engine(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
            try:
                beside = parsed.set(database=name).render_as_string(hide_password=False)
                prepare(beside)
                yield beside
            finally:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()
