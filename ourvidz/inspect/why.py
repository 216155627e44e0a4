"""Why a job is where it is, and until when: `jobs why`, and the reasons of the sentence."""

from typing import Any, Final

import msgspec

from ourvidz.inspect.pace import pace
from ourvidz.inspect.situation import Situation
from ourvidz.masking import mask
from ourvidz.wording import clause, clock, duration, listed, ordinal, plural, since
from statemachine import events as e
from statemachine.decisions import UNDELIVERABLE
from statemachine.job import Attempt
from statemachine.states import Outcome, State
from statemachine.store.reading import FAR, Ahead

REASONS: Final = {
    "completed": "it ended well",
    "failed": "it ended badly",
    "cancelled": "somebody asked for its end",
    "in_work": "a worker has it in hand",
    "stalled": "its worker is silent, and its lease is over",
    "backoff": "the last attempt failed, and the next one is put off",
    "set_up": "the set-up has to be mended; it is tried again till then",
    "paused": "its queue is paused",
    "no_worker": "no worker is running",
    "no_worker_for_model": "none of the running workers takes its type",
    "files_elsewhere": "its files are on another host, which is waited for",
    "others_turn": "other jobs are before it",
    "next_in_line": "it is the next to be claimed",
    "not_recorded": "it waited, and the history does not tell for what",
}
"""What a reason may be. Programs rely on the names."""


