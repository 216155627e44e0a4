"""The one sentence with which `jobs inspect` opens: state, since when, why, what happens next and when."""

from typing import Any, Final

from ourvidz.inspect.situation import Situation
from ourvidz.masking import mask
from ourvidz.wording import clause, clock, duration, listed, ordinal, plural, since
from statemachine import events as e
from statemachine.decisions import UNDELIVERABLE
from statemachine.job import Attempt, Job
from statemachine.states import Outcome, State

DOING: Final = {
    State.QUEUED: "Queued",
    State.FETCHING_REFS: "Fetching references",
    State.ENHANCING: "Enhancing the prompt",
    State.GENERATING: "Generating",
    State.UPLOADING: "Uploading",
    State.CALLBACK: "Telling the receiver",
}
THEN: Final = {
    State.FETCHING_REFS: "its references are fetched",
    State.ENHANCING: "its prompt is enhanced",
    State.GENERATING: "it is generated",
    State.UPLOADING: "it is uploaded",
    State.CALLBACK: "its receiver is told",
}


def sentence(s: Situation) -> str:
    """One sentence on one line, passwords and signed URLs masked."""
    job = s.job
    if job.state.terminal:
        said = _ended(s)
    elif job.worker_id is not None:
        said = _held(s, job.worker_id)
    elif job.resume_at is not None and job.resume_at > s.now:
        said = _resting(s)
    else:
        said = _waiting(s)
    return mask(f"Run {job.run}: {said[0].lower()}{said[1:]}." if job.run > 1 else f"{said}.")


def made(job: Job) -> str:
    """`1 picture`, `3 pictures`, `1 video`, with the buckets where they lie."""
    assets = job.current_assets
    video = any(asset.content_type.startswith("video/") for asset in assets)
    buckets = sorted({asset.bucket for asset in assets if asset.bucket})
    return plural(len(assets), "video" if video else "picture") + (f" in {listed(buckets)}" if buckets else "")


def _ended(s: Situation) -> str:
    job = s.job
    ago = f"{since(job.finished_at or s.now, s.now)} ago"
    if job.state is State.COMPLETED and job.only_tells:
        return f"Completed by an earlier run with {made(job)}; {_told(s)} again, {ago}"
    if job.state is State.COMPLETED:
        took = since(job.run_at or s.now, job.outcome_at or s.now)
        return f"Completed {ago} with {made(job)}, {took} after it was queued; {_told(s)}"
    if job.state is State.CANCELLED:
        why = f": {clause(job.cancel_reason)}" if job.cancel_reason else ""
        return f"Cancelled {ago} by {clause(job.cancel_by or 'somebody')}{why}; {_told(s)}"
    if job.error is None:
        return f"Failed {ago} for a reason that its history does not tell; {_told(s)}"
    kind, message = job.error.error_type, clause(job.error.message)
    if kind == UNDELIVERABLE:
        tries = len([call for call in job.callbacks if call.run == job.run and call.status != "processing"])
        be = "is" if len(job.current_assets) == 1 else "are"
        kept = f"; its {made(job)} {be} kept" if job.current_assets else ""
        return (
            f"Failed {ago} because its receiver could not be told in {plural(tries, 'try', 'tries')}: {message}{kept}"
        )
    if kind == "InvalidPayload":
        return f"Failed {ago}, when it arrived: its payload was refused ({_bare(message)}); {_told(s)}"
    last = s.last_attempt
    failed = next((a for a in reversed(job.attempts) if a.run == job.run and a.outcome == "failed"), None)
    where = f" while {DOING[failed.stage].lower()}" if failed is not None else ""
    tries = len([a for a in job.attempts if failed and a.run == job.run and a.stage is failed.stage])
    again = f", after {plural(tries, 'attempt')}" if last is not None and tries > 1 else ""
    return f"Failed {ago}{where}: {message} ({clause(kind)}{again}); {_told(s)}"


def _told(s: Situation) -> str:
    ended = s.last(e.JobCompleted, e.JobFailed, e.JobCancelled)
    notified = ended is not None and getattr(ended.event, "notified", False)
    return "its receiver was told" if notified else "nobody was told, as no receiver is configured"


