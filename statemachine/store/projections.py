"""The projections: what a job's row and the rows beside it are, as functions of its history alone."""

from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Executable, Table

from statemachine.job import Asset, Attempt, Callback, Job, ModelChange
from statemachine.store.schema import Row, job_assets, job_attempts, job_callbacks, job_model_changes, jobs

IMMUTABLE: Final = (
    "id",
    "job_type",
    "user_id",
    "queue",
    "source",
    "model",
    "priority",
    "turn",
    "seed",
    "reference_mode",
    "payload_digest",
    "created_at",
    "queued_at",
)
"""Columns of `jobs` that the first event sets for good."""


def job_row(job: Job) -> Row:
    """The job's row in `jobs`."""
    return {
        "id": job.id,
        "version": job.version,
        "digest": job.digest,
        "token": job.token,
        "run": job.run,
        "state": job.state.value,
        "outcome": None if job.outcome is None else job.outcome.value,
        "job_type": job.job_type,
        "user_id": job.user_id,
        "queue": job.queue,
        "source": job.source,
        "model": job.model,
        "priority": job.priority,
        "turn": job.turn,
        "seed": job.seed,
        "reference_mode": job.request.get("reference_mode"),
        "payload_digest": job.payload_digest,
        "worker_id": job.worker_id,
        "resume_at": job.resume_at,
        "cancel_requested": job.cancel_by is not None,
        "error_class": None if job.error is None else job.error.error_class,
        "error_type": None if job.error is None else _text(job.error.error_type),
        "error_message": None if job.error is None else _text(job.error.message),
        "attempts": len(job.attempts),
        "assets": len(job.current_assets),
        "device_seconds": None if job.media is None else job.media.device_seconds,
        "created_at": job.created_at,
        "queued_at": job.queued_at,
        "run_at": job.run_at,
        "due_at": job.due_at,
        "started_at": job.started_at,
        "outcome_at": job.outcome_at,
        "finished_at": job.finished_at,
        "updated_at": job.last_at,
    }


def attempt_row(job_id: str, attempt: Attempt) -> Row:
    """One row of `job_attempts`."""
    return {
        "job_id": job_id,
        "run": attempt.run,
        "stage": attempt.stage.value,
        "attempt": attempt.attempt,
        "worker_id": attempt.worker_id,
        "host": attempt.host,
        "device": attempt.device,
        "token": attempt.token,
        "due_at": attempt.due_at,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "wait_seconds": attempt.wait_seconds,
        "run_seconds": attempt.run_seconds,
        "outcome": attempt.outcome,
        "error_class": attempt.error_class,
        "error_type": _text(attempt.error_type),
        "error_message": _text(attempt.message),
        "delay_seconds": attempt.delay,
        "counts": attempt.counts,
        "device_seconds": attempt.device_seconds,
        "wasted_seconds": attempt.wasted_seconds,
    }


def asset_row(job_id: str, asset: Asset) -> Row:
    """One row of `job_assets`."""
    return {
        "job_id": job_id,
        "run": asset.run,
        "asset_index": asset.index,
        "seed": asset.seed,
        "name": asset.name,
        "digest": asset.digest,
        "bytes": asset.bytes,
        "width": asset.width,
        "height": asset.height,
        "frames": asset.frames,
        "content_type": asset.content_type,
        "seconds": asset.seconds,
        "bucket": asset.bucket,
        "key": asset.key,
        "url": asset.url,
        "uploaded_at": asset.uploaded_at,
    }


def callback_row(job_id: str, call: Callback) -> Row:
    """One row of `job_callbacks`. What the receiver answered stays in the history alone."""
    return {
        "job_id": job_id,
        "version": call.version,
        "run": call.run,
        "status": call.status,
        "try": call.try_,
        "delivered": call.delivered,
        "http_code": call.http_code,
        "ms": call.ms,
        "error": _text(call.error),
        "worker_id": call.worker_id,
        "at": call.at,
    }


def model_change_row(job_id: str, change: ModelChange) -> Row:
    """One row of `job_model_changes`."""
    return {
        "job_id": job_id,
        "version": change.version,
        "run": change.run,
        "kind": change.kind,
        "model": change.model,
        "place": change.place,
        "seconds": change.seconds,
        "bytes": change.bytes,
        "digest": change.digest,
        "worker_id": change.worker_id,
        "device": change.device,
        "at": change.at,
    }


def rows_of(job: Job) -> list[tuple[Table, list[Row]]]:
    """Every projection of the job, table by table. A job without a history has no row anywhere."""
    return [
        (jobs, [job_row(job)] if job.version else []),
        (job_attempts, [attempt_row(job.id, attempt) for attempt in job.attempts]),
        (job_assets, [asset_row(job.id, asset) for asset in job.assets]),
        (job_callbacks, [callback_row(job.id, call) for call in job.callbacks]),
        (job_model_changes, [model_change_row(job.id, change) for change in job.model_changes]),
    ]


def write_details(connection: Connection, changes: list[tuple[Job, Job]]) -> None:
    """Bring all but the own row of jobs that went from `before` to `after` up to date."""
    attempts: list[Row] = []
    assets: list[Row] = []
    callbacks: list[Row] = []
    model_changes: list[Row] = []
    for before, after in changes:
        known = set(before.attempts)
        attempts += [attempt_row(after.id, attempt) for attempt in after.attempts if attempt not in known]
        had = set(before.assets)
        assets += [asset_row(after.id, asset) for asset in after.assets if asset not in had]
        callbacks += [callback_row(after.id, call) for call in after.callbacks[len(before.callbacks) :]]
        changed = after.model_changes[len(before.model_changes) :]
        model_changes += [model_change_row(after.id, change) for change in changed]
        kept = {(asset.run, asset.index) for asset in after.assets}
        for asset in before.assets:
            if (asset.run, asset.index) not in kept:
                connection.execute(
                    job_assets.delete().where(
                        job_assets.c.job_id == after.id,
                        job_assets.c.run == asset.run,
                        job_assets.c.asset_index == asset.index,
                    )
                )
    upsert(connection, job_attempts, attempts)
    upsert(connection, job_assets, assets)
    upsert(connection, job_callbacks, callbacks)
    upsert(connection, job_model_changes, model_changes)


def upsert(connection: Connection, table: Table, rows: list[Row]) -> None:
    """INSERT … ON CONFLICT DO UPDATE by the primary key; the same statement on both databases."""
    if rows:
        connection.execute(_upserting(connection.dialect.name, table, tuple(rows[0])), rows)


@cache
def _upserting(dialect: str, table: Table, names: tuple[str, ...]) -> Executable:
    keys = [column.name for column in table.primary_key]
    statement = inserting(dialect, table)
    changes = {name: statement.excluded[name] for name in names if name not in keys}
    upserting: Executable = statement.on_conflict_do_update(index_elements=keys, set_=changes)
    return upserting


def inserting(dialect: str, table: Table) -> Any:
    """The dialect's own INSERT, which knows ON CONFLICT. Only its module is imported: the other costs 20 ms."""
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def _text(value: str | None) -> str | None:
    """PostgreSQL's text holds no NUL, and no database what UTF-8 cannot."""
    return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
