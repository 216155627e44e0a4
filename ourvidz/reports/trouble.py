"""What went wrong, and what was done again: `failures`, `retries`."""

from typing import Final

from ourvidz.reports.answer import Answer, Row
from ourvidz.reports.asking import Asking, added_up, by_keys, part
from ourvidz.reports.columns import count, name, seconds, share
from ourvidz.reports.names import By
from statemachine.store.facts import ATTEMPTS, FAILURES

AGAIN: Final = frozenset({"retry", "interrupted", "superseded", "assets lost", "refs lost"})
"""Outcomes of attempts behind which a stage is due once more."""

_ERROR: Final = [name("error_class", "class"), name("error_type", "error")]


def failures(ask: Asking) -> Answer:
    """What jobs failed of; by worker, the attempts of which they did."""
    lines = [ask.line(ask.by)] if ask.by else []
    if ask.by is By.WORKER:
        found = [
            row for row in ask.sums(ATTEMPTS, "outcome", "error_class", "error_type") if row["outcome"] == "failed"
        ]
        about, what = (
            "Attempts with which a job failed, by their worker; a refused payload was no worker's.",
            "attempts",
        )
    else:
        found = ask.sums(FAILURES, "error_class", "error_type")
        about, what = "Jobs that ended as failed, and of what.", "jobs"
    total = sum(row[what] for row in found)
    rows = [row | {"share": part(row[what], total)} for row in found]
    return ask.answer(
        about,
        [*lines, *_ERROR],
        [count(what), share("share", "share")],
        rows,
        {what: total, "share": part(total, total)},
    )


def retries(ask: Asking) -> Answer:
    """Stages that had to be done again, why, and what that cost."""
    keys = [ask.line(ask.by)] if ask.by else [name("stage", "stage")]
    keys += _ERROR
    names = [key.name for key in keys]
    own = [key.name for key in keys if not ask.by or key.name not in (ask.by.key, ask.by.moment)]
    every = ask.sums(ATTEMPTS, *own, "outcome")
    again = [row for row in every if row["outcome"] in AGAIN]
    sums = ("attempts", "delay_seconds", "wasted_seconds")
    groups = by_keys(again, names).items()
    rows: list[Row] = [dict(zip(names, key, strict=True)) | added_up(those, sums) for key, those in groups]
    attempts = sum(row["attempts"] for row in every)
    for row in rows:
        row["share"] = part(row["attempts"], attempts)
    totals = added_up(rows, sums)
    totals["share"] = part(totals["attempts"], attempts)
    return ask.answer(
        "Attempts behind which their stage was due once more; the share is of all attempts that ended.",
        keys,
        [
            count("attempts"),
            share("share", "of all"),
            seconds("delay_seconds", "put off"),
            seconds("wasted_seconds", "device wasted"),
        ],
        rows,
        totals,
    )