def _held(s: Situation, worker: str) -> str:
    job = s.job
    on = f"{clause(worker)} ({job.device})" if job.device else clause(worker)
    expires = s.lease.get("expires_at") if s.lease else None
    if expires is not None and expires < s.now:
        heard = since(s.lease["renewed_at"], s.now) if s.lease and s.lease["renewed_at"] else "some time"
        return (
            f"{_head(s)} stands still: {on} was last heard {heard} ago and its lease ended "
            f"{since(expires, s.now)} ago; a supervisor hands the job on"
        )
    attempt = job.open_attempt
    if attempt is None:
        claimed = s.last(e.Claimed)
        ago = f" {since(claimed.at, s.now)} ago" if claimed is not None else ""
        return f"Taken{ago} by {on}, which is about to begin: {THEN[job.state]} next"
    step = _step(s, attempt)
    again = _again(job, attempt)
    if job.cancel_by is not None and job.outcome is None:
        return (
            f"{_head(s)} for {since(attempt.started_at, s.now)} on {on}{step}; {clause(job.cancel_by)} asked to "
            "cancel it, so it stops at the next step"
        )
    return f"{_head(s)} for {since(attempt.started_at, s.now)} on {on}{step}{again}; {_after(job)}"


def _head(s: Situation) -> str:
    if s.job.state is not State.CALLBACK:
        return DOING[s.job.state]
    return f"{_outcome(s.job)}; telling the receiver"


def _outcome(job: Job) -> str:
    match job.outcome:
        case Outcome.COMPLETED:
            return f"Done with {made(job)}"
        case Outcome.CANCELLED:
            return "Cancelled"
        case _:
            why = f" ({_bare(clause(job.error.message))})" if job.error is not None else ""
            return f"Failed{why}"


def _step(s: Situation, attempt: Attempt) -> str:
    """`, step 7 of 15, about 9 s left`, as far as it is known."""
    step, of = s.progress.get("step"), s.progress.get("of")
    if not isinstance(step, int) or not isinstance(of, int) or of <= 0:
        doing = s.progress.get("doing")
        return f", {clause(str(doing), 40)}" if doing else ""
    begun, base = attempt.started_at, 0
    loaded = s.last(e.ModelLoaded)
    if loaded is not None and loaded.at > begun:
        begun = loaded.at
    before = [h for h in s.history if isinstance(h.event, e.Checkpointed) and h.at < attempt.started_at]
    if before and isinstance(before[-1].event, e.Checkpointed) and s.job.checkpoint is not None:
        base = min(before[-1].event.step, step)
    told_at = (s.lease or {}).get("progress_at") or s.now
    passed = (told_at - begun).total_seconds()
    if step - base < 2 or step >= of or passed <= 0:
        return f", step {step} of {of}"
    left = passed / (step - base) * (of - step) - (s.now - told_at).total_seconds()
    return f", step {step} of {of}, about {duration(max(1.0, round(left)))} left"


def _again(job: Job, attempt: Attempt) -> str:
    earlier = [a for a in job.tries(attempt.stage) if a is not attempt and a.outcome in ("interrupted", "retry")]
    if not earlier:
        return ""
    nth, last = ordinal(earlier[-1].attempt), earlier[-1]
    if last.outcome == "retry":
        return f", after the {nth} attempt failed ({_error(last)})"
    at = f" from step {job.checkpoint.step}" if job.checkpoint is not None else ""
    return f", resumed{at} after the {nth} attempt was interrupted ({_error(last)})"


def _after(job: Job) -> str:
    if job.state is State.CALLBACK:
        ends = {Outcome.COMPLETED: "completed", Outcome.CANCELLED: "cancelled"}.get(job.outcome or Outcome.FAILED)
        return f"then it ends as {ends or 'failed'}"
    order = [*job.stages, State.CALLBACK]
    later = [stage for stage in order if list(State).index(stage) > list(State).index(job.state)]
    return f"then {THEN[later[0]]}"


