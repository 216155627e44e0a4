"""What must hold of every job that has ended, in the world of one thread as under real signals."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from statemachine.job import Job
from statemachine.states import TERMINAL
from statemachine.store import EventStore
from statemachine.store.against_anchors import verify_anchors
from statemachine.store.codec import digest
from statemachine.store.verify import verify
from statemachine.table import REPLAY

ONCE_A_RUN: Final = frozenset(
    {"job_queued", "media_uploaded", "outcome_decided", "job_completed", "job_failed", "job_cancelled"}
)


def check_history(store: EventStore, job_id: str) -> None:
    """No gap, every digest, every step legal, each fact once, and an end. Raises AssertionError."""
    history = store.history(job_id)
    previous, state, holder = "", None, None
    for version, row in enumerate(history, start=1):
        assert row.version == version, f"version {row.version} where {version} was due"
        assert row.digest == digest(previous, row), f"the digest of version {version} does not verify"
        assert row.from_state == state, f"{row.kind} left {row.from_state}, the job was in {state}"
        assert row.to_state in REPLAY.get((row.kind, row.from_state or row.to_state), ()), f"illegal {row.kind}"
        if row.kind == "claimed":
            holder = row.worker_id
        assert row.worker_id in (None, holder), f"{row.kind} was written by {row.worker_id}, the job was {holder}'s"
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
    """Of a job that has ended: `told` are (status, id, body) as they arrived, `crashes` how often it was interrupted.

    Of each run one outcome, however often; nothing behind it; `processing` once, and once more for each sender that
    died. The last that was told is how the job stands.
    """
    runs: dict[str, list[tuple[str, str, bytes]]] = {}
    for each in told:
        runs.setdefault(each[1].split(":")[1], []).append(each)
    for arrived in runs.values():
        statuses = [status for status, _, _ in arrived]
        ends = {(status, name, body) for status, name, body in arrived if status != "processing"}
        assert len(ends) <= 1, f"{len(ends)} outcomes were told: {statuses}"
        last = next((status for status, _, _ in ends), "processing")
        assert statuses.index(last) == len(statuses) - statuses.count(last), f"told out of order: {statuses}"
        assert statuses.count("processing") <= 1 + crashes, f"{crashes} crashes, and {statuses}"
    expected = "completed" if job.state == "completed" else "failed"
    run = job.run if job.verdict is None else job.verdict.run
    outcomes = {name for status, name, _ in runs.get(str(run), []) if status == expected}
    assert outcomes == {f"{job.id}:{run}:{expected}"}, f"it is {job.state}, and {outcomes or 'nothing'} was told of it"


def check_projections(store: EventStore) -> None:
    """Made again from the events alone, they are what they were. Raises AssertionError."""
    changed = [rebuilt for rebuilt in store.rebuild() if rebuilt.changed]
    assert changed == [], f"the projections differ from the history: {changed}"


def check_verified(store: EventStore) -> None:
    """What `jobs verify` says of histories and anchors: nothing. Raises AssertionError."""
    findings = [finding for batch in verify(store.engine) for one in batch for finding in one.findings]
    findings += [finding for seen in verify_anchors(store.engine, keys=[]) for finding in seen.findings]
    assert findings == [], f"verifying finds: {findings}"
