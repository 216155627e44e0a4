"""The act that removes what is personal of finished jobs, from the database and from storage."""

from functools import partial

from ourvidz.acts import Act, at_work
from ourvidz.wording import plural
from statemachine import decisions
from statemachine.errors import Refused
from statemachine.events import Event
from statemachine.job import Job
from statemachine.states import TERMINAL
from statemachine.store import EventStore
from statemachine.store import erasing as store_erasing
from statemachine.store.operating import operate
from workers.erasing import Remover, files


def erase(by: str, reason: str, remover: Remover) -> Act:
    """Remove payload, prompts, references' URLs and files of finished jobs, for good. What happened to them stays."""
    return Act(
        "erase",
        "erased",
        partial(_erase, by=by, reason=reason),
        _erased,
        sorted(TERMINAL),
        write=store_erasing.erase,
        follow=partial(_remove, by=by, remover=remover),
        final=True,
    )


def _erase(job: Job, left: bool, *, by: str, reason: str) -> list[Event]:
    if not job.state.terminal:
        raise Refused(f"{at_work(job)}; cancel it first, or wait for its end")
    return decisions.erase(job, by=by, reason=reason, files=files(job), left=left)


def _remove(store: EventStore, job: Job, *, by: str, remover: Remover) -> Job:
    """Files after the database. Raises StageEnds: the history says by then that they are to go."""
    if job.erased is None or job.erased.files_removed_at is not None:
        return job
    remover.remove(job)
    done = operate(store, [job.id], lambda current, _: decisions.files_removed(current, by=by))[job.id]
    if isinstance(done, Exception):
        raise done
    return done


def _erased(job: Job) -> str:
    assert job.erased is not None
    if job.erased.files_removed_at is None:
        return f"erased from the database; {plural(len(job.erased.files), 'file')} to be removed from storage"
    return "erased, and nothing of it is left in storage"
