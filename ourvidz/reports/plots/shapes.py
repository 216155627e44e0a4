"""What is drawn, before it is: which numbers of an answer, as which series, under which words."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ourvidz.reports.answer import Answer, Row
from ourvidz.reports.columns import Column, Form
from ourvidz.reports.names import By, Report
from ourvidz.wording import brief, clause

SERIES: Final = 7
"""Series that are told apart; what is left becomes one."""
NAMES: Final = 16
"""Names on a chart, those with the most; what is left becomes one, or is not shown where it cannot be added up."""


@dataclass(frozen=True)
class Series:
    """One value for each line. `meaning` is good, bad or dull; empty where it means nothing by itself."""

    label: str
    values: list[float]
    meaning: str = ""


@dataclass(frozen=True)
class Shape:
    """`lines` are moments or names. `stacked` series add up; others are percentiles of the same thing."""

    title: str
    lines: list[str]
    series: list[Series]
    form: Form
    stacked: bool


def shape_of(answer: Answer) -> Shape:
    """What a plot of the answer shows. The title is what it says in a sentence."""
    return _SHAPES[answer.report](answer)


def _ended(answer: Answer) -> Shape:
    total = answer.totals or {}
    ended = total["completed"] + total["failed"] + total["cancelled"]
    failed = f", {_share(total['failed'], ended)} of them failed" if ended else ""
    series = [
        _column(answer, "completed", meaning="good"),
        _column(answer, "failed", meaning="bad"),
        _column(answer, "cancelled", meaning="dull"),
    ]
    return Shape(f"{_many(ended, 'job')} ended{failed}", _lines(answer), series, Form.COUNT, True)


def _users(answer: Answer) -> Shape:
    total = answer.totals or {}
    if answer.by in (None, By.USER):
        queued = sum(row["queued"] > 0 for row in answer.rows)
        title = f"{_many(queued, 'user')} queued {total['queued']:,} jobs"
        return Shape(title, _lines(answer), _ended(answer).series, Form.COUNT, True)
    title = f"{_many(total['users'], 'user')} queued {total['queued']:,} jobs"
    return Shape(title, _lines(answer), [_column(answer, "users", "users who queued jobs")], Form.COUNT, True)


def _device(answer: Answer) -> Shape:
    total = answer.totals or {}
    spent, wasted = total["device_seconds"], total["wasted_seconds"]
    who = f"{_many(total['workers'], 'worker')} spent " if "workers" in total else ""
    of = "on their devices" if who else "of device time"
    title = f"{who}{brief(spent)} {of}, {_share(wasted, spent)} of it for nothing"
    useful = [row["device_seconds"] - row["wasted_seconds"] for row in answer.rows]
    series = [Series("of use", useful, "good"), _column(answer, "wasted_seconds", "wasted", meaning="bad")]
    return Shape(title, _lines(answer), series, Form.SECONDS, True)


def _latency(answer: Answer) -> Shape:
    whole = answer.totals or answer.rows[0]
    rows = answer.rows
    if answer.by is not None and answer.by.moment is None:
        rows = sorted(rows[:NAMES], key=lambda row: row["p50_seconds"])
    what = "attempts" if answer.by is By.WORKER else "jobs"
    title = (
        f"Half of the {what} took up to {brief(whole['p50_seconds'])}, nine in ten up to {brief(whole['p90_seconds'])}"
    )
    series = [Series(p, [_on_log(row[f"{p}_seconds"]) for row in rows]) for p in ("p50", "p90", "p99")]
    return Shape(title, [_named(row, answer.keys) for row in rows], series, Form.SECONDS, stacked=False)


def _on_log(seconds: float | None) -> float:
    """A logarithm has no place for nothing: it is drawn as the least that is measured."""
    return math.nan if seconds is None else max(seconds, 0.001)


def _trouble(answer: Answer) -> Shape:
    what = answer.values[0].name
    total = answer.totals or {}
    match answer.report, what:
        case Report.RETRIES, _:
            title = (
                f"{_many(total[what], 'attempt')} had to be made again, {answer.values[1].told(total['share'])} of all"
            )
        case _, "jobs":
            title = f"{_many(total[what], 'job')} failed"
        case _:
            title = f"{_many(total[what], 'attempt')} ended in failure"
    return _pivoted(answer, title, "error_class", what, Form.COUNT)


def _models(answer: Answer) -> Shape:
    total = answer.totals or {}
    title = f"{_many(total['loads'], 'load')} of models took {brief(total['load_seconds'])}"
    return _pivoted(answer, title, "model", "load_seconds", Form.SECONDS)


def _callbacks(answer: Answer) -> Shape:
    total = answer.totals or {}
    if answer.by is None:
        taken = sum(row["requests"] for row in answer.rows if row["delivered"] == "yes")
        series = [
            Series("taken", [row["requests"] * (row["delivered"] == "yes") for row in answer.rows], "good"),
            Series("not taken", [row["requests"] * (row["delivered"] == "no") for row in answer.rows], "bad"),
        ]
        lines = [f"{row['status']}: {row['answer']}" for row in answer.rows]
    else:
        taken = total["delivered"]
        series = [
            _column(answer, "delivered", "taken", meaning="good"),
            _column(answer, "refused", "not taken", meaning="bad"),
        ]
        lines = _lines(answer)
    title = f"{_many(total['requests'], 'request')} to receivers, {_share(taken, total['requests'])} of them taken"
    return Shape(title, lines, series, Form.COUNT, stacked=True)


_SHAPES: Final[dict[Report, Callable[[Answer], Shape]]] = {
    Report.THROUGHPUT: _ended,
    Report.LATENCY: _latency,
    Report.FAILURES: _trouble,
    Report.RETRIES: _trouble,
    Report.WORKERS: _device,
    Report.USERS: _users,
    Report.MODELS: _models,
    Report.CALLBACKS: _callbacks,
    Report.COST: _device,
}


def _pivoted(answer: Answer, title: str, key: str, value: str, form: Form) -> Shape:
    """One series for each value of `key`, the greatest first; a line for what is left of a row's name."""
    line_keys = [column for column in answer.keys if column.name != key] or answer.keys
    if answer.by:
        line_keys = line_keys[:1]
    names = [_named(row, line_keys) for row in answer.rows]
    moment = answer.by.moment if answer.by else None
    lines = answer.span.moments(moment) if moment else list(dict.fromkeys(names))
    sums: dict[str, dict[str, float]] = {}
    for row, line in zip(answer.rows, names, strict=True):
        of = sums.setdefault(str(row[key] or "unknown"), dict.fromkeys(lines, 0.0))
        of[line] += row[value]
    ordered = sorted(sums, key=lambda one: -sum(sums[one].values()))
    told, rest = ordered[:SERIES], ordered[SERIES:]
    series = [
        Series(one.replace("_", " ") if key != "model" else one, [sums[one][line] for line in lines]) for one in told
    ]
    if rest:
        series.append(Series("others", [sum(sums[one][line] for one in rest) for line in lines], "dull"))
    return Shape(title, lines, series, form, stacked=True)


def _lines(answer: Answer) -> list[str]:
    return [_named(row, answer.keys) for row in answer.rows]


def _named(row: Row, keys: Iterable[Column]) -> str:
    said = ": ".join(clause(key.told(row[key.name]), 40) for key in keys if row[key.name] is not None)
    return said.replace("until_", "until ") or "nobody"


def _column(answer: Answer, name: str, label: str | None = None, *, meaning: str = "") -> Series:
    return Series(label or name, [row[name] or 0 for row in answer.rows], meaning)


def _many(number: int, one: str) -> str:
    return f"{number:,} {one if number == 1 else one + 's'}"


def _share(of: float, whole: float) -> str:
    return Column("", "", Form.SHARE).told(of / whole if whole else None)