def _resting(s: Situation) -> str:
    job = s.job
    assert job.resume_at is not None
    when = f"in {duration((job.resume_at - s.now).total_seconds())}, at {clock(job.resume_at)} UTC"
    retry = s.last(e.RetryScheduled)
    nobody = "" if s.able else ", if a worker for it runs by then"
    if retry is None or not isinstance(retry.event, e.RetryScheduled):
        return f"{DOING[job.state]} waits and goes on {when}{nobody}"
    event, ago = retry.event, since(retry.at, s.now)
    message = _bare(clause(event.message))
    nth = f"{ordinal(event.attempt + 1)} of {event.budget} tries" if event.budget else "it costs the job no attempt"
    if job.state is State.CALLBACK:
        untold = f"but the receiver could not be told {ago} ago ({message})"
        return f"{_outcome(job)}, {untold}; next try {when}{nobody} ({nth})"
    if event.error_class == "misconfiguration":
        return f"{DOING[job.state]} waits for the set-up to be mended ({message}); next try {when}{nobody} ({nth})"
    return (
        f"{DOING[job.state]} failed {ago} ago ({clause(event.error_type)}: {message}); next try {when}{nobody} ({nth})"
    )


def _waiting(s: Situation) -> str:
    """What it waits for since when, why, and what makes it go on."""
    job, last, due = s.job, s.last_attempt, since(s.job.due_at or s.now, s.now)
    verb = "starts" if job.state is State.QUEUED else "goes on"
    if job.state is State.QUEUED:
        head, joined, because = f"Queued for {due}", ", ", " "
    elif last is None or last.stage is not job.state or last.outcome not in ("interrupted", "retry", "assets lost"):
        what = f"{_outcome(job)}; {THEN[job.state]} next" if job.outcome is not None else f"{DOING[job.state]} is next"
        head, joined, because = f"{what}, due for {due}", ", ", " "
    elif last.outcome == "interrupted":
        at = f" after step {job.checkpoint.step} of {job.checkpoint.of}" if job.checkpoint is not None else ""
        ago = since(last.ended_at or s.now, s.now)
        head = f"{DOING[job.state]} was interrupted {ago} ago{at} ({_error(last)})"
        joined, because = " and is ", " and waits "
    else:
        head, joined, because = f"{DOING[job.state]} is due again for {due} ({_error(last)})", ", ", " and waits "
    if job.checkpoint is not None:
        verb = f"goes on from step {job.checkpoint.step}"
    obstacle = _obstacle(s)
    if obstacle is not None:
        why, until = obstacle
        return f"{head}{because}because {why}; it {verb} {until}"
    return f"{head}{joined}{_line(s)}; it {verb} as soon as {_free(s.able)}"


def _obstacle(s: Situation) -> tuple[str, str] | None:
    """Why nobody takes the job, and until when; None when it is only a matter of its turn."""
    job = s.job
    if s.paused is not None and job.state is not State.CALLBACK:
        why = f" ({clause(s.paused['reason'])})" if s.paused.get("reason") else ""
        by = clause(s.paused.get("paused_by") or "somebody")
        return f"{by} paused {s.paused['name']} {since(s.paused['paused_at'], s.now)} ago{why}", "when that is resumed"
    if not s.living:
        seen = [worker["last_seen_at"] for worker in s.workers]
        heard = f" (the last one was heard {since(max(seen), s.now)} ago)" if seen else ""
        return f"no worker is running{heard}", "as soon as one does"
    if not s.able:
        kind = f"{job.job_type}, which needs the model {job.model}" if job.model else str(job.job_type)
        number = len(s.living)
        nobody = "the only running worker does not take" if number == 1 else f"none of {number} running workers takes"
        return f"{nobody} {kind}", "as soon as one does"
    if s.kept_until is not None and any(worker.get("spool") != s.spool for worker in s.able):
        heard = since(s.spool_heard_at or s.now, s.now)
        left = duration((s.kept_until - s.now).total_seconds())
        files = f"its files are on {clause(s.spool or '')}, which was heard {heard} ago"
        return files, f"there, or without them on another host in {left}"
    return None


def _line(s: Situation) -> str:
    return "next in line" if not s.place else f"behind {plural(s.place, 'other job')}"


def _free(able: list[dict[str, Any]]) -> str:
    noted = [worker for worker in able if worker.get("note")]
    who = clause(able[0]["worker_id"]) if len(able) == 1 else f"one of {len(able)} workers"
    return f"{who} is free" + (f" (it says: {clause(noted[0]['note'])})" if noted and len(noted) == len(able) else "")


def _error(attempt: Attempt) -> str:
    kind, message = clause(attempt.error_type or attempt.outcome or ""), clause(attempt.message or "", 120)
    return kind if not message or message == kind else f"{kind}: {message}"


def _bare(message: str) -> str:
    return message.removeprefix("Invalid parameters: ")
