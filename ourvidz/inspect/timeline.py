"""The attempts of a job, one row each, with the run drawn as a bar, and what operators did between them.

Works on the document of `inspection`.
"""

import textwrap
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from rich.text import Text

from ourvidz.wording import clause, clock, duration, printable, stamp

STYLES: Final = {
    "succeeded": "green",
    "skipped": "green",
    "completed": "green",
    "retry": "yellow",
    "interrupted": "yellow",
    "assets lost": "yellow",
    "refs lost": "yellow",
    "superseded": "yellow",
    "cancelled": "magenta",
    "failed": "red",
    "running": "cyan",
    "generating": "cyan",
    "uploading": "cyan",
    "enhancing": "cyan",
    "fetching_refs": "cyan",
    "callback": "cyan",
}
WIDE: Final = 110
_FIXED: Final = 68
"""Columns of the timeline without its bars."""


def moment(text: str) -> datetime:
    """A time of the document."""
    return datetime.fromisoformat(text)


def timeline(d: dict[str, Any], width: int) -> Iterator[Text]:
    """The rows for a terminal of `width` columns; what went wrong stands beneath its attempt."""
    now = moment(d["now"])
    wide = width >= WIDE
    where_width = 28 if wide else 0
    bar_width = max(6, min(40, width - _FIXED - where_width))
    attempts = d["attempts"]
    runs = [_ran(attempt, now) for attempt in attempts]
    longest = max([*runs, 0.001])
    head = f"  {'stage':<13} try  {'UTC':<8}  {'wait':>10}  {'run':>10}  {'':<{bar_width}}  outcome"
    if attempts:
        yield Text(f"{head:<{_FIXED + bar_width - 2}}" + ("  where" if wide else ""), style="dim")
    before, day = None, moment(d["times"]["queued_at"] or d["now"]).date()
    acts = list(d["acts"])
    for attempt, ran in zip(attempts, runs, strict=True):
        while acts and (acts[0]["run"], acts[0]["at"]) <= (attempt["run"], attempt["started_at"]):
            yield _act(acts.pop(0), width)
        if (started := moment(attempt["started_at"])).date() != day:
            day = started.date()
            yield Text(f"  {day}", style="dim")
        outcome = attempt["outcome"] or "running"
        style = STYLES.get(outcome, "")
        line = Text(
            f"  {attempt['stage']:<13} {attempt['attempt']:>3}  {clock(started)}  "
            f"{duration(attempt['wait_seconds']):>10}  {duration(ran):>10}  "
        )
        line.append(f"{'█' * max(1, round(ran / longest * bar_width)):<{bar_width}}", style=style)
        line.append(f"  {outcome:<11}", style=style)
        where = _where(attempt)
        moved = attempt["worker_id"] != before
        if wide:
            line.append(f"  {where}", style="dim")
        line.truncate(width, overflow="ellipsis")
        line.rstrip()
        yield line
        notes = [] if wide or not moved else [f"on {where}"]
        if attempt["message"] or attempt["error_type"]:
            notes.append(_why(attempt))
        before = attempt["worker_id"]
        if notes:
            yield _indented("; ".join(notes), width)
    yield from (_act(act, width) for act in acts)


def _ran(attempt: dict[str, Any], now: datetime) -> float:
    if attempt["run_seconds"] is not None:
        return float(attempt["run_seconds"])
    return max(0.0, (now - moment(attempt["started_at"])).total_seconds())


def _where(attempt: dict[str, Any]) -> str:
    worker = clause(attempt["worker_id"] or "?", 60)
    return f"{worker} ({attempt['device']})" if attempt["device"] else worker


def _why(attempt: dict[str, Any]) -> str:
    kind, message = attempt["error_type"], attempt["message"]
    said = clause(f"{kind}: {message}" if kind and message and kind != message else kind or message, 400)
    again = f"; again after {duration(attempt['delay'])}" if attempt["delay"] is not None else ""
    return said + again + ("" if attempt["counts"] else " (costs no attempt)")


def _indented(text: str, width: int) -> Text:
    # Wrapped by hand: rich has no hanging indent, and a table would widen the columns above it.
    lines = textwrap.wrap(printable(text), max(20, width - 21), break_on_hyphens=False)
    return Text("\n".join(f"{'':>21}{line}" for line in lines), style="dim")


def _act(act: dict[str, Any], width: int) -> Text:
    """What an operator did, when and why."""
    why = f": {clause(act['reason'])}" if act["reason"] else ""
    when = f"{stamp(moment(act['at']))} by {clause(act['by'])}{why}"
    if act["kind"] == "cancel_requested":
        said = f"asked to end, {when}"
    elif act["stage"] == "callback":
        said = f"run {act['run']} tells again{', as a new message' if act['as_new'] else ''}: requeued {when}"
    else:
        said = f"run {act['run']} from {act['stage']}: requeued {when}"
    lines = textwrap.wrap(printable(said), max(20, width - 4), break_on_hyphens=False)
    return Text("\n".join(f"  {'  ' if index else ''}{line}" for index, line in enumerate(lines)), style="dim")
