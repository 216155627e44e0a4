"""Whoever is one death away from being poison is claimed alone, so that the last one is nobody else's fault."""

from msgspec.structs import replace

from statemachine import decisions
from statemachine import events as e
from statemachine.job import Job
from statemachine.store import EventStore
from tests.statemachine.builders import claimant, new_job


def lost(store: EventStore, job: Job, *, begun: bool, times: int = 1) -> None:
    """Its worker died, with the job begun or still before the device."""
    for number in range(times):
        if number:
            (job,) = store.claim(claimant(), drawing=1)
        if begun:
            job = store.append(job, decisions.start(job))
        store.append(job, decisions.interrupt(job, reason="worker died", by="s", now=store.now()))


def suspect(store: EventStore, *, begun: bool = True) -> str:
    new = new_job()
    store.admit([new])
    (job,) = store.claim(claimant(), drawing=1)
    lost(store, job, begun=begun, times=decisions.CRASH_BUDGET - 1)
    return new.job_id


def got(store: EventStore, *, drawing: int = 9, telling: int = 9, empty_handed: bool = True) -> list[str]:
    who = replace(claimant(), empty_handed=empty_handed)
    return [job.id for job in store.claim(who, drawing=drawing, telling=telling)]


def test_it_is_claimed_alone_and_by_whoever_has_nothing_else_in_hand(store: EventStore) -> None:
    guilty = suspect(store)
    before, behind, told = new_job(priority=1), new_job(), new_job(stages=["callback"], job_type=None)
    told.events.append(
        e.OutcomeDecided(outcome="failed", error_class="permanent", error_type="InvalidPayload", message="bad")
    )
    store.admit([before, behind, told])
    assert got(store) == [before.job_id, told.job_id], "what is behind it waits, so that hands become empty"
    assert got(store, empty_handed=False) == []
    assert got(store) == [guilty]
    assert got(store) == [behind.job_id], "another worker, which has nothing to do with it"


def test_it_counts_though_it_was_not_begun(store: EventStore) -> None:
    """What kills its worker on the way to the device would do so for ever."""
    guilty = suspect(store, begun=False)
    (job,) = store.claim(claimant(), drawing=1)
    assert job.id == guilty
    lost(store, job, begun=False)
    after = store.load(guilty)
    assert (after.state, after.error and after.error.error_type) == ("callback", "Poison")


def test_a_stage_that_is_done_is_no_suspicion(store: EventStore) -> None:
    new = new_job(stages=["fetching_refs", "generating", "uploading", "callback"])
    store.admit([new])
    (job,) = store.claim(claimant(), drawing=1)
    lost(store, job, begun=False, times=decisions.CRASH_BUDGET - 1)
    (job,) = store.claim(claimant(), drawing=1)
    assert decisions.on_trial(job)
    job = store.append(job, [*decisions.start(job), e.RefsFetched()])
    assert not decisions.on_trial(job)


def test_a_drain_raises_no_suspicion(store: EventStore) -> None:
    store.admit([new_job()])
    for _ in range(decisions.CRASH_BUDGET + 1):
        (job,) = store.claim(claimant(), drawing=1)
        events = decisions.interrupt(job, reason="drained", by="w1", now=store.now(), counts=False)
        assert not decisions.on_trial(store.append(job, events))
