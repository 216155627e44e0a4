"""Retention: who may go, who is left, and what stays known."""

import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from statemachine import decisions
from statemachine import events as e
from statemachine.admission import DeadLetter, Verdict
from statemachine.errors import ArchivedJob, FencedOut, UnknownJob
from statemachine.states import TERMINAL, State
from statemachine.store import EventStore
from statemachine.store.anchors import write
from statemachine.store.archive_schema import archived_jobs, archives
from statemachine.store.projections import upsert
from statemachine.store.reading import resolve
from statemachine.store.retention import (
    Chosen,
    Removed,
    Rows,
    choose,
    forget_letters,
    forget_workers,
    read_rows,
    remove,
)
from statemachine.store.rolling import roll
from statemachine.store.schema import (
    dead_letters,
    job_events,
    job_leases,
    job_payloads,
    jobs,
    rejected_writes,
    retention_door,
    workers,
)
from statemachine.store.verify import verify
from tests.fakes import FakeClock
from tests.statemachine.builders import claimed, live_through, new_job

DAY = timedelta(days=1)
ARCHIVE = "archive-20260705T120000Z-00c0ffee"


def count(store: EventStore, table: object) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0  # type: ignore[arg-type]


@pytest.fixture
def store(store: EventStore) -> EventStore:
    """A store in which it is noon of some day."""
    store.clock = FakeClock()
    return store


def next_day(store: EventStore) -> None:
    """It is the next noon, and what was before midnight is rolled up."""
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(DAY.total_seconds())
    assert list(roll(store.engine, store.now()))


def due(store: EventStore, *states: State, after: Chosen | None = None, limit: int = 100) -> list[Chosen]:
    """What may go on the next day, however lately it ended."""
    next_day(store)
    later = store.now() + DAY
    with store.read() as connection:
        return choose(connection, dict.fromkeys(states or TERMINAL, later), after=after, limit=limit)


def handed_in(store: EventStore, *job_ids: str) -> Rows:
    """What an archive of these jobs would give back."""
    with store.read() as connection:
        return read_rows(connection, job_ids)


def take_away(store: EventStore, kept: Rows) -> Removed:
    """Remove on the next day what was archived, without a file, when another job has come."""
    store.admit([new_job()])
    return hand_in(store, kept)


def hand_in(store: EventStore, kept: Rows) -> Removed:
    """Remove on the next day what may go of it."""
    next_day(store)
    at = store.now()
    with store.write() as connection:
        upsert(
            connection,
            archives,
            [
                {
                    "name": ARCHIVE, "place": "/archives", "digest": "0" * 64, "jobs": 1, "first_finished_at": at,
                    "last_finished_at": at, "made_at": at, "made_by": "me", "done_at": None,
                }
            ],
        )  # fmt: skip
        return remove(connection, kept, archive=ARCHIVE, by="me", at=at)


def anchor(store: EventStore) -> None:
    with store.write() as connection:
        up_to = connection.scalar(select(func.max(job_events.c.position)))
        assert up_to is not None
        assert write(connection, up_to, key=None, at=store.now(), made_by="s") is not None


def fail(store: EventStore) -> str:
    job = claimed(store)
    trouble = decisions.give_up(job, error_class="permanent", error_type="Broken", message="m", now=store.now())
    job = store.append(job, trouble)
    store.append(job, decisions.finish(job, now=store.now(), notified=False))
    return job.id


def test_only_what_ended_as_asked_and_before_the_time_is_chosen(store: EventStore) -> None:
    done, failed = live_through(store), fail(store)
    claimed(store)
    assert {one.job_id for one in due(store)} == {done, failed}
    assert [one.job_id for one in due(store, State.FAILED)] == [failed]
    with store.read() as connection:
        assert choose(connection, dict.fromkeys(TERMINAL, store.now() - 2 * DAY), limit=9) == []
        assert choose(connection, {}, limit=9) == []


def test_the_first_to_end_go_first(store: EventStore) -> None:
    ids = []
    for _ in range(3):
        ids.append(live_through(store))
        next_day(store)
    store.admit([new_job()])
    assert [one.job_id for one in due(store)] == ids


def test_what_is_chosen_goes_on_behind_the_last_one(store: EventStore) -> None:
    ids = [live_through(store) for _ in range(3)]
    store.admit([new_job()])  # holds the newest event of all
    (first,) = due(store, limit=1)
    assert [first.job_id, *(one.job_id for one in due(store, after=first))] == sorted(ids)  # all at the same moment


def test_the_newest_event_stays_so_that_no_position_is_given_away_twice(store: EventStore) -> None:
    first, last = live_through(store), live_through(store)
    assert {one.job_id for one in due(store)} == {first}
    store.admit([new_job()])
    assert {one.job_id for one in due(store)} == {first, last}


