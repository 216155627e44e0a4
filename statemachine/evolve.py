"""How each event changes a job. `evolve` never raises on stored history; what may happen at all is judged elsewhere."""

from datetime import datetime

from msgspec.structs import replace

from statemachine import events as e
from statemachine.attempts import begun, closed, drawn
from statemachine.job import (
    CHECKPOINTS_KEPT,
    Asset,
    Callback,
    Checkpoint,
    Erasure,
    Error,
    Job,
    ModelChange,
    Stored,
    Verdict,
)
from statemachine.states import TERMINAL, Outcome, State


def stage_after(job: Job, state: State) -> State:
    """The next stage of this job's plan behind `state`; `callback` closes every plan."""
    order = list(State)
    later = [stage for stage in job.stages if order.index(stage) > order.index(state)]
    return later[0] if later else State.CALLBACK


def target(job: Job, event: e.Event) -> State:
    """The state in which `event` leaves the job, by the job's plan. `judge` says whether it may."""
    match event:
        case e.Claimed():
            return stage_after(job, State.QUEUED) if job.state is State.QUEUED else job.state
        case e.RefsFetched() if _sent_back(job):
            return State.GENERATING
        case e.RefsFetched() | e.PromptEnhanced() | e.EnhancementSkipped() | e.MediaGenerated() | e.MediaUploaded():
            return stage_after(job, job.state)
        case e.AssetsLost():
            return State.GENERATING
        case e.ReferencesLost():
            return State.FETCHING_REFS
        case e.OutcomeDecided():
            return State.CALLBACK
        case e.JobCompleted():
            return State.COMPLETED
        case e.JobFailed():
            return State.FAILED
        case e.JobCancelled():
            return State.CANCELLED
        case e.Requeued(stage=stage):
            return State(stage)
        case _:
            return job.state


def _sent_back(job: Job) -> bool:
    """Whether this run had come to generating, and only its references were lost: the prompt has had its verdict."""
    return any(attempt.outcome == "refs lost" for attempt in job.tries(State.GENERATING))


def evolve(job: Job, stored: Stored) -> Job:
    """Fold one stored event into the job. Unknown kinds change nothing but version, digest and state."""
    at = stored.at
    after = replace(
        _apply(job, stored), version=stored.version, digest=stored.digest, state=stored.to_state, last_at=at
    )
    if after.state is not job.state:
        after = replace(after, due_at=at, lost_waiting=0)
        if after.state in TERMINAL:
            after = replace(after, finished_at=at, worker_id=None, resume_at=None)
    return after


