"""How long a worker keeps the leases of what it holds."""

from datetime import UTC, datetime

from statemachine import decisions
from statemachine import events as e
from statemachine.job import Job
from statemachine.states import State
from statemachine.store.append import prepare
from workers.held import STAGE_LIMITS, Held

NOW = datetime(2025, 7, 4, tzinfo=UTC)


def after(job: Job, *events: e.Event) -> Job:
    return prepare(job, list(events), worker_id="w", at=NOW).after


def before_the_device() -> Job:
    """A job that is to be enhanced, held by a worker."""
    queued = after(
        Job(id="j"),
        e.JobQueued(
            payload_digest="d",
            job_type="t",
            user_id="u",
            queue="q",
            source="redis",
            stages=["enhancing", "generating", "uploading", "callback"],
        ),
    )
    return after(queued, *decisions.claim(queued, worker="w", host="h", device="cpu"))


def test_what_lies_before_the_device_is_kept_while_another_is_on_it() -> None:
    """A short stage behind a long video: its limit begins when the device takes it up."""
    held, job = Held(), before_the_device()
    assert job.state is State.ENHANCING
    held.begin(job, monotonic=0.0)
    limit = STAGE_LIMITS[State.ENHANCING]
    assert held.renewable(monotonic=3 * limit) == {"j": (job.token, None)}
    begun = after(job, *decisions.start(job))
    held.keep(begun, monotonic=3 * limit)
    assert held.renewable(monotonic=4 * limit)
    assert not held.renewable(monotonic=4 * limit + 1)


def test_further_events_of_an_attempt_give_it_no_more_time() -> None:
    held, job = Held(), before_the_device()
    begun = after(job, *decisions.start(job))
    held.keep(begun, monotonic=0.0)
    held.keep(after(begun, e.Degraded(what="x", why="y")), monotonic=100.0)
    limit = STAGE_LIMITS[State.ENHANCING]
    assert held.renewable(monotonic=limit)
    assert not held.renewable(monotonic=limit + 1)
