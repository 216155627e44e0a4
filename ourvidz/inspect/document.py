"""One job as a document for programs: plain JSON, versioned, secrets and signed URLs masked.

The keys of `document` are documented in docs/cli.md and only ever added to while `schema` stays the same.
"""

from typing import Any, Final

import msgspec

from ourvidz.acts import possible
from ourvidz.documents import plain
from ourvidz.inspect.sentence import sentence
from ourvidz.inspect.situation import Situation
from statemachine import events as e
from statemachine.job import Asset, Attempt, Callback, Stored

SCHEMA: Final = 1


def document(s: Situation) -> dict[str, Any]:
    """Everything that is known of the job. Times are ISO-8601 in UTC, durations seconds, sizes bytes."""
    job = s.job
    queued = next((row.event for row in s.history if isinstance(row.event, e.JobQueued)), None)
    return plain(
        {
            "schema": SCHEMA,
            "id": job.id,
            "sentence": sentence(s),
            "now": s.now,
            "state": job.state,
            "outcome": job.outcome,
            "run": job.run,
            "version": job.version,
            "token": job.token,
            "job_type": job.job_type,
            "user_id": job.user_id,
            "model": job.model,
            "queue": job.queue,
            "source": job.source,
            "priority": job.priority,
            "seed": job.seed,
            "times": {
                "created_at": job.created_at,
                "queued_at": job.queued_at,
                "run_at": job.run_at,
                "due_at": None if job.state.terminal else job.due_at,
                "resume_at": job.resume_at,
                "started_at": job.started_at,
                "outcome_at": job.outcome_at,
                "finished_at": job.finished_at,
            },
            "prompt": s.content.get("prompt"),
            "negative_prompt": s.content.get("negative_prompt"),
            "enhanced_prompt": s.content.get("enhanced_prompt"),
            "references": s.content.get("references") or [],
            "asked": queued.asked if queued is not None else {},
            "resolved": job.request,
            "disagreements": queued.disagreements if queued is not None else [],
            "stages": list(job.stages),
            "error": None if job.error is None else msgspec.structs.asdict(job.error),
            "cancel": None if job.cancel_by is None else {"by": job.cancel_by, "reason": job.cancel_reason},
            "degraded": [{"what": what, "why": why} for what, why in job.degraded],
            "lease": _lease(s),
            "queue_place": s.place,
            "workers_able": [worker["worker_id"] for worker in s.able],
            "workers_living": len(s.living),
            "attempts": [_attempt(attempt) for attempt in job.attempts],
            "assets": [_asset(asset) for asset in sorted(job.assets, key=lambda asset: (asset.run, asset.index))],
            "media": None if job.media is None else msgspec.to_builtins(job.media),
            "callbacks": [_callback(call) for call in job.callbacks],
            "requeued": [
                {"run": row.event.run, "by": row.event.by, "reason": row.event.reason, "at": row.at}
                for row in s.history
                if isinstance(row.event, e.Requeued)
            ],
            "acts": [_act(row) for row in s.history if isinstance(row.event, e.CancelRequested | e.Requeued)],
            "actions": possible(job, whole=bool(s.content)),
            "rejected_writes": s.rejected,
            "events": [_event(row) for row in s.history],
        }
    )


def _lease(s: Situation) -> dict[str, Any] | None:
    if s.lease is None or s.lease.get("worker_id") is None:
        return None
    return {key: s.lease.get(key) for key in (
        "worker_id", "token", "expires_at", "renewed_at", "spool_host", "progress", "progress_at"
    )}  # fmt: skip


def _attempt(attempt: Attempt) -> dict[str, Any]:
    plain = msgspec.structs.asdict(attempt)
    return plain | {"wait_seconds": attempt.wait_seconds, "run_seconds": attempt.run_seconds}


def _asset(asset: Asset) -> dict[str, Any]:
    return msgspec.structs.asdict(asset)


def _callback(call: Callback) -> dict[str, Any]:
    plain = msgspec.structs.asdict(call)
    return {"try": plain.pop("try_"), **plain}


def _act(row: Stored) -> dict[str, Any]:
    event = row.event
    plain = {"kind": row.kind, "at": row.at, "run": row.run}
    if isinstance(event, e.Requeued):
        return plain | {"by": event.by, "reason": event.reason, "stage": event.stage, "as_new": event.as_new}
    assert isinstance(event, e.CancelRequested)
    return plain | {"by": event.by, "reason": event.reason, "stage": row.to_state, "as_new": False}


def _event(row: Stored) -> dict[str, Any]:
    return {
        "version": row.version,
        "at": row.at,
        "kind": row.kind,
        "from_state": row.from_state,
        "to_state": row.to_state,
        "run": row.run,
        "stage": row.stage,
        "attempt": row.attempt,
        "worker_id": row.worker_id,
        "data": msgspec.json.decode(row.data),
        "digest": row.digest,
    }
