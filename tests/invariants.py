"""What must hold of every job that has ended, in the world of one thread as under real signals."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from statemachine.job import Job
from statemachine.states import TERMINAL
from statemachine.store import EventStore
from statemachine.store.codec import digest
from statemachine.table import REPLAY

ONCE_A_RUN: Final = frozenset(
    {"job_queued", "media_uploaded", "outcome_decided", "job_completed", "job_failed", "job_cancelled"}
)


def check_history(store: EventStore, job_id: str) -> None:
    """No gap, every digest, every step legal, each fact once, and an end. Raises AssertionError."""
    history = store.history(job_id)
    previous, state = "", None
    for version, row in enumerate(history, start=1):
        assert row.version == version, f"version {row.version} where {version} was due"
        assert row.digest == digest(previous, row), f"the digest of version {version} does not verify"
        assert row.from_state == state, f"{row.kind} left {row.from_state}, the job was in {state}"
        assert row.to_state in REPLAY.get((row.kind, row.from_state or row.to_state), ()), f"illegal {row.kind}"
        previous, state = row.digest, row.to_state
    job = store.load(job_id)
    assert job.state in TERMINAL, f"it ended in {job.state}"
    counts = Counter((row.run, row.kind) for row in history)
    for (run, kind), count in counts.items():
        assert count == 1 or kind not in ONCE_A_RUN, f"{kind} happened {count} times in run {run}"
    uploads = Counter(
        (row.run, msgspec.json.decode(row.data).get("index", 0)) for row in history if row.kind == "asset_uploaded"
    )
    assert all(count == 1 for count in uploads.values()), f"an upload is told twice: {uploads}"
    assert all(attempt.ended_at is not None for attempt in job.attempts), "an attempt never ended"


def check_told(job: Job, told: Iterable[tuple[str, str, bytes]], *, crashes: int) -> None:
    """Of a job of one run: `told` are (status, id, body) as they arrived, `crashes` how often it was interrupted.

    One outcome, however often; nothing behind it; `processing` once, and once more for each sender that died.
    """
    arrived = list(told)
    statuses = [status for status, _, _ in arrived]
    outcomes = {(name, body) for status, name, body in arrived if status != "processing"}
    assert len(outcomes) == 1, f"{len(outcomes)} outcomes were told: {statuses}"
    expected = "completed" if job.state == "completed" else "failed"
    assert {status for status in statuses if status != "processing"} == {expected}, statuses
    assert {name for name, _ in outcomes} == {f"{job.id}:{job.run}:{expected}"}, f"told under another id: {outcomes}"
    assert statuses.index(expected) == len(statuses) - statuses.count(expected), f"told out of order: {statuses}"
    assert statuses.count("processing") <= 1 + crashes, f"{crashes} crashes, and {statuses}"


def check_projections(store: EventStore) -> None:
    """Made again from the events alone, they are what they were. Raises AssertionError."""
    changed = [rebuilt for rebuilt in store.rebuild() if rebuilt.changed]
    assert changed == [], f"the projections differ from the history: {changed}"
