"""What happened to a job, in order: time in the queue, attempts, and what others did between them.

Works on the document.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from ourvidz.inspect.page import Remark, Step, Timeline
from ourvidz.tones import tone_of
from ourvidz.wording import clause, duration

LEAST: Final = 0.001
"""Seconds that a bar's full length stands for at least."""


def timeline(d: dict[str, Any]) -> Timeline | None:
    """The whole of it; None where nothing has happened yet."""
    began, now = moment(d["times"]["queued_at"] or d["now"]), moment(d["now"])
    steps = [*_waits(d, began, now), *_attempts(d, began, now)]
    remarks = [*_acts(d, began), *_refused(d, began), *_lost(d, began)]
    if not steps and not remarks:
        return None
    # A remark stands before the attempt that begins at the same time: who requeues comes before what is requeued.
    entries: list[Step | Remark] = sorted([*remarks, *steps], key=lambda entry: entry.at)
    longest = max([(step.wait or 0.0) + (step.run or 0.0) for step in steps], default=0.0)
    return Timeline(entries=entries, longest=max(longest, LEAST), began=began)


def moment(text: str) -> datetime:
    """A time of the document."""
    return datetime.fromisoformat(text)


def why_ended(attempt: dict[str, Any]) -> str:
    """What an attempt met, in one line; empty for one that met nothing."""
    kind, message = attempt["error_type"], attempt["message"]
    if not kind and not message:
        return ""
    said = clause(f"{kind}: {message}" if kind and message and kind != message else kind or message, 400)
    again = f"; again after {duration(attempt['delay'])}" if attempt["delay"] is not None else ""
    return said + again + ("" if attempt["counts"] else " (costs no attempt)")


def _waits(d: dict[str, Any], began: datetime, now: datetime) -> Iterator[Step]:
    for wait in d["queue_waits"]:
        since, until = moment(wait["since"]), wait["until"]
        yield Step(
            at=since,
            after=(since - began).total_seconds(),
            stage="queued",
            attempt=None,
            wait=max(0.0, ((now if until is None else moment(until)) - since).total_seconds()),
            run=None,
            outcome="waiting" if until is None else "",
        )


def _attempts(d: dict[str, Any], began: datetime, now: datetime) -> Iterator[Step]:
    for attempt in d["attempts"]:
        started, outcome = moment(attempt["started_at"]), attempt["outcome"] or "running"
        ran = attempt["run_seconds"]
        notes = []
        if why := why_ended(attempt):
            notes.append(why)
        if attempt["wasted_seconds"]:
            notes.append(f"{duration(attempt['wasted_seconds'])} of device time for nothing")
        yield Step(
            at=started,
            after=(started - began).total_seconds(),
            stage=attempt["stage"],
            attempt=attempt["attempt"],
            wait=attempt["wait_seconds"],
            run=max(0.0, (now - started).total_seconds()) if ran is None else float(ran),
            outcome=outcome,
            worker=clause(attempt["worker_id"] or "?", 60),
            device=attempt["device"] or None,
            tone=tone_of(outcome),
            notes=tuple(notes),
        )


def _acts(d: dict[str, Any], began: datetime) -> Iterator[Remark]:
    """What operators did, when and why."""
    for act in d["acts"]:
        at, by = moment(act["at"]), clause(act["by"] or "somebody")
        why = f": {clause(act['reason'])}" if act["reason"] else ""
        if act["kind"] == "cancel_requested":
            said = f"{by} asked for its end{why}"
        elif act["stage"] == "callback":
            said = f"{by} had it told again{', as a new message' if act['as_new'] else ''}, run {act['run']}{why}"
        else:
            said = f"{by} requeued it, run {act['run']} from {act['stage']}{why}"
        yield Remark(at=at, after=(at - began).total_seconds(), said=said, tone="odd")
    if (erased := d["erased"]) is not None:
        at, why = moment(erased["at"]), f": {clause(erased['reason'])}" if erased["reason"] else ""
        said = f"{clause(erased['by'])} had its content erased{why}"
        yield Remark(at=at, after=(at - began).total_seconds(), said=said, tone="odd")


def _refused(d: dict[str, Any], began: datetime) -> Iterator[Remark]:
    for row in d["rejected_writes"]:
        at = moment(row["at"])
        said = f"{clause(row['worker_id'] or 'somebody', 60)} was refused what it wrote: {clause(row['kinds'], 100)}"
        yield Remark(at=at, after=(at - began).total_seconds(), said=said, tone="warn")


def _lost(d: dict[str, Any], began: datetime) -> Iterator[Remark]:
    """Interruptions of a worker that had not begun: no attempt tells of them."""
    for one in d["interruptions"]:
        if one["attempt"] is not None:
            continue
        at = moment(one["at"])
        detail = f": {clause(one['detail'])}" if one["detail"] else ""
        costs = "" if one["counts"] else " (costs no attempt)"
        who = clause(one["worker_id"] or "its worker", 60)
        said = f"{who} had not begun {one['stage']} when the lease ended ({clause(one['reason'])}{detail}){costs}"
        yield Remark(at=at, after=(at - began).total_seconds(), said=said, tone="warn")
