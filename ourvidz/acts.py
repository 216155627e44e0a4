"""What operators do to jobs: cancel them, start them again, have their outcome told again. Each with who and why.

To erase what is personal of them is an act like these, and has a module of its own (`erasing`).

An act is a decision and what is said of it. The judgement is made on the job as it stands while nobody else can write
it, see `statemachine.store.operating`; a job that refuses says why in one sentence, and harms no other.
"""

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec

from ourvidz.inspect.sentence import DOING
from ourvidz.wording import clause, listed, stamp
from statemachine import decisions
from statemachine.decisions import UNDELIVERABLE
from statemachine.errors import Refused
from statemachine.events import Event
from statemachine.job import Job
from statemachine.states import LIVE, STAGES, TERMINAL, Outcome, State
from statemachine.store import EventStore
from statemachine.store.operating import BATCH, Decide, Decided, operate
from workers.errors import StageEnds


class Write(Protocol):
    """`operate`, or what does more in its transaction."""

    def __call__(
        self, store: EventStore, job_ids: Sequence[str], decide: Decide, *, dry: bool = False
    ) -> dict[str, Decided]:
        """See `operate`."""


class Act(msgspec.Struct, frozen=True):
    """`decide` as `operate` wants it; `said` of the job as it stands afterwards.

    `states` are those in which a job is meant where jobs are chosen by filters and none is named. `follow` is what is
    to be done outside of the database once it is written; it raises StageEnds. `final`: nobody can undo it.
    """

    name: str
    participle: str
    decide: Callable[[Job, bool], list[Event]]
    said: Callable[[Job], str]
    states: Sequence[State]
    write: Write = operate
    follow: Callable[[EventStore, Job], Job] | None = None
    final: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an act on one job. `error` is None, or what no act foresees."""

    job_id: str
    done: bool
    said: str
    error: Exception | None = None


def whoever() -> str:
    """The login name at this host, for the history."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def cancel(by: str, reason: str) -> Act:
    """End jobs whose outcome is not decided: at once where nobody holds them, else at their holder's next step."""
    return Act("cancel", "cancelled", partial(_cancel, by=by, reason=reason), _cancelled, _UNDECIDED)


def retry(by: str, reason: str, stage: State | None = None) -> Act:
    """Begin a new run of finished jobs: at `stage`; else at the callback where that had failed, or at the start."""
    return Act("retry", "retried", partial(_retry, by=by, reason=reason, stage=stage), _queued, (State.FAILED,))


def resend(by: str, reason: str, *, as_new: bool = False) -> Act:
    """Tell the outcome of finished jobs again, under the id that it had; `as_new`: under one that nobody has seen."""
    return Act("resend", "told again", partial(_resend, by=by, reason=reason, as_new=as_new), _due, sorted(TERMINAL))


def perform(store: EventStore, act: Act, job_ids: Sequence[str], *, dry: bool = False) -> Iterator[Done]:
    """Do it to each job, batch by batch, in the order given. Raises StoreAway: what was yielded before is done."""
    for start in range(0, len(job_ids), BATCH):
        batch = job_ids[start : start + BATCH]
        results = act.write(store, batch, act.decide, dry=dry)
        for job_id in batch:
            match results[job_id]:
                case Job() as job:
                    yield _followed(store, act, job, dry=dry)
                case Refused() as refused:
                    yield Done(job_id=job_id, done=False, said=str(refused))
                case error:
                    yield Done(job_id=job_id, done=False, said=clause(str(error), 300), error=error)


def _followed(store: EventStore, act: Act, job: Job, *, dry: bool) -> Done:
    try:
        after = job if act.follow is None or dry else act.follow(store, job)
        return Done(job_id=job.id, done=True, said=act.said(after))
    except StageEnds as ended:
        said = f"{act.said(job)}: {clause(ended.message, 300)}; the same command goes on with it"
        return Done(job_id=job.id, done=False, said=said, error=ended)


def possible(job: Job, *, whole: bool) -> list[str]:
    """The acts that would not be refused now, as commands. `whole`: the job's content was not erased."""
    commands = []
    for act, command in (
        (cancel("", ""), "ourvidz jobs cancel"),
        (retry("", ""), "ourvidz jobs retry"),
        (resend("", ""), "ourvidz callbacks resend"),
    ):
        try:
            if act.decide(job, whole):
                commands.append(f"{command} {job.id}")
        except Refused:
            continue
    return commands


_UNDECIDED: Final = tuple(state for state in LIVE if state is not State.CALLBACK)