def test_what_no_anchor_covers_yet_stays(store: EventStore) -> None:
    first = live_through(store)
    anchor(store)
    second = live_through(store)
    store.admit([new_job()])
    assert {one.job_id for one in due(store)} == {first}
    anchor(store)
    assert {one.job_id for one in due(store)} == {first, second}


def test_what_is_being_erased_stays_until_that_is_finished(store: EventStore) -> None:
    """Its files are still in storage, and only here it is known which they are."""
    job_id = live_through(store)
    live_through(store)
    file = {"bucket": "b", "key": "u/x_0.png"}
    store.append(store.load(job_id), decisions.erase(store.load(job_id), by="a", reason="", files=[file], left=True))
    live_through(store)
    assert job_id not in [chosen.job_id for chosen in due(store)]
    store.append(store.load(job_id), decisions.files_removed(store.load(job_id), by="a"))
    live_through(store)
    assert job_id in [chosen.job_id for chosen in due(store)]


def test_what_ended_on_a_day_that_is_not_rolled_up_stays(store: EventStore) -> None:
    live_through(store)
    store.admit([new_job()])
    with store.read() as connection:
        assert choose(connection, dict.fromkeys(TERMINAL, store.now() + DAY), limit=9) == []
    assert len(due(store)) == 1


def test_the_days_of_what_was_removed_stay_as_they_were(store: EventStore) -> None:
    job_id = live_through(store)
    next_day(store)
    query = text("SELECT day, completed, assets FROM daily_output WHERE completed > 0")
    with store.read() as connection:
        before = connection.execute(query).all()
    take_away(store, handed_in(store, job_id))
    with store.read() as connection:
        assert connection.execute(query).all() == before == [("2025-07-16", 1, 2)]


def test_a_job_goes_with_all_that_is_of_it_and_nothing_of_others(store: EventStore) -> None:
    going, staying = live_through(store), live_through(store)
    before = handed_in(store, staying)
    assert take_away(store, handed_in(store, going)) == Removed(removed=[going], left=[])
    assert all(not rows for rows in handed_in(store, going).values())
    assert handed_in(store, staying) == before
    assert [count(store, table) for table in (job_payloads, job_leases, retention_door)] == [2, 0, 0]
    with pytest.raises(DBAPIError), store.write() as connection:
        connection.execute(job_events.delete())  # the door is shut again


def test_a_job_that_is_no_longer_as_it_was_archived_stays(store: EventStore) -> None:
    """Requeued in between; written to by a rebuild; refused a late write."""
    requeued, touched, late = (live_through(store) for _ in range(3))
    kept = handed_in(store, requeued, touched, late)
    job = store.load(requeued)
    store.append(job, decisions.requeue(job, by="me", reason="again"))
    with store.write() as connection:
        connection.execute(jobs.update().where(jobs.c.id == touched).values(error_message="x"))
    old = store.load(late)
    with pytest.raises(FencedOut):
        store.append(replace(old, token=99, state=State.CALLBACK), [e.Interrupted(reason="late", by="w", token=100)])
    events = count(store, job_events)
    assert take_away(store, kept) == Removed(removed=[], left=sorted([requeued, touched, late]))
    assert (count(store, job_events), count(store, archived_jobs), count(store, rejected_writes)) == (events + 1, 0, 1)


def test_a_late_duplicate_of_an_archived_job_is_what_it_was_before(store: EventStore) -> None:
    """The same payload is known, another one under its id is a dead letter; nothing is drawn a second time."""
    job_id = live_through(store)
    take_away(store, handed_in(store, job_id))
    again, other = new_job(job_id), new_job(job_id, payload_digest="e" * 64)
    admissions = store.admit([again, other, new_job()])
    assert [one.verdict for one in admissions] == [Verdict.DUPLICATE, Verdict.DEAD, Verdict.NEW]
    assert admissions[1].reason == (
        f"job {job_id} is known with another content (it is completed, and archived); it is left as it is"
    )
    assert (count(store, jobs), count(store, job_events), count(store, dead_letters)) == (2, 2, 1)


def test_who_asks_for_an_archived_job_is_told_where_it_is(store: EventStore) -> None:
    job_id = live_through(store)
    take_away(store, handed_in(store, job_id))
    when = "it ended as completed on 2025-07-16 and was archived on 2025-07-17"
    tells = f"`ourvidz history inspect /archives {job_id[:8]}` tells of it"
    said = f"job {job_id} is not here any more: {when} into /archives/{ARCHIVE}; {tells}"
    with store.read() as connection:
        for start in (job_id, job_id[:8]):
            with pytest.raises(ArchivedJob) as told:
                resolve(connection, start)
            assert str(told.value) == said
        with pytest.raises(UnknownJob, match="no job's id begins with"):
            resolve(connection, "00000000")
    with pytest.raises(ArchivedJob):
        store.load(job_id)


