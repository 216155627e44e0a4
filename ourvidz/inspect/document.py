"""One job as a document for programs: plain JSON, versioned, secrets and signed URLs masked.

The keys of `document` are documented in docs/inspecting.md and only ever added to while `schema` stays the same.
"""

from typing import Any, Final

import msgspec

from ourvidz.acts import possible
from ourvidz.documents import plain
from ourvidz.inspect.anomalies import anomalies
from ourvidz.inspect.cost import cost, queue_waits
from ourvidz.inspect.pace import pace
from ourvidz.inspect.runs import interruptions, runs
from ourvidz.inspect.safety import safety
from ourvidz.inspect.sentence import sentence
from ourvidz.inspect.situation import Situation
from ourvidz.inspect.why import why
from statemachine import events as e
from statemachine.job import Asset, Attempt, Callback, Stored
from workers.enhancement import enhanced_prompt

SCHEMA: Final = 1
OF_THE_MOMENT: Final = frozenset(
    {
        "now",
        "at",
        "sentence",
        "why",
        "safe",
        "live",
        "lease",
        "queue_place",
        "workers_able",
        "workers_living",
    }
)
"""Keys that depend on more than the history: on the time, on workers, on leases, on queues."""


def document(s: Situation) -> dict[str, Any]:
    """Everything that is known of the job. Times are ISO-8601 in UTC, durations seconds, sizes bytes."""
    return plain(_moment(s) | _identity(s) | _story(s))


def reason_document(s: Situation) -> dict[str, Any]:
    """What `jobs why` tells: the part of `document` that says why the job is where it is."""
    whole = document(s)
    return {key: whole[key] for key in ("schema", "id", "now", "at", "state", "outcome", "why")}


def _moment(s: Situation) -> dict[str, Any]:
    """Where the job stands. Of a moment that is over nobody knows what worked on it, and what was before it."""
    live = not s.past
    return {
        "schema": SCHEMA,
        "id": s.job.id,
        "sentence": sentence(s),
        "now": s.now,
        "at": None if live else {"version": s.job.version, "time": s.now},
        "why": _why(s),
        "safe": msgspec.structs.asdict(safety(s)),
        "live": _live(s) if live and not s.job.state.terminal else None,
        "lease": _lease(s),
        "queue_place": None if s.ahead is None else s.ahead.total,
        "workers_able": [worker["worker_id"] for worker in s.able] if live else None,
        "workers_living": len(s.living) if live else None,
    }


def _identity(s: Situation) -> dict[str, Any]:
    """Who wants what, what was made of it, and with what."""
    job, media = s.job, s.job.media
    queued = next((row.event for row in s.history if isinstance(row.event, e.JobQueued)), None)
    loaded = [change.digest for change in job.model_changes if change.model == job.model and change.digest]
    return {
        "state": job.state,
        "outcome": job.outcome,
        "run": job.run,
        "version": job.version,
        "token": job.token,
        "job_type": job.job_type,
        "user_id": job.user_id,
        "model": job.model,
        "model_digest": media.model_digest if media is not None else loaded[-1] if loaded else None,
        "versions": {"worker": job.worker_version} | (media.versions if media is not None else {}),
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
        "enhanced_prompt": enhanced_prompt(job, s.content),
        "references": s.content.get("references") or [],
        "references_fetched": list(job.references),
        "erased": None if job.erased is None else msgspec.structs.asdict(job.erased),
        "asked": queued.asked if queued is not None else {},
        "resolved": job.request,
        "disagreements": queued.disagreements if queued is not None else [],
        "stages": list(job.stages),
        "runs": [msgspec.structs.asdict(run) for run in runs(s.history)],
        "error": None if job.error is None else msgspec.structs.asdict(job.error),
        "cancel": None if job.cancel_by is None else {"by": job.cancel_by, "reason": job.cancel_reason},
        "degraded": [{"what": what, "why": because} for what, because in job.degraded],
    }


def _story(s: Situation) -> dict[str, Any]:
    """What happened, what it cost, what is odd about it, and what can be done."""
    job, waits = s.job, queue_waits(s.history)
    return {
        "queue_waits": [msgspec.structs.asdict(wait) for wait in waits],
        "attempts": [_attempt(attempt) for attempt in job.attempts],
        "interruptions": [msgspec.structs.asdict(one) for one in interruptions(s.history)],
        "checkpoint": None if job.checkpoint is None else msgspec.structs.asdict(job.checkpoint),
        "assets": [_asset(asset) for asset in sorted(job.assets, key=lambda asset: (asset.run, asset.index))],
        "media": None if job.media is None else msgspec.to_builtins(job.media),
        "model_changes": [msgspec.structs.asdict(change) for change in job.model_changes],
        "callbacks": [_callback(call) for call in job.callbacks],
        "requeued": [
            {"run": row.event.run, "by": row.event.by, "reason": row.event.reason, "at": row.at}
            for row in s.history
            if isinstance(row.event, e.Requeued)
        ],
        "acts": [_act(row) for row in s.history if isinstance(row.event, e.CancelRequested | e.Requeued)],
        "actions": possible(job, whole=bool(s.content)),
        "rejected_writes": s.rejected,
        "cost": cost(job, waits),
        "anomalies": [msgspec.structs.asdict(one) for one in anomalies(s)],
        "events": [_event(row) for row in s.history],
    }


def _why(s: Situation) -> dict[str, Any]:
    reason = why(s)
    return {"reason": reason.reason, "said": reason.sentence}


def _live(s: Situation) -> dict[str, Any]:
    """What is going on: ages and times left, from the lease and from what the worker last said."""
    lease, now = s.lease or {}, s.now
    renewed, expires = lease.get("renewed_at"), lease.get("expires_at")
    resume_at = s.job.resume_at
    return msgspec.structs.asdict(pace(s)) | {
        "heartbeat_seconds": None if renewed is None else max(0.0, (now - renewed).total_seconds()),
        "expires_seconds": None if expires is None else (expires - now).total_seconds(),
        "due_seconds": None if resume_at is None else max(0.0, (resume_at - now).total_seconds()),
        "ahead": None if s.ahead is None else msgspec.structs.asdict(s.ahead),
        "files_at": s.files_at,
        "paused": None if s.paused is None else {key: s.paused[key] for key in ("paused_at", "paused_by", "reason")},
    }


def _lease(s: Situation) -> dict[str, Any] | None:
    if s.lease is None or s.lease.get("worker_id") is None:
        return None
    return {key: s.lease.get(key) for key in (
        "worker_id", "token", "expires_at", "renewed_at", "spool_host", "progress", "progress_at"
    )}  # fmt: skip


def _attempt(attempt: Attempt) -> dict[str, Any]:
    told = msgspec.structs.asdict(attempt)
    return told | {"wait_seconds": attempt.wait_seconds, "run_seconds": attempt.run_seconds}


def _asset(asset: Asset) -> dict[str, Any]:
    return msgspec.structs.asdict(asset)


def _callback(call: Callback) -> dict[str, Any]:
    told = msgspec.structs.asdict(call)
    return {"try": told.pop("try_"), **told}


def _act(row: Stored) -> dict[str, Any]:
    event = row.event
    told = {"kind": row.kind, "version": row.version, "at": row.at, "run": row.run}
    if isinstance(event, e.Requeued):
        return told | {"by": event.by, "reason": event.reason, "stage": event.stage, "as_new": event.as_new}
    assert isinstance(event, e.CancelRequested)
    return told | {"by": event.by, "reason": event.reason, "stage": row.to_state, "as_new": False}


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
