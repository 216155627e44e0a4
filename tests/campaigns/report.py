"""What a campaign prints."""

import json
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from statemachine.states import LIVE
from statemachine.store.schema import job_events, jobs, rejected_writes
from tests.campaigns.service import Service

if TYPE_CHECKING:
    from tests.campaigns.kills import Kill, Story


def report(story: "Story", service: Service, *, title: str) -> None:
    """Tables on kills, states, recovery, interruptions and stops, then the verdict."""
    console = Console(width=120, soft_wrap=True)
    console.print(f"[bold]{title}[/bold]: {story.pushed} jobs pushed, {story.seconds:.0f} s")
    victims = sorted({kill.victim for kill in story.kills})
    console.print(_kills(story, victims))
    console.print(_states(story, victims))
    console.print(_interruptions(story, service))
    stops = _table("stopping up", "", "seconds", "exit code", "leases handed back")
    for stop in story.stops:
        stops.add_row(stop.what, f"{stop.seconds:.1f}", str(stop.code), str(stop.handed_back))
    console.print(stops)
    with service.store.read() as connection:
        states = connection.execute(
            select(jobs.c.state, jobs.c.error_type, func.count()).group_by("state", "error_type")
        )
        console.print("jobs:", ", ".join(f"{n} {state}{f' ({why})' if why else ''}" for state, why, n in states))
        fenced = connection.scalar(select(func.count()).select_from(rejected_writes))
    console.print(f"outcomes told more than once, in the same words: {story.repeated}")
    console.print(f"writes of fenced-out workers refused: {fenced}")
    for violation in story.violations:
        console.print(f"[red]violated[/red] {violation}", highlight=False)
    console.print(
        "[bold red]NOT HELD[/bold red]" if story.violations else "[bold green]all invariants hold[/bold green]"
    )


def _kills(story: "Story", victims: list[str]) -> Table:
    table = _table(
        "kills",
        "victim",
        "kills",
        "device at work",
        "least in flight",
        "works again after: median",
        "longest",
        "outlived by, longest",
    )
    for victim in victims:
        kills = [kill for kill in story.kills if kill.victim == victim]
        recovery = [kill.recovery for kill in kills if kill.recovery is not None]
        linger = [kill.linger for kill in kills if kill.linger is not None]
        table.add_row(
            victim,
            str(len(kills)),
            str(sum(kill.at_work for kill in kills)),
            str(min(kill.in_flight for kill in kills)),
            _seconds(median(recovery) if recovery else None),
            _seconds(max(recovery, default=None)),
            _seconds(max(linger, default=None)),
        )
    return table


def _states(story: "Story", victims: list[str]) -> Table:
    """Cells: at how many kills a job was in that state / how many jobs were."""
    table = _table("kills with a job in the state / jobs in it", "victim", *(state.value for state in LIVE), "missed")
    for victim in (*victims, "all"):
        kills = [kill for kill in story.kills if victim in (kill.victim, "all")]
        cells = [
            f"{sum(state.value in kill.states for kill in kills)} / {sum(kill.states[state.value] for kill in kills)}"
            for state in LIVE
        ]
        table.add_row(victim, *cells, str(sum(not kill.hit for kill in kills)))
    return table


def _interruptions(story: "Story", service: Service) -> Table:
    """Of every lease that a kill ended: how soon that was written down, and how soon the job was claimed anew."""
    columns = (job_events.c.job_id, job_events.c.kind, job_events.c.stage, job_events.c.at, job_events.c.data)
    statement = select(*columns).where(job_events.c.kind.in_(("interrupted", "claimed")))
    by_job: dict[str, list[Any]] = {}
    with service.store.read() as connection:
        for row in connection.execute(statement.order_by(job_events.c.job_id, job_events.c.version)):
            by_job.setdefault(row.job_id, []).append(row)
    noticed: dict[tuple[str, bool], list[float]] = {}
    claimed: dict[tuple[str, bool], list[float]] = {}
    stages: dict[tuple[str, bool], Counter[str]] = {}
    for rows in by_job.values():
        for row, then in zip(rows, [*rows[1:], None], strict=True):
            if row.kind != "interrupted" or (story.kills_ended_at and row.at > story.kills_ended_at):
                continue  # of the drains tells another table
            told = json.loads(row.data)
            key = told["reason"], told.get("counts", True)  # left out where it says the usual
            before = _last_before(story.kills, row.at)
            stages.setdefault(key, Counter())[row.stage or "-"] += 1
            if before is not None:
                noticed.setdefault(key, []).append((row.at - before.at).total_seconds())
                if then is not None:
                    claimed.setdefault(key, []).append((then.at - before.at).total_seconds())
    table = _table(
        "leases interrupted", "reason", "costs an attempt", "times", "stages", "kill to told: median", "longest",
        "kill to claimed: median", "longest",
    )  # fmt: skip
    for key in sorted(stages):
        table.add_row(
            key[0],
            "yes" if key[1] else "no",
            str(stages[key].total()),
            ", ".join(f"{stage} {count}" for stage, count in stages[key].most_common()),
            *(_seconds(of(times[key])) for times in (noticed, claimed) for of in (median, max) if key in times),
        )
    return table


def _last_before(kills: "list[Kill]", at: Any) -> "Kill | None":
    return max((kill for kill in kills if kill.at <= at), key=lambda kill: kill.at, default=None)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