def test_a_prefix_means_the_job_that_is_here(store: EventStore) -> None:
    gone, here = (f"7f3a{digit}b10-5c1d-4e6f-8a90-1b2c3d4e5f60" for digit in "01")
    store.admit([new_job(gone)])
    live_through(store, gone)
    take_away(store, handed_in(store, gone))
    store.admit([new_job(here)])
    with store.read() as connection:
        assert resolve(connection, "7f3a") == here
        with pytest.raises(ArchivedJob):
            resolve(connection, "7f3a0")


def test_a_job_that_a_restored_database_has_lost_is_known_by_its_archive(store: EventStore) -> None:
    job_id = live_through(store)
    kept = handed_in(store, job_id)
    take_away(store, kept)
    with store.write() as connection:
        connection.execute(archived_jobs.delete())
    assert take_away(store, kept) == Removed(removed=[], left=[])
    assert store.admit([new_job(job_id)])[0].verdict == Verdict.DUPLICATE


def test_an_archive_from_before_a_restore_takes_nothing_that_is_young_again(store: EventStore) -> None:
    """Of the newest event SQLite would give the position away again, and what stands there would never be anchored."""
    first, second = live_through(store), live_through(store)
    anchor(store)
    third = live_through(store)
    kept = handed_in(store, first, second, third)
    assert hand_in(store, kept) == Removed(removed=sorted([first, second]), left=[third])
    anchor(store)
    assert hand_in(store, kept) == Removed(removed=[], left=[third])
    live_through(store)
    anchor(store)
    assert [found for batch in verify(store.engine) for one in batch for found in one.findings] == []
    assert hand_in(store, kept) == Removed(removed=[third], left=[])


def test_two_who_archive_the_same_job_remove_it_once(store: EventStore) -> None:
    job_id = live_through(store)
    kept = handed_in(store, job_id)
    take_away(store, kept)
    assert take_away(store, kept) == Removed(removed=[], left=[])
    assert count(store, archived_jobs) == 1


def test_workers_that_were_not_heard_for_long_are_forgotten_unless_they_hold_a_job(store: EventStore) -> None:
    now = store.now()
    job = claimed(store, "holding")
    for name in ("holding", "gone", "heard"):
        row = {
            "worker_id": name, "host": "h", "pid": 1, "device": "cpu", "job_types": "[]", "models": "{}",
            "state": "active", "version": "1", "started_at": now,
            "last_seen_at": now if name == "heard" else now - timedelta(days=40),
        }  # fmt: skip
        store.see_worker(row)
    assert job.worker_id == "holding"
    with store.write() as connection:
        assert forget_workers(connection, now - timedelta(days=30)) == 1
        assert set(connection.scalars(select(workers.c.worker_id))) == {"holding", "heard"}


def test_dead_letters_are_forgotten_by_their_age(store: EventStore) -> None:
    now = store.now()
    for days in (40, 35, 31, 1):
        letter = DeadLetter(raw=b"%d" % days, reason="r", queue="q", source="redis")
        store.admit([letter], at=now - timedelta(days=days))
    with store.write() as connection:
        assert forget_letters(connection, now - timedelta(days=30), limit=2) == 2
        assert forget_letters(connection, now - timedelta(days=30), limit=2) == 1
        assert list(connection.scalars(select(dead_letters.c.raw))) == [b"1"]


def test_what_comes_again_while_it_is_being_archived_is_no_new_job(store: EventStore) -> None:
    """The insert waits for the removal, finds no row any more, and must look once more before it makes a second job."""
    job_id = live_through(store)
    kept = handed_in(store, job_id)
    take_away(store, handed_in(store))
    verdicts: list[Verdict] = []

    def come_again() -> None:
        verdicts.append(store.admit([new_job(job_id)])[0].verdict)

    thread = threading.Thread(target=come_again)
    with store.write() as connection:
        remove(connection, kept, archive=ARCHIVE, by="me", at=store.now())
        thread.start()
        if connection.dialect.name == "postgresql":  # on SQLite it does not get so far as to wait for a row
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while thread.is_alive() and not connection.scalar(waiting):
                pass
    thread.join()
    assert verdicts == [Verdict.DUPLICATE]
    assert (count(store, jobs), count(store, job_events), count(store, archived_jobs)) == (1, 1, 1)


def test_what_is_here_and_archived_at_once_is_known_all_the_same(store: EventStore) -> None:
    """A restored database was told of an archive just while the job came again: what comes next must not fail."""
    job_id = live_through(store)
    take_away(store, handed_in(store, job_id))
    with store.read() as connection:
        noted = dict(connection.execute(select(archived_jobs)).mappings().one())
    with store.write() as connection:
        connection.execute(archived_jobs.delete())
    store.admit([new_job(job_id)])
    with store.write() as connection:
        connection.execute(archived_jobs.insert(), noted)
    assert store.admit([new_job(job_id)])[0].verdict == Verdict.DUPLICATE
