"""A job is left to the spool that has its files for a while, and what a spool need not keep is told under a lock."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from statemachine import decisions
from statemachine import events as e
from statemachine.job import Job
from statemachine.states import State
from statemachine.store import EventStore, claims, open_store
from statemachine.store.affinity import Affinity
from statemachine.store.claims import Claimant
from statemachine.store.schema import job_leases, workers
from tests.fakes import FakeClock
from tests.statemachine.builders import asset, claimant, new_job

GRACE = 30.0
HERE, BESIDE, ELSEWHERE = claimant("w1", host="a"), claimant("w2", host="a"), claimant("w3", host="b")
CHECKPOINT = e.Checkpointed(step=5, of=20, name="checkpoint_5", digest="c" * 64)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(fresh_database: str, clock: FakeClock) -> Iterator[EventStore]:
    """One whose time only the test moves."""
    opened = open_store(fresh_database, clock=clock)
    yield opened
    opened.close()


def heard(store: EventStore, spool: str, name: str = "w1", *, state: str = "active") -> None:
    """A worker in `spool` writes its row."""
    store.see_worker(
        {
            "worker_id": name,
            "host": "a host by any name",
            "pid": 1,
            "device": "cpu",
            "job_types": "[]",
            "models": "{}",
            "state": state,
            "version": "0",
            "started_at": store.now(),
            "last_seen_at": store.now(),
            "spool": spool,
        }
    )


def begun(store: EventStore, *events: e.Event) -> Job:
    """A job that the worker at a has in hand, and for which it wrote `events`."""
    new = new_job()
    store.admit([new])
    (job,) = store.claim(HERE, drawing=1)
    return store.append(job, [*decisions.start(job), *events], worker_id="w1")


def handed_back(store: EventStore, job: Job) -> Job:
    events = decisions.interrupt(job, reason="drained", by="w1", now=store.now(), counts=False)
    return store.append(job, events, worker_id="w1")


def may(store: EventStore, who: Claimant) -> bool:
    """Whether there is something to draw for `who`. Nothing is claimed."""
    with store.read() as connection:
        return claims.any_due(connection, who, now=store.now(), passed_over=())


def takes(store: EventStore, who: Claimant) -> list[str]:
    """What `who` claims to draw; asking whether there is anything must have said the same."""
    expected = may(store, who)
    got = [job.id for job in store.claim(who, drawing=9, expected=True)]
    assert bool(got) is expected
    return got


def spool_of(store: EventStore, job: Job) -> str | None:
    with store.read() as connection:
        name: str | None = connection.scalar(select(job_leases.c.spool_host).where(job_leases.c.job_id == job.id))
    return name


def test_a_job_is_left_to_the_spool_that_has_its_files_for_the_grace(store: EventStore, clock: FakeClock) -> None:
    """However often that one is heard of: it may be busy for hours."""
    job = handed_back(store, begun(store, CHECKPOINT))
    for _ in range(3):
        heard(store, "a")
        assert takes(store, ELSEWHERE) == []
        clock.advance(GRACE / 3 - 0.5)
    heard(store, "a")
    assert takes(store, ELSEWHERE) == []
    clock.advance(2.0)
    assert takes(store, ELSEWHERE) == [job.id]
    assert spool_of(store, job) == "b"


def test_a_worker_beside_the_first_one_goes_on_at_once(store: EventStore) -> None:
    job = handed_back(store, begun(store, CHECKPOINT))
    heard(store, "a")
    assert takes(store, BESIDE) == [job.id]


def test_a_drained_workers_successor_on_the_same_host_has_its_time(store: EventStore, clock: FakeClock) -> None:
    """Whatever the row of the first one says: its successor usually comes at once."""
    job = handed_back(store, begun(store, CHECKPOINT))
    heard(store, "a", state="stopped")
    clock.advance(GRACE - 1)
    assert takes(store, ELSEWHERE) == []
    heard(store, "a", "its successor")
    assert takes(store, claimant("its successor", host="a")) == [job.id]


def test_nobody_waits_for_a_host_that_is_not_heard_of(store: EventStore, clock: FakeClock) -> None:
    """Its worker fell silent with the job in hand; whoever else is heard of there, is on another host."""
    heard(store, "a")
    job = begun(store, CHECKPOINT)
    clock.advance(GRACE + 1)
    heard(store, "b", "w3")
    handed_back(store, job)
    assert takes(store, ELSEWHERE) == [job.id]


@pytest.mark.parametrize(
    "events",
    [[], [asset(), e.MediaGenerated(device_seconds=1.0, engine="null"), "started", "uploaded"]],
    ids=["nothing is made yet", "all is uploaded"],
)
def test_a_job_without_files_is_anybodys_at_once(store: EventStore, events: list[e.Event | str]) -> None:
    job = begun(store)
    for event in events:
        match event:
            case "started":
                job = store.append(job, decisions.start(job), worker_id="w1")
            case "uploaded":
                put = e.AssetUploaded(index=0, bucket="b", key="u/x_0.png", digest="0" * 64, bytes=9)
                job = store.append(job, [put], worker_id="w1")
            case _:
                assert isinstance(event, e.Event)
                job = store.append(job, [event], worker_id="w1")
    job = handed_back(store, job)
    heard(store, "a")
    assert spool_of(store, job) is None
    assert takes(store, ELSEWHERE) == [job.id]


@pytest.mark.parametrize(
    "made",
    [[CHECKPOINT], [asset()], [asset(), e.MediaGenerated(device_seconds=1.0, engine="null")]],
    ids=["a checkpoint", "an asset", "all assets"],
)
def test_what_is_made_and_not_uploaded_holds_the_job(store: EventStore, made: list[e.Event]) -> None:
    handed_back(store, begun(store, *made))
    heard(store, "a")
    assert takes(store, ELSEWHERE) == []


def test_references_hold_the_job_until_it_is_drawn(store: EventStore) -> None:
    new = new_job(stages=["fetching_refs", "generating", "uploading", "callback"])
    store.admit([new])
    (job,) = store.claim(HERE, drawing=1)
    reference = {"role": "single", "name": "reference_single.png", "digest": "r" * 64}
    job = store.append(job, [*decisions.start(job), e.RefsFetched(references=[reference])], worker_id="w1")
    handed_back(store, job)
    heard(store, "a")
    assert takes(store, ELSEWHERE) == []


def test_a_retry_is_left_to_its_host_from_when_it_is_due(store: EventStore, clock: FakeClock) -> None:
    job = begun(store, CHECKPOINT)
    later = decisions.trouble(
        job, error_class="transient", error_type="X", message="m", now=store.now(), jitter=0.0, retry_after=100.0
    )
    store.append(job, later, worker_id="w1")
    clock.advance(101.0)
    heard(store, "a")
    assert takes(store, ELSEWHERE) == []
    clock.advance(GRACE)
    heard(store, "a")
    assert takes(store, ELSEWHERE) == [job.id]


def test_the_telling_needs_no_files(store: EventStore) -> None:
    job = begun(store, asset())
    failed = decisions.give_up(job, error_class="permanent", error_type="X", message="m", now=store.now())
    handed_back(store, store.append(job, failed, worker_id="w1"))
    heard(store, "a")
    assert [told.id for told in store.claim(ELSEWHERE, telling=1, expected=True)] == [job.id]


def test_preferring_a_loaded_model_takes_no_job_from_its_host(store: EventStore, clock: FakeClock) -> None:
    new = new_job(model="m")
    store.admit([new])
    (job,) = store.claim(HERE, drawing=1)
    handed_back(store, store.append(job, [*decisions.start(job), CHECKPOINT], worker_id="w1"))
    heard(store, "a")
    who = claimant("w3", host="b", resident=("m",))
    affinity = Affinity(120.0, clock.monotonic)
    assert store.claim(who, drawing=1, expected=True, affinity=affinity) == []
    clock.advance(GRACE + 1)
    assert [taken.id for taken in store.claim(who, drawing=1, expected=True, affinity=affinity)] == [job.id]


def test_each_claimant_has_its_own_patience(store: EventStore, clock: FakeClock) -> None:
    job = handed_back(store, begun(store, CHECKPOINT))
    heard(store, "a")
    clock.advance(5.0)
    patient, hasty = claimant("w3", host="b"), claimant("w4", host="c", grace=4.0)
    assert takes(store, patient) == []
    assert takes(store, hasty) == [job.id]


def test_a_spool_keeps_what_somebody_goes_on_from_in_it(store: EventStore, clock: FakeClock) -> None:
    """And nothing that has ended, has gone on elsewhere, or was never of use; what no job has is told apart."""
    in_hand, waiting = begun(store, CHECKPOINT), handed_back(store, begun(store, CHECKPOINT))
    bare = handed_back(store, begun(store))
    clock.advance(GRACE + 1)
    moved = handed_back(store, begun(store, CHECKPOINT))
    clock.advance(GRACE + 1)
    queued = new_job()
    store.admit([queued])
    with store.write() as connection:  # moved was taken by b, and so it would have been, had it been the only one
        connection.execute(job_leases.update().where(job_leases.c.job_id == moved.id).values(spool_host="b"))
    done = begun(store)
    failed = decisions.give_up(done, error_class="permanent", error_type="X", message="m", now=store.now())
    done = store.append(done, failed, worker_id="w1")
    done = store.append(done, decisions.finish(done, now=store.now(), notified=False), worker_id="w1")
    assert done.state is State.FAILED
    folders = [job.id for job in (in_hand, waiting, bare, moved, done)] + [queued.job_id, "unheard of"]
    found = store.folders("a", folders)
    assert found.needless == {bare.id, moved.id, done.id}
    assert found.unknown == {"unheard of"}
    assert store.folders("a", []).needless == set()
    with store.claimed_by_nobody("a", folders) as again:
        assert again == found


def test_whose_folder_is_being_removed_is_claimed_by_nobody_meanwhile(store: EventStore) -> None:
    """And whose row is being written, by a claim perhaps, keeps its folder."""
    bare = handed_back(store, begun(store))
    with store.claimed_by_nobody("a", [bare.id]) as found:
        assert found.needless == {bare.id}
        if store.engine.dialect.name == "sqlite":  # one writes at a time: a claim waits for the end of this
            other = sqlite3.connect(str(store.engine.url.database), timeout=0)
            with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        else:
            assert store.claim(BESIDE, drawing=9) == []
            with store.claimed_by_nobody("a", [bare.id]) as late:
                assert late.needless == set()
    assert takes(store, BESIDE) == [bare.id]


def test_thousands_of_folders_are_asked_for_in_parts(store: EventStore) -> None:
    job = handed_back(store, begun(store))
    unknown = [f"x{number}" for number in range(2500)]
    found = store.folders("a", [*unknown, job.id])
    assert (found.needless, found.unknown) == ({job.id}, set(unknown))


def test_a_worker_of_an_older_version_tells_no_spool_and_keeps_nobody_waiting(store: EventStore) -> None:
    job = handed_back(store, begun(store, CHECKPOINT))
    old = {"worker_id": "w1", "host": "a", "pid": 1, "device": "cpu", "job_types": "[]", "models": "{}"}
    at = {"started_at": store.now() - timedelta(1), "last_seen_at": store.now()}
    with store.write() as connection:
        connection.execute(insert(workers), {**old, **at, "state": "active", "version": "0"})
    assert takes(store, ELSEWHERE) == [job.id]