def _apply(job: Job, stored: Stored) -> Job:
    at = stored.at
    match stored.event:
        case e.JobQueued() as event:
            return replace(
                job,
                job_type=event.job_type,
                user_id=event.user_id,
                queue=event.queue,
                source=event.source,
                model=event.model,
                priority=event.priority,
                turn=event.turn,
                seed=event.seed,
                payload_digest=event.payload_digest,
                content_digest=event.content_digest,
                stages=tuple(State(stage) for stage in event.stages),
                request=event.request,
                created_at=None if event.created_at is None else _time(event.created_at),
                queued_at=at,
                run_at=at,
                due_at=at,
            )
        case e.Claimed(worker=worker, host=host, device=device, token=token, version=version):
            verdict = job.verdict
            if verdict is not None and verdict.worker_version is None:
                verdict = replace(verdict, worker_version=version)
            return replace(
                job,
                worker_id=worker,
                host=host,
                device=device,
                token=token,
                worker_version=version,
                verdict=verdict,
                resume_at=None,
            )
        case e.StageStarted() as event:
            return begun(job, stored, event)
        case e.RefsFetched(references=references):
            return replace(closed(job, at, "succeeded"), references=tuple(references))
        case e.PromptEnhanced(digest=digest, seconds=seconds):
            return replace(closed(job, at, "succeeded", device=seconds), enhanced_digest=digest)
        case e.EnhancementSkipped(reason=reason):
            return replace(closed(job, at, "skipped"), enhancement_skipped=reason)
        case e.Checkpointed() as event:
            newest = Checkpoint(
                step=event.step,
                of=event.of,
                name=event.name,
                digest=event.digest,
                device_seconds=event.device_seconds,
            )
            older = tuple(one for one in job.checkpoints if one.name != event.name)
            return replace(
                job,
                checkpoints=(*older, newest)[-CHECKPOINTS_KEPT:],
                device_kept=max(job.device_kept, event.device_seconds - job.device_base),
            )
        case e.CheckpointDiscarded(name=name):
            left = replace(job, checkpoints=tuple(one for one in job.checkpoints if one.name != name))
            return replace(left, device_base=drawn(left), device_kept=0.0)
        case e.ModelLoaded() as event:
            return _with_model_change(
                job, stored, event.model, "device", event.seconds, event.bytes, digest=event.digest
            )
        case e.ModelMoved() as event:
            return _with_model_change(job, stored, event.model, event.to, event.seconds, event.bytes)
        case e.AssetGenerated() as event:
            asset = Asset(
                run=job.run,
                index=event.index,
                seed=event.seed,
                name=event.name,
                digest=event.digest,
                bytes=event.bytes,
                width=event.width,
                height=event.height,
                frames=event.frames,
                content_type=event.content_type,
                seconds=event.seconds,
            )
            others = tuple(a for a in job.assets if (a.run, a.index) != (job.run, event.index))
            since = (at - job.open_attempt.started_at).total_seconds() if job.open_attempt is not None else 0.0
            return replace(job, assets=(*others, asset), device_kept=max(job.device_kept, since))
        case e.MediaGenerated() as event:
            measured = max(event.device_seconds - job.device_base, 0.0)
            return replace(closed(job, at, "succeeded", device=measured), media=event, checkpoints=())
        case e.AssetUploaded() as event:
            assets = tuple(
                replace(a, bucket=event.bucket, key=event.key, url=event.url, uploaded_at=at)
                if (a.run, a.index) == (job.run, event.index)
                else a
                for a in job.assets
            )
            return replace(job, assets=assets)
        case e.MediaUploaded():
            verdict = _verdict(job, Outcome.COMPLETED, None, at)
            return replace(
                closed(job, at, "succeeded"), outcome=Outcome.COMPLETED, outcome_at=at, error=None, verdict=verdict
            )
        case e.AssetsLost(missing=missing, reason=reason):
            assets = tuple(a for a in job.assets if a.run != job.run or a.digest not in missing or a.key is not None)
            return replace(closed(job, at, "assets lost", message=reason), assets=assets)
        case e.ReferencesLost(reason=reason):
            # The checkpoint goes too: what is fetched now may be less than what its steps were drawn with.
            # So do the notes on those that were missing: they are asked for once more.
            degraded = tuple(note for note in job.degraded if note[0] != "references")
            drawn_anew = replace(job, device_kept=0.0)
            return replace(closed(drawn_anew, at, "refs lost", message=reason), checkpoints=(), degraded=degraded)
        case e.CallbackSent() as event:
            call = Callback(
                version=stored.version,
                run=job.run,
                status=event.status,
                id=event.id,
                try_=event.try_,
                at=at,
                delivered=event.delivered,
                http_code=event.http_code,
                ms=event.ms,
                answer=event.answer,
                error=event.error,
                worker_id=stored.worker_id,
            )
            return replace(job, callbacks=(*job.callbacks, call))
        case e.Degraded(what=what, why=why):
            return replace(job, degraded=(*job.degraded, (what, why)))
        case e.RetryScheduled() as event:
            error = Error(error_class=event.error_class, error_type=event.error_type, message=event.message)
            # A retry of the telling leaves the outcome's own reason in place.
            kept = job.error if job.outcome is Outcome.FAILED else error
            resume_at = _time(event.resume_at)
            return replace(
                closed(job, at, "retry", error, delay=event.delay),
                token=event.token,
                worker_id=None,
                resume_at=resume_at,
                due_at=resume_at,
                error=kept,
            )
        case e.Interrupted() as event:
            error = Error(error_class=event.error_class, error_type=event.reason, message=event.detail or event.reason)
            waiting = event.counts and job.open_attempt is None
            return replace(
                closed(job, at, "interrupted", error, counts=event.counts),
                lost_waiting=job.lost_waiting + waiting,
                token=event.token,
                worker_id=None,
                resume_at=None,
                due_at=at,
            )
        case e.CancelRequested(by=by, reason=reason):
            return replace(job, cancel_by=by, cancel_reason=reason)
        case e.OutcomeDecided() as event:
            error = Error(error_class=event.error_class, error_type=event.error_type, message=event.message)
            outcome = Outcome(event.outcome)
            in_vain = replace(job, device_kept=0.0)
            ended = closed(in_vain, at, "cancelled" if outcome is Outcome.CANCELLED else "failed", error)
            return replace(
                ended,
                outcome=outcome,
                outcome_at=at,
                error=error,
                verdict=_verdict(job, outcome, error, at),
                checkpoints=(),
                resume_at=None,
            )
        case e.JobCompleted():
            return replace(closed(job, at, "succeeded"), outcome=Outcome.COMPLETED, error=None)
        case e.JobFailed() as event:
            error = Error(error_class=event.error_class, error_type=event.error_type, message=event.message)
            told = event.error_type != e.UNDELIVERABLE
            return replace(
                closed(job, at, "succeeded" if told else "failed", None if told else error),
                outcome=Outcome.FAILED,
                error=error,
            )
        case e.JobCancelled():
            return replace(closed(job, at, "succeeded"), outcome=Outcome.CANCELLED)
        case e.Requeued() as event:
            return _next_run(job, event, at)
        case e.ContentErased(by=by, reason=reason, files=files):
            return replace(job, erased=Erasure(by=by, reason=reason, at=at, files=tuple(files), files_removed_at=None))
        case e.FilesRemoved() if job.erased is not None:
            return replace(job, erased=replace(job.erased, files_removed_at=at))
        case _:
            return job


