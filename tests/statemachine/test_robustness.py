"""One job in trouble is its own trouble: the others are claimed, resumed and told."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from statemachine import decisions
from statemachine import events as e
from statemachine.errors import UnreadableHistory
from statemachine.job import Job
from statemachine.states import Outcome, State
from statemachine.store import EventStore
from statemachine.store.codec import seal_all
from statemachine.store.schema import job_events, job_leases, jobs
from tests.fakes import FakeClock
from tests.statemachine.builders import claimant, claimed, new_job
from workers.supervisor import Supervisor

NOW = datetime(2025, 7, 16, tzinfo=UTC)


def spoil(store: EventStore, job_id: str) -> None:
    """As a later version would: an event that leads into a state that this one has never heard of."""
    with store.write() as connection:
        connection.execute(
            job_events.insert(),
            {"job_id": job_id, "version": 9, "kind": "moved", "to_state": "in_orbit", "run": 1, "at": store.now(),
             "data": "{}", "digest": "f" * 64},
        )  # fmt: skip


def test_a_job_that_cannot_be_read_keeps_nobody_from_their_turn(store: EventStore) -> None:
    first, drifted, last = new_job(), new_job(), new_job()
    store.admit([first, drifted, last])
    spoil(store, first.job_id)
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == drifted.job_id).values(version=7))
    got = [job.id for _ in range(3) for job in store.claim(claimant(), drawing=1)]
    assert got == [last.job_id]
    assert first.job_id in store.passed_over
    with pytest.raises(UnreadableHistory, match="in_orbit"):
        store.load(first.job_id)


def test_a_supervisor_resumes_the_others(store: EventStore) -> None:
    bad, good = claimed(store), claimed(store)
    spoil(store, bad.id)
    clock = FakeClock()
    supervisor = Supervisor(store, clock, name="s", lease_seconds=5.0)
    supervisor.tick()
    clock.advance(31.0)  # the leases themselves are of 30 s
    assert supervisor.tick() == 1
    assert store.load(good.id).worker_id is None


def test_a_lease_that_was_renewed_after_it_was_seen_is_not_ended(store: EventStore) -> None:
    job = claimed(store)
    (seen,) = store.leases()
    assert store.renew("w1", {job.id: (job.token, None)}, seconds=30) == {job.id}
    assert store.expire(seen, job, decisions.interrupt(job, reason="lease expired", by="s", now=NOW)) is None
    assert store.load(job.id) == job
    (fresh,) = store.leases()
    ended = store.expire(fresh, job, decisions.interrupt(job, reason="lease expired", by="s", now=NOW))
    assert ended is not None
    assert ended.worker_id is None
    assert store.renew("w1", {job.id: (job.token, None)}, seconds=30) == set()


def test_a_clock_that_was_set_back_keeps_no_dead_lease_alive(store: EventStore) -> None:
    claimed(store)
    with store.write() as connection:
        far = datetime(2035, 1, 1, tzinfo=UTC)
        connection.execute(job_leases.update().values(expires_at=far, renewed_at=far))
    clock = FakeClock()
    supervisor = Supervisor(store, clock, name="s", lease_seconds=5.0)
    assert supervisor.tick() == 0
    clock.advance(5.0)
    assert supervisor.tick() == 1


def test_a_parked_retry_is_nobodys_turn(store: EventStore) -> None:
    parked = claimed(store)
    store.append(parked, decisions.trouble(parked, error_class="transient", error_type="X", message="m",
                                           now=store.now(), jitter=1.0, retry_after=3600.0))  # fmt: skip
    for _ in range(3):
        store.admit([new_job(user_id="busy")])
    first = store.claim(claimant(), drawing=1)
    store.admit([new_job(user_id="one")])
    served = [job.user_id for _ in range(3) for job in store.claim(claimant(), drawing=1)]
    assert first[0].user_id == "busy"
    assert served == ["busy", "one", "busy"]


def test_numbers_that_json_cannot_hold_are_not_written(store: EventStore) -> None:
    job = claimed(store)
    with pytest.raises(ValueError, match="a number that JSON cannot"):
        store.append(job, [e.MediaGenerated(device_seconds=float("nan"), engine="x")])
    assert store.load(job.id) == job


def told(*answers: tuple[str, int | None]) -> tuple[Job, list[str]]:
    """A finished job's callback, refused with these error types and budgets one after the other."""
    _, job = seal_all(Job(id="j"), list(new_job(stages=["callback"]).events), worker_id=None, at=NOW)
    events: list[e.Event] = [
        e.OutcomeDecided(outcome="failed", error_class="permanent", error_type="InvalidPayload", message="bad")
    ]
    kinds = []
    for error_type, budget in answers:
        _, job = seal_all(job, events, worker_id=None, at=NOW)
        _, job = seal_all(job, [*decisions.claim(job, worker="w", host="h", device="d")], worker_id="w", at=NOW)
        _, job = seal_all(job, decisions.start(job), worker_id="w", at=NOW)
        events = decisions.trouble(job, error_class="transient", error_type=error_type, message="m", now=NOW,
                                   jitter=0.5, budget=budget)  # fmt: skip
        kinds.append(events[-1].kind)
    _, job = seal_all(job, events, worker_id=None, at=NOW)
    return job, kinds


def test_a_refusal_counts_refusals_and_the_schedule_counts_all() -> None:
    away, no = ("NoAnswer", None), ("CallbackRefused", 5)
    assert told(away, away, away, away, no)[1] == ["retry_scheduled"] * 5
    assert told(no, no, no, no, no)[1] == ["retry_scheduled"] * 4 + ["job_failed"]
    assert told(*[away] * 8, no)[1][-1] == "job_failed"


def test_a_refused_job_that_is_requeued_is_told_as_refused_again() -> None:
    job, _ = told(*[("CallbackRefused", 5)] * 5)
    assert job.state is State.FAILED
    _, again = seal_all(job, decisions.requeue(job, by="me", reason="again"), worker_id=None, at=NOW)
    assert (again.state, again.run, again.outcome) == (State.CALLBACK, 2, Outcome.FAILED)
    assert again.error is not None
    assert again.error.error_type == "InvalidPayload"
