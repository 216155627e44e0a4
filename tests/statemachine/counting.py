"""What the reports have to say, counted from nothing but the rows of `job_events`, and not as projections count."""

import json
from collections import Counter
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, select

from statemachine.store.schema import job_events

Facts = dict[str, Any]
CLOSING = {
    "refs_fetched": "succeeded",
    "prompt_enhanced": "succeeded",
    "enhancement_skipped": "skipped",
    "media_generated": "succeeded",
    "media_uploaded": "succeeded",
    "assets_lost": "assets lost",
    "references_lost": "refs lost",
    "retry_scheduled": "retry",
    "interrupted": "interrupted",
    "outcome_decided": "failed",
    "job_completed": "succeeded",
    "job_failed": "succeeded",
    "job_cancelled": "succeeded",
}
"""What ends an attempt, and how, unless it says otherwise."""


def events_of(connection: Connection) -> dict[str, list[Facts]]:
    """Job → its events in order: the columns of each, and its own fields over them."""
    rows = connection.execute(select(job_events).order_by(job_events.c.job_id, job_events.c.version)).mappings()
    found = [{**row, **json.loads(row["data"])} for row in rows]
    return {job_id: list(those) for job_id, those in groupby(found, key=lambda event: str(event["job_id"]))}


def attempts_of(history: list[Facts]) -> list[Facts]:
    """Each beginning of a stage with the first event behind it that ends it."""
    found = []
    for number, event in enumerate(history):
        if event["kind"] == "stage_started":
            end = next((after for after in history[number + 1 :] if after["kind"] in CLOSING), None)
            attempt = {key: event[key] for key in ("job_id", "run", "stage", "attempt", "worker_id")}
            found.append({**attempt, "at": event["at"], **_end(event, end)})
    return found


def _end(event: Facts, end: Facts | None) -> Facts:
    if end is None:
        return {"ended_at": None, "seconds": None, "outcome": None, "error": None, "counts": True}
    outcome = CLOSING[end["kind"]]
    error = (end.get("error_class", "crash"), end.get("error_type") or end.get("reason"))
    if end["kind"] == "outcome_decided" and end["outcome"] == "cancelled":
        outcome = "cancelled"
    if end["kind"] == "job_failed" and end["error_type"] == "CallbackUndeliverable":
        outcome = "failed"
    return {
        "ended_at": end["at"],
        "seconds": between(event["at"], end["at"]),
        "outcome": outcome,
        "error": error if outcome in ("retry", "interrupted", "failed") else None,
        "counts": end.get("counts", True),
    }


def between(one: datetime, other: datetime) -> float:
    """Seconds from one to the other."""
    return (other - one).total_seconds()


def outcome_of(history: list[Facts]) -> tuple[str | None, datetime | None, tuple[str, str] | None]:
    """What was decided of the job's last run, when, and by which error. A run that only tells has what it tells."""
    verdict: tuple[str | None, tuple[str, str] | None] = (None, None)
    stands, at = verdict, None
    for event in history:
        match event["kind"]:
            case "requeued":
                stands, at = (verdict, event["at"]) if event["stage"] == "callback" else ((None, None), None)
            case "media_uploaded":
                stands, at = ("completed", None), event["at"]
                verdict = stands
            case "outcome_decided":
                stands, at = (event["outcome"], (event["error_class"], event["error_type"])), event["at"]
                verdict = stands
            case "job_failed":
                stands = ("failed", (event["error_class"], event["error_type"]))
    return stands[0], at, stands[1]


def made_in(history: list[Facts]) -> tuple[dict[int, Facts], float | None]:
    """The assets of the job's last run by index, and the device time of their generation."""
    assets: dict[int, Facts] = {}
    uploaded: set[int] = set()
    seconds = None
    for event in history:
        match event["kind"]:
            case "asset_generated":
                assets[event["index"]] = event
                uploaded.discard(event["index"])
            case "asset_uploaded":
                uploaded.add(event["index"])
            case "assets_lost":
                gone = {index for index, one in assets.items() if one["digest"] in event["missing"]} - uploaded
                assets = {index: one for index, one in assets.items() if index not in gone}
            case "media_generated":
                seconds = event["device_seconds"]
            case "requeued" if event["stage"] not in ("uploading", "callback"):
                assets, uploaded, seconds = {}, set(), None
    return assets, seconds


def failures_of(history: list[Facts]) -> Counter[tuple[str | None, ...]]:
    """(class, type, stage) of each failed attempt, and of a failed run that none of them explains."""
    met = [(one["error"], one["stage"]) for one in attempts_of(history) if one["error"] and one["counts"]]
    outcome, _, error = outcome_of(history)
    if outcome == "failed" and error not in [known for known, _ in met]:
        met.append((error, None))
    return Counter((*what, stage) for what, stage in met)