def _cancel(job: Job, _whole: bool, *, by: str, reason: str) -> list[Event]:
    if job.cancel_pending:
        return []
    events = decisions.cancel(job, by=by, reason=reason)
    if events:
        return events
    if job.state.terminal:
        raise Refused(f"it has {_ended(job)}")
    decided = f" at {stamp(job.outcome_at)}" if job.outcome_at is not None else ""
    raise Refused(f"it is decided as {job.outcome}{decided}, and its receiver may have been told")


def _cancelled(job: Job) -> str:
    if job.outcome is Outcome.CANCELLED:
        return "cancelled; its receiver is told next"
    held = f"{DOING[job.state].lower()} on {clause(job.worker_id or '?')}"
    asked = "" if job.cancel_reason is None else f" ({clause(job.cancel_by or '?')} asked for it)"
    return f"{held}, which stops at its next step{asked}"


def _retry(job: Job, whole: bool, *, by: str, reason: str, stage: State | None) -> list[Event]:
    if not job.state.terminal:
        raise Refused(at_work(job))
    undelivered = job.error is not None and job.error.error_type == UNDELIVERABLE
    at = stage or (State.CALLBACK if undelivered else State.QUEUED)
    if at is State.CALLBACK:
        _tellable(job)
    else:
        _startable(job, at, whole=whole)
    return decisions.requeue(job, by=by, reason=reason, stage=at)


def _startable(job: Job, stage: State, *, whole: bool) -> None:
    """Raise Refused where a run of this job cannot begin at `stage`."""
    if all(planned is State.CALLBACK for planned in job.stages):
        raise Refused("its payload was refused when it came; only its callback can be sent again: callbacks resend")
    if not whole:
        _tellable(job)
        raise Refused("its content was erased; only its callback can be sent again: callbacks resend")
    if stage is not State.QUEUED and stage not in job.stages:
        raise Refused(f"it has no stage {stage}; its stages are {listed([str(one) for one in job.stages])}")
    unenhanced = State.ENHANCING in job.stages and job.enhanced_digest is None and job.enhancement_skipped is None
    if unenhanced and stage in (State.GENERATING, State.UPLOADING):
        raise Refused(f"its prompt was never enhanced, so it cannot begin at {stage}; --from enhancing does that first")


def _tellable(job: Job) -> None:
    """Raise Refused where its receiver would be told of files that are gone, and while some are still to go."""
    if job.erased is None:
        return
    when = f"its content was erased by {clause(job.erased.by)} at {stamp(job.erased.at)}"
    if job.verdict is not None and job.verdict.outcome is Outcome.COMPLETED:
        raise Refused(f"{when}, with the files that its receiver would be told of")
    if job.erased.files_removed_at is None:
        raise Refused(f"{when}, and that is not finished: `ourvidz jobs erase` goes on with it")


def _queued(job: Job) -> str:
    """An upload finds nothing in the spool, which is emptied when a job ends: what is missing is drawn once more."""
    again = f"run {job.run} begins at {job.state}"
    if job.state is State.CALLBACK:
        return _due(job)
    if job.state is not State.UPLOADING:
        return again
    missing = int(job.request.get("num_images", 1)) - sum(asset.key is not None for asset in job.current_assets)
    if missing > 0:
        return f"{again}; {missing} of its files were not uploaded and are drawn again, from the same seed"
    return f"{again}; all of its files are uploaded, so its receiver is told next"


def _resend(job: Job, _whole: bool, *, by: str, reason: str, as_new: bool) -> list[Event]:
    if not job.state.terminal:
        raise Refused(at_work(job))
    _tellable(job)
    return decisions.requeue(job, by=by, reason=reason, stage=State.CALLBACK, as_new=as_new)


def _due(job: Job) -> str:
    told = job.run if job.verdict is None else job.verdict.run
    been = "been " if job.outcome is Outcome.CANCELLED else ""
    return f"run {job.run} tells its receiver that it has {been}{job.outcome}, in the name of run {told}"


def _ended(job: Job) -> str:
    when = f" at {stamp(job.finished_at)}" if job.finished_at is not None else ""
    by = f" by {clause(job.cancel_by)}" if job.state is State.CANCELLED and job.cancel_by else ""
    return f"{'been ' if job.state is State.CANCELLED else ''}{job.state}{by}{when}"


def at_work(job: Job) -> str:
    """What stands in the way of an act on finished jobs."""
    doing = DOING[job.state].lower()
    if job.worker_id is not None:
        return f"it is not finished: {doing} on {clause(job.worker_id)}"
    if job.resume_at is not None:
        return f"it is not finished: {doing} is tried again at {stamp(job.resume_at)}"
    return "it is not finished: queued" if job.state is State.QUEUED else f"it is not finished: {doing} is next"


STARTS: Final = (State.QUEUED, *STAGES)
"""Where a run can begin."""
