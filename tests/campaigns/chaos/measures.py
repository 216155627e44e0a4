"""What chaos costs: how soon the service works again, and how much of the devices' time was for nothing."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.sql import ColumnElement

from statemachine.store.schema import job_attempts, job_events, workers
from tests.campaigns.chaos.campaign import Happening
from tests.campaigns.chaos.town import House


def recoveries(
    happenings: Iterable[Happening], houses: Sequence[House], horizon: datetime
) -> dict[str, dict[str, Any]]:
    """Kind of fault → times, and of the seconds from its end to the first sign that it is over: median and longest."""
    found: dict[str, list[float]] = defaultdict(list)
    times: dict[str, int] = defaultdict(int)
    for one in happenings:
        times[one.kind.name] += 1
        affected = houses if one.kind.everywhere else [one.house]
        seconds = _recovery(one, affected, horizon)
        if seconds is not None:
            found[one.kind.name].append(seconds)
    return {
        name: {
            "times": count,
            "seen": len(found[name]),
            "p50": round(median(found[name]), 3) if found[name] else None,
            "max": round(max(found[name]), 3) if found[name] else None,
        }
        for name, count in sorted(times.items())
    }


def _recovery(one: Happening, affected: Sequence[House], horizon: datetime) -> float | None:
    """None where it was not seen: nobody else shows it, or the work was over before."""
    over = one.ended_at
    if over is None or over > horizon:
        return None
    if one.kind.line is not None:
        return _until_said(one.house, one.kind.line, over)
    wanted: list[ColumnElement[bool]] = [job_events.c.at > over, job_events.c.kind.in_(one.kind.signs)]
    match one.kind.whom:
        case "victim":
            wanted.append(job_events.c.worker_id.in_(select(workers.c.worker_id).where(_is_one_of(one.pids))))
        case "successor":
            younger = select(workers.c.worker_id).where(workers.c.started_at > one.begun_at)
            wanted.append(job_events.c.worker_id.in_(younger))
        case "anybody":
            pass
    seen: list[datetime] = []
    for house in affected:
        with house.service.store.read() as connection:
            first = connection.scalar(select(func.min(job_events.c.at)).where(*wanted))
        seen += [] if first is None else [first]
    return (min(seen) - over).total_seconds() if seen else None


def _until_said(house: House, line: str, after: datetime) -> float | None:
    for said in (house.service.folder / "service.log").read_text().splitlines():
        if f'"event": "{line}"' in said:
            seconds = (datetime.fromisoformat(json.loads(said)["timestamp"]) - after).total_seconds()
            if seconds > 0:
                return seconds
    return None


def _is_one_of(pids: tuple[int, ...]) -> ColumnElement[bool]:
    return workers.c.pid.in_(pids) | workers.c.engine_pid.in_(pids)


def device_seconds(house: House, happenings: Iterable[Happening]) -> tuple[float, float]:
    """All that devices worked on generations, and what of it had to be done again, by the history.

    An attempt that was interrupted ended when its worker was stopped or killed, and not when that was noticed. What it
    had done behind its last checkpoint or finished picture is for nothing.
    """
    ends = _ends(house, happenings)
    store, total, repeated = house.service.store, 0.0, 0.0
    kept = ("stage_started", "checkpointed", "asset_generated")
    with store.read() as connection:
        over = select(job_attempts).where(job_attempts.c.stage == "generating", job_attempts.c.ended_at.is_not(None))
        attempts = connection.execute(over).all()
        safe: dict[str, list[datetime]] = defaultdict(list)
        for row in connection.execute(
            select(job_events.c.job_id, job_events.c.at).where(
                job_events.c.stage == "generating", job_events.c.kind.in_(kept)
            )
        ):
            safe[row.job_id].append(row.at)
    for attempt in attempts:
        ended = _ended(attempt, ends)
        total += (ended - attempt.started_at).total_seconds()
        if attempt.outcome == "interrupted":
            points = [at for at in safe[attempt.job_id] if attempt.started_at <= at <= ended]
            repeated += (ended - max(points, default=attempt.started_at)).total_seconds()
    return total, repeated


def _ends(house: House, happenings: Iterable[Happening]) -> dict[str, list[datetime]]:
    """Worker → when it, or its engine, was stopped or killed."""
    ends: dict[str, list[datetime]] = defaultdict(list)
    with house.service.store.read() as connection:
        for one in happenings:
            if one.house is house and one.pids:
                for worker_id in connection.scalars(select(workers.c.worker_id).where(_is_one_of(one.pids))):
                    ends[worker_id].append(one.begun_at)
    return ends


def _ended(attempt: Row[Any], ends: dict[str, list[datetime]]) -> datetime:
    began: datetime = attempt.started_at
    ended: datetime = attempt.ended_at
    if attempt.outcome == "interrupted":
        ended = min([ended, *(at for at in ends.get(attempt.worker_id, []) if at >= began - timedelta(seconds=0.01))])
    return max(began, ended)