_BEGUN: Final = {"others_turn": "it is ", "next_in_line": "it is ", "paused": "its queue is paused: "}
"""How a reason that is a part of the sentence becomes one of its own, which never begins with somebody's name."""


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` is one of REASONS, `said` a clause that tells it, `until` what makes the job go on; None at its end."""

    reason: str
    said: str
    until: str | None = None

    @property
    def sentence(self) -> str:
        """On one line, masked, with a full stop."""
        told = self.said if self.until is None else f"{self.said}; {self.until}"
        return mask(f"{told[0].upper()}{told[1:]}.")


def why(s: Situation) -> Why:
    """The reason, whatever the job's state."""
    job = s.job
    if job.state.terminal:
        return _ended(s)
    if job.worker_id is not None:
        return _held(s, job.worker_id)
    if job.resume_at is not None and job.resume_at > s.now:
        return put_off(s)
    waits = waiting(s)
    verb = "starts" if job.state is State.QUEUED else "goes on"
    said = _BEGUN.get(waits.reason, "") + waits.said
    return Why(reason=waits.reason, said=said, until=f"it {verb} {waits.until}")


def waiting(s: Situation) -> Why:
    """Why nobody has taken the job, which is due."""
    job = s.job
    if s.past:
        said = "which workers ran then, and which jobs were before it, is not in the history"
        return Why(reason="not_recorded", said=said, until="as soon as a worker takes it")
    if s.paused is not None and job.state is not State.CALLBACK:
        reason = f" ({clause(s.paused['reason'])})" if s.paused.get("reason") else ""
        by = clause(s.paused.get("paused_by") or "somebody")
        said = f"{by} paused {s.paused['name']} {since(s.paused['paused_at'], s.now)} ago{reason}"
        return Why(reason="paused", said=said, until="when that is resumed")
    if not s.living:
        seen = [worker["last_seen_at"] for worker in s.workers]
        heard = f" (the last one was heard {since(max(seen), s.now)} ago)" if seen else ""
        return Why(reason="no_worker", said=f"no worker is running{heard}", until="as soon as one does")
    if not s.able:
        kind = f"{job.job_type}, which needs the model {job.model}" if job.model else str(job.job_type)
        number = len(s.living)
        nobody = "the only running worker does not take" if number == 1 else f"none of {number} running workers takes"
        return Why(reason="no_worker_for_model", said=f"{nobody} {kind}", until="as soon as one does")
    if s.kept_until is not None and any(worker.get("spool") != s.spool for worker in s.able):
        heard = since(s.files_heard_at or s.now, s.now)
        left = duration((s.kept_until - s.now).total_seconds())
        files = f"its files are on {clause(s.spool or '')}, which was heard {heard} ago"
        return Why(reason="files_elsewhere", said=files, until=f"there, or without them on another host in {left}")
    until = f"as soon as {_free(s.able)}"
    if s.ahead is None or not s.ahead.total:
        return Why(reason="next_in_line", said="next in line", until=until)
    others = "other job" if s.ahead.total == 1 else "other jobs"
    return Why(reason="others_turn", said=f"behind {_many(s.ahead.total)} {others}{_whose(s.ahead)}", until=until)


def put_off(s: Situation) -> Why:
    """Why the job, which nobody has, is not due yet, and when it will be."""
    job = s.job
    assert job.resume_at is not None
    nobody = "" if s.able or s.past else ", if a worker for it runs by then"
    until = f"next try in {duration((job.resume_at - s.now).total_seconds())}, at {clock(job.resume_at)} UTC{nobody}"
    retry = s.last(e.RetryScheduled)
    if retry is None or not isinstance(retry.event, e.RetryScheduled):
        return Why(reason="backoff", said="it is put off", until=until)
    event = retry.event
    nth = f"{ordinal(event.attempt + 1)} of {event.budget} tries" if event.budget else "it costs the job no attempt"
    message, ago = bare(clause(event.message)), since(retry.at, s.now)
    until = f"{until} ({nth})"
    if job.state is State.CALLBACK:
        said = f"the receiver could not be told {ago} ago ({message})"
        return Why(reason="backoff", said=said, until=until)
    if event.error_class == "misconfiguration":
        return Why(reason="set_up", said=f"it waits for the set-up to be mended ({message})", until=until)
    return Why(reason="backoff", said=f"it failed {ago} ago ({clause(event.error_type)}: {message})", until=until)


def stalled(s: Situation, worker: str) -> Why | None:
    """Where the lease of the job in hand is over: since when, and what comes of it."""
    expires = s.lease.get("expires_at") if s.lease else None
    if expires is None or expires >= s.now:
        return None
    heard = since(s.lease["renewed_at"], s.now) if s.lease and s.lease["renewed_at"] else "some time"
    said = f"{on(s, worker)} was last heard {heard} ago and its lease ended {since(expires, s.now)} ago"
    return Why(reason="stalled", said=said, until="a supervisor hands the job on")


def on(s: Situation, worker: str) -> str:
    """`gpu-1-3f9c (cuda:0)`."""
    return f"{clause(worker)} ({s.job.device})" if s.job.device else clause(worker)


def about_to(s: Situation) -> str:
    """What keeps the worker that has the job from its next stage."""
    others = s.others_in_hand
    return f"has {plural(others, 'other job')} in hand" if others else "is about to begin"


def step(s: Situation) -> str:
    """`, step 7 of 15, about 9 s left`, as far as it is known."""
    now = pace(s)
    if now.step is None:
        return f", {clause(now.doing, 40)}" if now.doing else ""
    left = "" if now.left_seconds is None else f", about {duration(now.left_seconds)} left"
    return f", step {now.step} of {now.of}{left}"


def error(attempt: Attempt) -> str:
    """What ended an attempt, in a few words."""
    kind, message = clause(attempt.error_type or attempt.outcome or ""), clause(attempt.message or "", 120)
    return kind if not message or message == kind else f"{kind}: {message}"


def bare(message: str) -> str:
    """The reason of a refused payload without the words that every one begins with."""
    return message.removeprefix("Invalid parameters: ")


def _ended(s: Situation) -> Why:
    job = s.job
    if job.outcome is Outcome.COMPLETED:
        return Why(reason="completed", said="it did what was asked")
    if job.outcome is Outcome.CANCELLED:
        reason = f": {clause(job.cancel_reason)}" if job.cancel_reason else ""
        return Why(reason="cancelled", said=f"it was cancelled by {clause(job.cancel_by or 'somebody')}{reason}")
    if job.error is None:
        return Why(reason="failed", said="its history does not tell why it failed")
    message = bare(clause(job.error.message))
    if job.error.error_type == UNDELIVERABLE:
        return Why(reason="failed", said=f"its receiver could not be told: {message}")
    return Why(reason="failed", said=f"it failed: {message} ({clause(job.error.error_type)})")


def _held(s: Situation, worker: str) -> Why:
    silent = stalled(s, worker)
    if silent is not None:
        return Why(reason=silent.reason, said=f"its worker is silent: {silent.said}", until=silent.until)
    attempt = s.job.open_attempt
    if attempt is None:
        return Why(reason="in_work", said=f"it is in hand: {on(s, worker)} {about_to(s)}")
    lasts = since(attempt.started_at, s.now)
    until = f"{clause(s.job.cancel_by or 'somebody')} asked to cancel it, so it stops at the next step"
    return Why(
        reason="in_work",
        said=f"it is in hand: {attempt.stage} for {lasts} on {on(s, worker)}{step(s)}",
        until=until if s.job.cancel_pending else None,
    )


def _whose(before: Ahead) -> str:
    """` (1 of a higher priority, 2 whose turn comes first)`; nothing where all are only older."""
    told = []
    if before.priority:
        told.append(f"{_many(before.priority)} of a higher priority")
    if before.turn:
        told.append(f"{_many(before.turn)} whose turn comes first")
    return f" ({listed(told)})" if told else ""


def _many(number: int) -> str:
    return str(number) if number <= FAR else f"more than {FAR}"


def _free(able: list[dict[str, Any]]) -> str:
    noted = [worker for worker in able if worker.get("note")]
    who = clause(able[0]["worker_id"]) if len(able) == 1 else f"one of {len(able)} workers"
    return f"{who} is free" + (f" (it says: {clause(noted[0]['note'])})" if noted and len(noted) == len(able) else "")
