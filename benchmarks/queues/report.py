"""The table, ours beside DBOS, and the same as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.queues.figures import Figures

COLUMNS: Final[Mapping[str, str]] = {
    "accepted": "accepted",
    "ended": "ended",
    "lost": "lost",
    "failed": "failed",
    "told_twice": "told twice",
    "repeated": "steps again",
    "longest_push": "longest push",
    "first": "first end",
    "full": "full rate",
    "caught_up": "caught up",
}

Results = Mapping[str, Mapping[str, Figures]]
"""Scenario → system → what came of it."""


def show(results: Results, setting: Mapping[str, Any]) -> None:
    """Print how it was measured, the faults' table, and the rate without any."""
    console = Console(width=150, soft_wrap=True, highlight=False)
    for name, value in setting.items():
        console.print(f"{name}: {value}")
    table = Table(title="Counts of jobs; times in seconds, the last three after the end of the fault")
    for column in ("fault", "system", *COLUMNS.values()):
        table.add_column(column)
    for scenario, of in results.items():
        for system, found in of.items():
            table.add_row(scenario, system, *(_cell(getattr(found, name)) for name in COLUMNS))
    console.print(table)
    rates = {system: found.a_second for system, found in results.get("none", {}).items()}
    for system, rate in rates.items():
        console.print(f"without a fault, all jobs at once: {system} {rate:.2f} jobs a second")
    if "ours" in rates and rates.get("DBOS"):
        console.print(f"ours is {rates['ours'] / rates['DBOS']:.2f} times as fast")


def write(results: Results, setting: Mapping[str, Any], path: Path) -> None:
    """The same for programs."""
    found = {scenario: {system: asdict(one) for system, one in of.items()} for scenario, of in results.items()}
    path.write_text(json.dumps({"setting": dict(setting), "results": found}, indent=2) + "\n", encoding="utf-8")


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.1f}"
