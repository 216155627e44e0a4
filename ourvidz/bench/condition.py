"""The loaded database: brought to where time would have brought it, weighed, and held against its own events."""

from collections.abc import Iterator
from time import monotonic
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Engine, and_, func, select, text

from ourvidz.bench.dice import dice_of
from ourvidz.bench.errands import SOURCE
from ourvidz.verifying import sentence
from statemachine.anchor import Anchor
from statemachine.store import EventStore
from statemachine.store.anchors import horizon, write
from statemachine.store.database import reading
from statemachine.store.rebuild import rebuild
from statemachine.store.rolling import roll
from statemachine.store.schema import job_events, jobs
from statemachine.store.verify import verify
from workers.content_check import content_findings

SAMPLE: Final = 0.01
"""The share of jobs that are looked at whole."""
_SIZE: Final = {
    "postgresql": "SELECT pg_database_size(current_database())",
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
}


class CaughtUp(msgspec.Struct, frozen=True, kw_only=True):
    """What supervisors would have done meanwhile, and in how many seconds it was done now."""

    days: int
    rolling_seconds: float
    anchors: int
    anchoring_seconds: float


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What is there, how much it takes, and what is wrong with the sampled jobs.

    `findings` are those of `jobs verify`, in its words; `unequal` are the jobs of which a rebuild changed any row.
    """

    jobs: int
    waiting: int
    events: int
    bytes: int
    sampled: int
    findings: list[str]
    unequal: list[str]


def catch_up(store: EventStore) -> CaughtUp:
    """Do now what is otherwise done as time goes by: vacuum where PostgreSQL does, roll days up, anchor."""
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM (ANALYZE)"))
    begun = monotonic()
    days = sum(1 for _ in roll(store.engine, store.now()))
    rolled = monotonic()
    anchors = sum(1 for _ in _anchor(store))
    return CaughtUp(days=days, rolling_seconds=rolled - begun, anchors=anchors, anchoring_seconds=monotonic() - rolled)


def _anchor(store: EventStore) -> Iterator[Anchor]:
    """Window after window. Nobody else writes, so that each of them is closed."""
    with store.read() as connection:
        up_to = horizon(connection).up_to
    while True:
        with store.write() as connection:
            anchor = write(connection, up_to, key=None, at=store.now(), made_by=SOURCE)
        if anchor is None:
            return
        yield anchor


def condition(engine: Engine, *, seed: int) -> Condition:
    """Count and weigh everything; verify a sample and rebuild it, which mends what it finds to be unequal."""
    with reading(engine) as connection:
        there = connection.scalar(select(func.count()).select_from(jobs)) or 0
        waiting = connection.scalar(select(func.count()).select_from(jobs).where(jobs.c.finished_at.is_(None))) or 0
        events = connection.scalar(select(func.count()).select_from(job_events)) or 0
        taken = connection.scalar(text(_SIZE[engine.dialect.name])) or 0
        sample = list(connection.scalars(select(jobs.c.id).where(_of_the_sample(seed)).order_by(jobs.c.id)))
    findings = [
        sentence(finding)
        for batch in verify(engine, sample)
        for verified in batch
        for finding in (*verified.findings, *content_findings(verified.job, verified.payload))
    ]
    rebuilt = list(rebuild(engine, sample))
    return Condition(
        jobs=there,
        waiting=waiting,
        events=events,
        bytes=taken,
        sampled=len(rebuilt),
        findings=findings,
        unequal=[one.job_id for one in rebuilt if one.changed],
    )


def _of_the_sample(seed: int) -> ColumnElement[bool]:
    """Ids are random, so those that stand side by side are a sample of all."""
    begin = dice_of(f"sample {seed}").uniform(0.0, 1.0 - SAMPLE)
    first, behind = (f"{int(share * 16**8):08x}" for share in (begin, begin + SAMPLE))
    return and_(jobs.c.id >= first, jobs.c.id < behind)