def _next_run(job: Job, event: e.Requeued, at: datetime) -> Job:
    """A run that starts behind generation keeps what the run before it made; one that only tells, its outcome.

    One that starts before its references were fetched takes them as they are by then; any other knows which they were.
    """
    stage = State(event.stage)
    made = stage in (State.UPLOADING, State.CALLBACK)
    anew = stage in (State.QUEUED, State.FETCHING_REFS)
    verdict = job.verdict if stage is State.CALLBACK else None
    if verdict is not None and event.as_new:
        verdict = replace(verdict, run=event.run)
    outcome = None if verdict is None else verdict.outcome
    return replace(
        job,
        run=event.run,
        token=job.token + 1,
        outcome=outcome,
        outcome_at=None if outcome is None else at,
        error=None if verdict is None else verdict.error,
        verdict=verdict,
        finished_at=None,
        run_at=at,
        checkpoints=(),
        references=() if anew else job.references,
        cancel_by=job.cancel_by if outcome is Outcome.CANCELLED else None,
        cancel_reason=job.cancel_reason if outcome is Outcome.CANCELLED else None,
        resume_at=None,
        degraded=job.degraded if made else (),
        media=job.media if made else None,
        assets=(*job.assets, *(replace(asset, run=event.run) for asset in job.current_assets)) if made else job.assets,
    )


def _verdict(job: Job, outcome: Outcome, error: Error | None, at: datetime) -> Verdict:
    return Verdict(
        outcome=outcome,
        error=error,
        run=job.run,
        begun_at=job.run_at or at,
        at=at,
        worker_version=job.worker_version,
    )


def _with_model_change(
    job: Job, stored: Stored, model: str, place: str, seconds: float, size: int, *, digest: str | None = None
) -> Job:
    change = ModelChange(
        version=stored.version,
        run=job.run,
        kind=stored.kind,
        model=model,
        place=place,
        seconds=seconds,
        bytes=size,
        digest=digest,
        worker_id=stored.worker_id,
        device=job.device,
        at=stored.at,
    )
    return replace(job, model_changes=(*job.model_changes, change))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
