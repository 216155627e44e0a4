"""What is odd about one job: found in its history, and in what stands beside it. An anomaly is no verdict."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from ourvidz.inspect.situation import Situation
from ourvidz.wording import clause, clock, duration, plural
from statemachine import events as e
from statemachine.decisions import on_trial
from statemachine.expectations import expected
from statemachine.finding import Wrong

_WRONG: Final = (
    Wrong.MISSING,
    Wrong.MOVED,
    Wrong.CHANGED,
    Wrong.ILLEGAL,
    Wrong.PROJECTION,
    Wrong.CUT,
    Wrong.REWRITTEN,
    Wrong.INSERTED,
)
"""What `jobs verify` finds of a job without asking the storage."""

KINDS: Final[Mapping[str, str]] = {wrong.value: wrong.about for wrong in _WRONG} | {
    "producers_clock": "the producer dated the job later than it came in",
    "unknown_event": "an event of a kind that this version does not know",
    "rejected_write": "a worker that had lost its lease tried to write",
    "superseded": "an attempt was neither ended nor interrupted before the next one began",
    "on_trial": "one more death of its worker, and the job fails as poison",
    "checkpoint_discarded": "a checkpoint was of no use when it was needed",
    "assets_lost": "files were gone before they were uploaded",
    "references_lost": "references were gone before they were used",
    "told_twice": "the receiver has accepted one message more than once",
    "fast": "its generation took less than half of the least that is expected of its type",
    "slow": "its generation took more than twice the most that is expected of its type",
}
"""What an anomaly may be. Programs rely on the names."""

CLOCKS_APART: Final = 1.0
"""Seconds by which a producer's clock may be ahead before it is worth a word."""
FAR: Final = 2.0
"""A time is far outside of what is expected when it is so many times less or more than that."""


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is one of KINDS; `version` and `at` say where in the history, as far as it has a place there."""

    kind: str
    said: str
    version: int | None = None
    at: datetime | None = None


def anomalies(s: Situation) -> list[Anomaly]:
    """All of them: first those of the whole job, then the others as they happened."""
    placed = [*_history(s), *_rejected(s), *_told_twice(s)]
    order = sorted(placed, key=lambda one: (one.at or s.now, one.version or 0))
    return [*_whole(s), *order]


def _whole(s: Situation) -> Iterator[Anomaly]:
    job = s.job
    for finding in s.findings:
        yield Anomaly(kind=finding.kind.value, said=clause(finding.said, 300), version=finding.version)
    if job.created_at is not None and job.queued_at is not None:
        ahead = (job.created_at - job.queued_at).total_seconds()
        if ahead > CLOCKS_APART:
            yield Anomaly(kind="producers_clock", said=f"its producer's clock is {duration(ahead)} ahead of ours")
    if job.outcome is None and job.attempts and on_trial(job):
        yield Anomaly(kind="on_trial", said=f"one more interruption while {job.state}, and it fails as poison")
    yield from _pace(s)


def _pace(s: Situation) -> Iterator[Anomaly]:
    """The generation's time against its type's. Models that draw small, and engines that draw nothing, are left out."""
    media, drawn = s.job.media, len(s.job.current_assets)
    if media is None or media.engine == "null" or media.render_scale not in (None, "1"):
        return
    usual = expected(s.job.job_type, drawn)
    if usual is None:
        return
    least, most, took = usual.least, usual.most, media.device_seconds
    between = f"{duration(least)} to {duration(most)}" if most is not None else f"{duration(least)} and more"
    said = (
        f"{plural(drawn, 'file')} took {duration(took)} of device time, where {between} are usual for {s.job.job_type}"
    )
    if took * FAR < least:
        yield Anomaly(kind="fast", said=said)
    elif most is not None and took > most * FAR:
        yield Anomaly(kind="slow", said=said)


def _history(s: Situation) -> Iterator[Anomaly]:
    for row in s.history:
        match row.event:
            case e.Unknown():
                kind, said = "unknown_event", f"{clause(row.kind)} is no kind that this version knows"
            case e.CheckpointDiscarded(name=name, reason=reason):
                kind, said = "checkpoint_discarded", f"{clause(name)} was of no use: {clause(reason)}"
            case e.AssetsLost(missing=missing, reason=reason):
                kind, said = "assets_lost", f"{plural(len(missing), 'file')} lost: {clause(reason)}"
            case e.ReferencesLost(missing=missing, reason=reason):
                kind, said = "references_lost", f"{plural(len(missing), 'reference')} lost: {clause(reason)}"
            case _:
                continue
        yield Anomaly(kind=kind, said=said, version=row.version, at=row.at)
    for attempt in s.job.attempts:
        if attempt.outcome == "superseded" and attempt.counts:
            said = f"attempt {attempt.attempt} at {attempt.stage} in run {attempt.run} was left open, and counts"
            yield Anomaly(kind="superseded", said=said, at=attempt.ended_at)


def _rejected(s: Situation) -> Iterator[Anomaly]:
    for row in s.rejected:
        who, what = clause(row["worker_id"] or "somebody", 60), clause(row["kinds"], 100)
        said = f"{who} was refused {what} at {clock(row['at'])}: {clause(row['reason'], 200)}"
        yield Anomaly(kind="rejected_write", said=said, at=row["at"])


def _told_twice(s: Situation) -> Iterator[Anomaly]:
    delivered = Counter((call.id, call.status) for call in s.job.callbacks if call.delivered)
    for (callback_id, status), number in delivered.items():
        runs = {call.run for call in s.job.callbacks if call.delivered and call.id == callback_id}
        if number > len(runs):  # who resends tells again on purpose, in a run of its own
            last = [call for call in s.job.callbacks if call.delivered and call.id == callback_id][-1]
            said = f"{status} was accepted {number} times under {clause(callback_id)}"
            yield Anomaly(kind="told_twice", said=said, version=last.version, at=last.at)
