"""The one sentence with which `jobs inspect` opens.

State, since when, why, what happens next and when, and whether the work so far is safe.
"""

from typing import Final

from ourvidz.inspect.safety import safety
from ourvidz.inspect.situation import Situation
from ourvidz.inspect.why import about_to, bare, error, on, put_off, stalled, step, waiting
from ourvidz.masking import mask
from ourvidz.wording import clause, listed, ordinal, plural, since
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
    if job.erased is not None:
        said = f"{said}; {clause(job.erased.by)} had its content erased {since(job.erased.at, s.now)} ago"
    kept = safety(s)
    if job.outcome is None and kept.safe is not None:
        said = f"{said}; {kept.said}"
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
        return f"Failed {ago}, when it arrived: its payload was refused ({bare(message)}); {_told(s)}"
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
    silent = stalled(s, worker)
    if silent is not None:
        return f"{_head(s)} stands still: {silent.said}; {silent.until}"
    attempt = job.open_attempt
    if attempt is None:
        claimed = s.last(e.Claimed)
        ago = f" {since(claimed.at, s.now)} ago" if claimed is not None else ""
        return f"Taken{ago} by {on(s, worker)}, which {about_to(s)}; {THEN[job.state]} next"
    at_work = f"{_head(s)} for {since(attempt.started_at, s.now)} on {on(s, worker)}{step(s)}"
    if job.cancel_by is not None and job.outcome is None:
        return f"{at_work}; {clause(job.cancel_by)} asked to cancel it, so it stops at the next step"
    return f"{at_work}{_again(job, attempt)}; {_after(job)}"


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
            why = f" ({bare(clause(job.error.message))})" if job.error is not None else ""
            return f"Failed{why}"


def _again(job: Job, attempt: Attempt) -> str:
    earlier = [a for a in job.tries(attempt.stage) if a is not attempt and a.outcome in ("interrupted", "retry")]
    if not earlier:
        return ""
    nth, last = ordinal(earlier[-1].attempt), earlier[-1]
    if last.outcome == "retry":
        return f", after the {nth} attempt failed ({error(last)})"
    at = f" from step {job.checkpoint.step}" if job.checkpoint is not None else ""
    return f", resumed{at} after the {nth} attempt was interrupted ({error(last)})"


def _after(job: Job) -> str:
    if job.state is State.CALLBACK:
        ends = {Outcome.COMPLETED: "completed", Outcome.CANCELLED: "cancelled"}.get(job.outcome or Outcome.FAILED)
        return f"then it ends as {ends or 'failed'}"
    order = [*job.stages, State.CALLBACK]
    later = [stage for stage in order if list(State).index(stage) > list(State).index(job.state)]
    return f"then {THEN[later[0]]}"


def _resting(s: Situation) -> str:
    job, rests = s.job, put_off(s)
    if job.state is State.CALLBACK:
        return f"{_outcome(job)}, but {rests.said}; {rests.until}"
    return f"{DOING[job.state]} {rests.said.removeprefix('it ')}; {rests.until}"


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
        head = f"{DOING[job.state]} was interrupted {ago} ago{at} ({error(last)})"
        joined, because = " and is ", " and waits "
    else:
        head, joined, because = f"{DOING[job.state]} is due again for {due} ({error(last)})", ", ", " and waits "
    if job.checkpoint is not None:
        verb = f"goes on from step {job.checkpoint.step}"
    waits = waiting(s)
    if waits.reason == "not_recorded":
        return f"{head}; it {verb} {waits.until}"
    if waits.reason in ("next_in_line", "others_turn"):
        return f"{head}{joined}{waits.said}; it {verb} {waits.until}"
    return f"{head}{because}because {waits.said}; it {verb} {waits.until}"
