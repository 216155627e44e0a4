"""What a chaos campaign prints, and the same as JSON."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.campaigns.chaos.campaign import Story
from tests.campaigns.chaos.judge import Counts
from tests.campaigns.chaos.load import Load
from tests.campaigns.chaos.measures import device_seconds, recoveries
from tests.campaigns.chaos.town import LEASE_SECONDS, Town


def report(story: Story, counts: Counts, town: Town, loads: list[Load], *, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything that was counted and measured."""
    acted: Counter[str] = Counter()
    for load in loads:
        acted.update(load.acted)
    devices = {house.name: device_seconds(house, story.happenings) for house in town.houses}
    total, repeated = (sum(pair[which] for pair in devices.values()) for which in (0, 1))
    return {
        **facts,
        "lease_seconds": LEASE_SECONDS,
        "seconds_under_faults": round(story.loaded_seconds, 1),
        "faults": len(story.happenings),
        "faults_left_out": story.left_out,
        "pushes_acknowledged": sum(load.acknowledged for load in loads),
        "pushes_unanswered": sum(load.unanswered for load in loads),
        "jobs_acknowledged": counts.acknowledged,
        "jobs_ended": dict(sorted(counts.ended.items())),
        "jobs_lost": counts.lost,
        "operator": dict(acted),
        "outcomes_per_run_max": counts.outcomes,
        "tellings_repeated": counts.repeated_tellings,
        "contents_per_key_max": counts.contents,
        "puts_repeated": counts.repeated_puts,
        "answers_lost": {name: proxy.lost for name, proxy in town.proxies.items()},
        "late_writes_refused": counts.late_writes,
        "device_seconds": round(total, 1),
        "device_seconds_repeated": round(repeated, 1),
        "device_seconds_repeated_share": round(repeated / total, 4) if total else 0.0,
        "settled_seconds_after_faults": None if story.settled_after is None else round(story.settled_after, 1),
        "recovery": {}
        if story.faults_ended_at is None
        else recoveries(story.happenings, town.houses, story.faults_ended_at),
        "violations": story.violations,
    }


def show(found: dict[str, Any], *, replay: str) -> None:
    """For people."""
    console = Console(width=120, soft_wrap=True, highlight=False)
    table = Table(title="faults, and seconds until the service had got over them", title_justify="left")
    for column in ("fault", "times", "seen over", "p50", "max"):
        table.add_column(column)
    for name, one in found["recovery"].items():
        table.add_row(
            name, *(f"{one[key]}" if one[key] is not None else "–" for key in ("times", "seen", "p50", "max"))
        )
    console.print(table)
    for name, value in found.items():
        if name not in ("recovery", "violations"):
            console.print(f"{name.replace('_', ' ')}: {_plain(value)}")
    for violation in found["violations"]:
        console.print(f"[red]violated[/red] {violation}", markup=True)
    if found["violations"]:
        console.print(f"[bold red]NOT HELD[/bold red]. The same plan of faults again (not the same timing): {replay}")
    else:
        console.print("[bold green]all invariants hold[/bold green]")


def write(found: dict[str, Any], path: Path) -> None:
    """For programs."""
    path.write_text(json.dumps(found, indent=2) + "\n")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else str(value)
