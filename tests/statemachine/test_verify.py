"""Whatever is done to a history, its projections or its anchors is found, and named by job and version."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Table, and_, delete, select, text, update

from statemachine import decisions
from statemachine.anchor import Key
from statemachine.errors import UnreadableHistory
from statemachine.finding import Finding, Wrong
from statemachine.store import EventStore
from statemachine.store.against_anchors import verify_anchors
from statemachine.store.anchors import newest
from statemachine.store.anchors_schema import anchored_jobs, anchors
from statemachine.store.append import write_events
from statemachine.store.archive_schema import archived_jobs, archives
from statemachine.store.codec import digest
from statemachine.store.comparing import TABLES, owner
from statemachine.store.schema import job_assets, job_attempts, job_callbacks, job_events, jobs
from statemachine.store.verify import since, verify, whose
from tests.statemachine import forging
from tests.statemachine.builders import claimed, live_through, new_job
from tests.statemachine.forging import anchor
from tests.statemachine.walks import walk

KEY = Key(secret=b"a key that is long enough")
Named = list[tuple[Wrong, str | None, int | None]]


def named(findings: Iterable[Finding]) -> Named:
    return [(one.kind, one.job_id, one.version) for one in findings]


def of_jobs(store: EventStore, *job_ids: str) -> Named:
    return named(
        finding
        for batch in verify(store.engine, job_ids or None)
        for verified in batch
        for finding in verified.findings
    )


def of_anchors(store: EventStore, **how: object) -> list[tuple[int | None, str]]:
    seen = verify_anchors(store.engine, **{"keys": [], **how})  # type: ignore[arg-type]
    return [(finding.anchor, finding.said) for one in seen for finding in one.findings]


@pytest.fixture
def job_id(store: EventStore) -> str:
    """A job that has ended, anchored in two windows, among others that nobody touches."""
    live_through(store)
    new = new_job(request={"reference_mode": "start"})
    store.admit([new])
    anchor(store)
    live_through(store, new.job_id)
    live_through(store)
    anchor(store)
    claimed(store)
    return new.job_id


def test_nothing_is_wrong_with_what_was_written(store: EventStore, job_id: str) -> None:
    """Finished, live, requeued, waiting, anchored or not yet."""
    job = store.load(job_id)
    store.append(job, decisions.requeue(job, by="me", reason="again"))
    store.admit([new_job()])
    looked = [verified for batch in verify(store.engine) for verified in batch]
    assert [verified.findings for verified in looked] == [[]] * 5
    with store.read() as connection:
        (events,) = connection.scalars(text("SELECT count(*) FROM job_events")).all()
    assert sum(verified.events for verified in looked) == events
    assert of_anchors(store) == []


def test_all_jobs_are_looked_at_in_batches(store: EventStore) -> None:
    store.admit([new_job() for _ in range(450)])
    sizes = [len(batch) for batch in verify(store.engine)]
    assert sizes == [200, 200, 50]


def test_a_changed_event(store: EventStore, job_id: str) -> None:
    forging.change(store, job_id, 3, worker_id="somebody else")
    assert of_jobs(store) == [(Wrong.CHANGED, job_id, 3)]


@pytest.mark.parametrize("column", ["kind", "at", "stage", "run", "to_state", "data"])
def test_a_change_of_whatever_an_event_says(store: EventStore, job_id: str, column: str) -> None:
    with store.read() as connection:
        other = connection.execute(select(job_events).where(job_events.c.version == 2)).mappings().first()
    assert other is not None
    forging.change(store, job_id, 8, **{column: other[column]} if column != "run" else {"run": 2})
    assert (Wrong.CHANGED, job_id, 8) in of_jobs(store)


def test_a_changed_event_with_a_digest_of_its_own(store: EventStore, job_id: str) -> None:
    """The one behind it was written behind another, and the anchor knows the end."""
    history = store.history(job_id)
    forged = replace(history[2], data='{"attempt":2,"stage":"generating"}')
    forging.change(store, job_id, 3, data=forged.data, digest=digest(history[1].digest, forged))
    assert (Wrong.CHANGED, job_id, 4) in of_jobs(store)


@pytest.mark.parametrize("versions", [(1,), (4,), (4, 5, 6)])
def test_a_removed_event(store: EventStore, job_id: str, versions: tuple[int, ...]) -> None:
    forging.remove(store, job_id, *versions)
    first, *_ = [finding for batch in verify(store.engine) for one in batch for finding in one.findings]
    assert named([first]) == [(Wrong.MISSING, job_id, versions[0])]
    assert first.said == ("versions 4 to 6 are missing" if len(versions) == 3 else f"version {versions[0]} is missing")


def test_two_swapped_events(store: EventStore, job_id: str) -> None:
    forging.swap(store, job_id, 4, 5)
    assert of_jobs(store) == [(Wrong.MOVED, job_id, 4), (Wrong.MOVED, job_id, 5)]


def test_two_events_that_are_swapped_far_from_each_other(store: EventStore, job_id: str) -> None:
    forging.swap(store, job_id, 3, 7)
    assert [(kind, version) for kind, _, version in of_jobs(store)] == [(Wrong.MOVED, 3), (Wrong.MOVED, 7)]


def test_an_event_of_another_job(store: EventStore, job_id: str) -> None:
    other = next(verified.job.id for batch in verify(store.engine) for verified in batch if verified.job.id != job_id)
    forging.remove(store, job_id, 1)
    with forging.unguarded(store) as connection:
        connection.execute(
            update(job_events).where(job_events.c.job_id == other, job_events.c.version == 1).values(job_id=job_id)
        )
    found = of_jobs(store)
    assert {(Wrong.CHANGED, job_id, 1), (Wrong.MISSING, other, 1)} <= set(found)


def test_an_inserted_event_at_the_end_of_what_was_anchored(store: EventStore, job_id: str) -> None:
    """Its digest fits, and so do the projections."""
    history = store.history(job_id)
    job = store.load(job_id)
    (again,) = decisions.requeue(job, by="nobody", reason="")
    data = '{"by":"nobody","reason":"","run":2,"stage":"queued"}'
    forged = forging.sealed_at(
        history, kind="requeued", data=data, event=again, run=2, stage=None, from_state=job.state, to_state="queued"
    )
    forging.insert(store, [forged], position=-1)
    assert of_jobs(store) == [(Wrong.INSERTED, job_id, forged.version)]


def test_an_inserted_event_in_the_middle(store: EventStore, job_id: str) -> None:
    """Those behind it move up and are hashed anew; the anchor knows another end."""
    last = store.history(job_id)[-1].version
    with forging.unguarded(store) as connection:
        for version in range(last, 4, -1):
            at = (job_events.c.job_id == job_id) & (job_events.c.version == version)
            connection.execute(update(job_events).where(at).values(version=version + 1))
        connection.execute(
            text(
                "INSERT INTO job_events (position, job_id, version, kind, from_state, to_state, run, stage, attempt, "
                "worker_id, at, data, digest) SELECT -1, job_id, 5, 'degraded', from_state, to_state, run, stage, "
                'attempt, worker_id, at, \'{"what":"a","why":"b"}\', digest FROM job_events '
                "WHERE job_id = :job_id AND version = 4"
            ),
            {"job_id": job_id},
        )
    forging.hash_anew(store, job_id)
    assert of_jobs(store)[0] == (Wrong.REWRITTEN, job_id, last)


def test_an_inserted_job(store: EventStore, job_id: str) -> None:
    false = new_job()
    store.admit([false])
    forging.change(store, false.job_id, 1, position=-1)
    assert of_jobs(store) == [(Wrong.INSERTED, false.job_id, 1)]


def test_a_tail_that_was_hashed_anew(store: EventStore, job_id: str) -> None:
    last = store.history(job_id)[-1].version
    forging.change(store, job_id, 4, worker_id="somebody else")
    forging.hash_anew(store, job_id)
    assert of_jobs(store) == [(Wrong.REWRITTEN, job_id, last)]


def test_a_history_that_was_hashed_anew_from_its_beginning(store: EventStore, job_id: str) -> None:
    """The first anchor that covers it is the one that is named."""
    forging.change(store, job_id, 1, worker_id="somebody else")
    forging.hash_anew(store, job_id)
    assert of_jobs(store) == [(Wrong.REWRITTEN, job_id, 1)]


def test_a_tail_that_was_cut_off(store: EventStore, job_id: str) -> None:
    last = store.history(job_id)[-1].version
    forging.remove(store, job_id, last - 1, last)
    forging.cover(store, job_id)
    assert of_jobs(store) == [(Wrong.CUT, job_id, last - 1)]


def test_a_tail_that_was_cut_off_before_it_was_anchored(store: EventStore, job_id: str) -> None:
    """`jobs` still counts it. Whoever thinks of that as well is not seen: what is not anchored can be cut."""
    job = store.load(job_id)
    store.append(job, decisions.requeue(job, by="me", reason="again"))
    forging.remove(store, job_id, job.version + 1)
    assert of_jobs(store) == [(Wrong.MISSING, job_id, job.version + 1)]
    forging.cover(store, job_id)
    assert of_jobs(store) == []


def test_a_job_that_is_gone(store: EventStore, job_id: str) -> None:
    forging.remove_all(store, job_id)
    assert of_jobs(store) == [(Wrong.CUT, job_id, 1)]
    with store.read() as connection:
        assert whose(connection, job_id[:13]) == job_id, "nobody has to know the whole id of what is not there"
    assert of_jobs(store, job_id) == [(Wrong.CUT, job_id, 1)]


def test_a_row_without_a_history(store: EventStore) -> None:
    new = new_job()
    store.admit([new])
    forging.remove(store, new.job_id, 1)
    assert of_jobs(store) == [(Wrong.NO_HISTORY, new.job_id, None)]


@pytest.mark.parametrize(
    "statement",
    [
        update(jobs).values(state="failed"),
        update(jobs).values(finished_at=None),
        update(job_attempts).values(outcome="failed"),
        update(job_assets).values(digest="9" * 64),
        delete(job_assets).where(job_assets.c.asset_index == 1),
        delete(job_attempts),
        delete(jobs),
    ],
    ids=str,
)
def test_an_edited_projection(store: EventStore, job_id: str, statement: object) -> None:
    column = statement.table.c.get("id", statement.table.c.get("job_id"))  # type: ignore[attr-defined]
    with store.write() as connection:
        connection.execute(statement.where(column == job_id))  # type: ignore[attr-defined]
    assert of_jobs(store) == [(Wrong.PROJECTION, job_id, store.load(job_id).version)]
    forging.cover(store, job_id)
    assert of_jobs(store) == []


def test_a_row_that_no_event_tells_of(store: EventStore, job_id: str) -> None:
    row = {"job_id": job_id, "version": 2, "run": 1, "status": "completed", "try": 1, "delivered": True}
    with store.write() as connection:
        connection.execute(job_callbacks.insert(), {**row, "at": store.now()})
    assert of_jobs(store) == [(Wrong.PROJECTION, job_id, store.load(job_id).version)]


def test_an_event_that_may_not_happen_where_it_stands(store: EventStore) -> None:
    """Whoever can write, writes digests that fit; nobody who judges wrote this."""
    job = claimed(store)
    history = store.history(job.id)
    forged = forging.sealed_at(history, kind="job_completed", data='{"total_seconds":1}', to_state="completed")
    with store.write() as connection:
        write_events(connection, [forged])
    forging.cover(store, job.id)
    assert of_jobs(store) == [(Wrong.ILLEGAL, job.id, 3)]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "claimed", "from_state": "queued"},
        {"kind": "degraded", "data": '{"what":"a","why":"b"}', "run": 2},
        {"kind": "job_queued", "from_state": "generating"},
    ],
    ids=str,
)
def test_an_event_that_contradicts_what_was_before(store: EventStore, changes: dict[str, object]) -> None:
    job = claimed(store)
    history = store.history(job.id)
    forged = forging.sealed_at(history, **{"from_state": "generating", **changes})
    if forged.kind == "job_queued":
        forged = forging.sealed_at(history, **changes, data=history[0].data)
    with store.write() as connection:
        write_events(connection, [forged])
    forging.cover(store, job.id)
    assert of_jobs(store) == [(Wrong.ILLEGAL, job.id, 3)]


def test_an_event_of_the_past(store: EventStore) -> None:
    job = claimed(store)
    history = store.history(job.id)
    forged = forging.sealed_at(
        history,
        kind="degraded",
        data='{"what":"a","why":"b"}',
        at=history[0].at.replace(year=2020),
        from_state="generating",
    )
    with store.write() as connection:
        write_events(connection, [forged])
    forging.cover(store, job.id)
    assert of_jobs(store) == [(Wrong.ILLEGAL, job.id, 3)]


def test_an_event_that_cannot_be_read(store: EventStore) -> None:
    job = claimed(store)
    history = store.history(job.id)
    with store.write() as connection:
        write_events(connection, [forging.sealed_at(history, kind="degraded", data='{"what":7}')])
    assert of_jobs(store) == [(Wrong.UNREADABLE, job.id, 3)]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("stage_started", '{"stage":"napping","attempt":1}'),
        ("outcome_decided", '{"outcome":"fine","error_class":"a","error_type":"b","message":"c"}'),
    ],
)
def test_a_field_that_says_nothing_of_the_kind(store: EventStore, kind: str, data: str) -> None:
    """Its data is of the right shape. Nobody else may stand still because of it."""
    job = claimed(store)
    history = store.history(job.id)
    with store.write() as connection:
        write_events(connection, [forging.sealed_at(history, kind=kind, data=data)])
    assert of_jobs(store) == [(Wrong.UNREADABLE, job.id, 3)]
    with pytest.raises(UnreadableHistory, match=rf"version 3 \({kind}\)"):
        store.load(job.id)


def test_kinds_of_a_later_version_are_believed(store: EventStore) -> None:
    job = claimed(store)
    history = store.history(job.id)
    later = forging.sealed_at(history, kind="teleported", data='{"to":"mars"}', from_state="generating")
    with store.write() as connection:
        write_events(connection, [later])
    forging.cover(store, job.id)
    assert of_jobs(store) == []


class TestArchived:
    def archive(self, store: EventStore, job_id: str, **changes: object) -> None:
        job = store.load(job_id)
        row = {
            "job_id": job_id,
            "archive": "2026-01",
            "payload_digest": job.payload_digest,
            "state": "completed",
            "version": job.version,
            "digest": job.digest,
            "finished_at": job.finished_at,
            "archived_at": store.now(),
            **changes,
        }
        forging.remove_all(store, job_id)
        at = {name: store.now() for name in ("first_finished_at", "last_finished_at", "made_at")}
        known = {"name": "2026-01", "place": "/archives", "digest": "0" * 64, "jobs": 1, "made_by": "me", **at}
        with store.write() as connection:
            connection.execute(archived_jobs.insert(), row)
            connection.execute(archives.insert(), known)

    def test_is_not_missing(self, store: EventStore, job_id: str) -> None:
        self.archive(store, job_id)
        assert of_jobs(store) == []
        assert of_anchors(store) == []

    def test_is_in_an_archive_of_which_somebody_knows(self, store: EventStore, job_id: str) -> None:
        self.archive(store, job_id, archive="2026-02")
        assert of_jobs(store) == [(Wrong.CUT, job_id, 1)]

    @pytest.mark.parametrize("change", [{"version": 5}, {"version": 99}, {"digest": "0" * 64}], ids=str)
    def test_cannot_hide_what_it_ended_with(self, store: EventStore, job_id: str, change: dict[str, object]) -> None:
        last = store.load(job_id).version
        self.archive(store, job_id, **change)
        assert of_jobs(store) == [(Wrong.CUT, job_id, last)]

    def test_has_left_nothing_behind(self, store: EventStore, job_id: str) -> None:
        with store.read() as connection:
            row = dict(connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one())
        self.archive(store, job_id)
        with store.write() as connection:
            connection.execute(jobs.insert(), row)
        assert of_jobs(store) == [(Wrong.CUT, job_id, 1)]


class TestAnchors:
    def test_one_that_says_something_else(self, store: EventStore, job_id: str) -> None:
        with forging.unguarded(store) as connection:
            connection.execute(update(anchors).where(anchors.c.sequence == 1).values(made_by="somebody else"))
        assert of_anchors(store) == [(1, "its root is not that of what it says and covers")]

    @pytest.mark.parametrize(
        "statement",
        [delete(anchored_jobs), update(anchored_jobs).values(version=1), update(anchored_jobs).values(digest="0" * 64)],
        ids=str,
    )
    def test_one_that_covers_something_else(self, store: EventStore, job_id: str, statement: object) -> None:
        with forging.unguarded(store) as connection:
            connection.execute(statement.where(anchored_jobs.c.anchor == 2))  # type: ignore[attr-defined]
        assert of_anchors(store) == [(2, "its root is not that of what it says and covers")]

    def test_one_that_is_gone(self, store: EventStore, job_id: str) -> None:
        anchor(store)
        with forging.unguarded(store) as connection:
            connection.execute(delete(anchors).where(anchors.c.sequence == 2))
        assert of_anchors(store) == [(2, "anchor 2 is missing")]

    def test_one_that_is_made_anew_breaks_the_chain(self, store: EventStore, job_id: str) -> None:
        with forging.unguarded(store) as connection:
            connection.execute(delete(anchored_jobs))
            connection.execute(delete(anchors).where(anchors.c.sequence == 2))
            kept = connection.execute(select(anchors)).mappings().one()
            connection.execute(delete(anchors))
        anchor(store, made_by="somebody else")
        with forging.unguarded(store) as connection:
            connection.execute(anchors.insert(), {**kept, "sequence": 2})
        assert (2, "it does not follow from the anchor before it") in of_anchors(store)

    def test_without_the_key_nobody_makes_them_anew(self, store: EventStore, job_id: str) -> None:
        """The history is hashed anew, and all anchors too, each fitting the next. None has the key."""
        for forged_with, said in (
            (None, "it was made without the key that is set here"),
            (Key(secret=b"another secret"), "which is none of ours"),
        ):
            with forging.unguarded(store) as connection:
                connection.execute(delete(anchored_jobs))
                connection.execute(delete(anchors))
            forging.change(store, job_id, 1, worker_id="somebody else")
            forging.hash_anew(store, job_id)
            anchor(store, key=forged_with)
            assert of_jobs(store) == [], "from within the database alone"
            ((sequence, why),) = of_anchors(store, keys=[KEY])
            assert sequence == 1
            assert said in why

    def test_none_at_all(self, store: EventStore) -> None:
        assert of_anchors(store, keys=[KEY]) == [], "nothing happened, so nothing is anchored"
        store.admit([new_job()])
        assert of_anchors(store, keys=[KEY]) == [(1, "there is none, though a key is set here to make them with")]
        assert of_anchors(store) == []

    def test_a_key_vouches_for_those_before_it(self, store: EventStore, job_id: str) -> None:
        store.admit([new_job()])
        anchor(store, key=KEY)
        assert of_anchors(store, keys=[KEY], keyed_from=3) == []
        assert of_anchors(store, keys=[KEY]) == [(1, "it was made without the key that is set here")]
        seen = list(verify_anchors(store.engine, keys=[]))
        assert [(one.there, one.unproven, one.findings) for one in seen] == [
            (True, False, []),
            (True, False, []),
            (True, True, []),
            (False, False, []),
        ]

    def test_a_key_cannot_be_left_out_again(self, store: EventStore, job_id: str) -> None:
        store.admit([new_job()])
        anchor(store, key=KEY)
        store.admit([new_job()])
        anchor(store)
        assert of_anchors(store) == [(4, "it was made without a key, and the one before it with one")]
        assert [sequence for sequence, _ in of_anchors(store, keys=[KEY], keyed_from=3)] == [4]

    def test_a_supervisor_with_the_key_vouches_for_no_forgery(self, store: EventStore, job_id: str) -> None:
        """Everything was made anew without the key, and then a supervisor went on with it."""
        store.admit([new_job()])
        anchor(store, key=KEY)
        assert of_anchors(store, keys=[KEY], keyed_from=3) == []
        with forging.unguarded(store) as connection:
            connection.execute(delete(anchored_jobs))
            connection.execute(delete(anchors))
        forging.change(store, job_id, 1, worker_id="somebody else")
        forging.hash_anew(store, job_id)
        for _ in range(3):
            anchor(store, most=5)
        anchor(store, key=KEY)
        assert of_jobs(store) == []
        assert [sequence for sequence, _ in of_anchors(store, keys=[KEY], keyed_from=3)] == [3]

    def test_a_supervisor_that_anchors_a_forgery_anew_does_so_late(self, store: EventStore, job_id: str) -> None:
        """All anchors were taken away, so it began with the first. It has the key, and cannot know."""
        later = store.now() + timedelta(days=1)
        with forging.unguarded(store) as connection:
            connection.execute(delete(anchored_jobs))
            connection.execute(delete(anchors))
        assert sum(one.late for batch in verify(store.engine) for one in batch) == 0
        anchor(store, key=KEY, at=later)
        assert of_anchors(store, keys=[KEY]) == []
        events = sum(one.events for batch in verify(store.engine) for one in batch)
        assert sum(one.late for batch in verify(store.engine) for one in batch) == events
        assert sum(one.late for batch in verify(store.engine, patience=timedelta(days=2)) for one in batch) == 0

    def test_the_first_that_was_made_with_the_key_is_missed(self, store: EventStore, job_id: str) -> None:
        assert of_anchors(store, keys=[KEY], keyed_from=3) == [
            (3, "it is not there, and is said to be the first that was made with the key")
        ]

    def test_an_older_key_is_believed(self, store: EventStore) -> None:
        new = Key(secret=b"the key of next year")
        for key in (KEY, new):
            store.admit([new_job()])
            anchor(store, key=key)
        assert of_anchors(store, keys=[new, KEY]) == []
        assert of_anchors(store, keys=[new]) == [(1, f"it was made with the key {KEY.id}, which is none of ours")]

    def test_a_log_knows_what_was_cut_from_the_database(self, store: EventStore, job_id: str) -> None:
        """The newest anchors, and the events that they cover: what is left is whole, and has lost its end."""
        with store.read() as connection:
            logged = {row.sequence: frozenset([row.root]) for row in connection.execute(select(anchors)).all()}
        assert of_anchors(store, logged=logged) == []
        with forging.unguarded(store) as connection:
            connection.execute(delete(anchors).where(anchors.c.sequence == 2))
            connection.execute(delete(anchored_jobs).where(anchored_jobs.c.anchor == 2))
            first = newest(connection)
            assert first is not None
            connection.execute(delete(job_events).where(job_events.c.position > first.up_to))
        for _ in store.rebuild():
            continue
        assert of_jobs(store) == []
        assert of_anchors(store) == []
        assert of_anchors(store, logged=logged) == [(2, "it is not there, and the log has it")]
        store.admit([new_job()])
        anchor(store)
        assert of_anchors(store, logged=logged) == [(2, "the log has another root for it")]


def test_what_happened_since_is_chosen_by_what_was_written_since(store: EventStore, job_id: str) -> None:
    """Also where somebody made the job itself look old, or removed it."""
    anchor(store)
    moment = store.now()
    job = store.load(job_id)
    store.append(job, decisions.requeue(job, by="me", reason="again"))
    gone, late = live_through(store, job_id), new_job()
    anchor(store)
    store.admit([late])
    forging.remove_all(store, gone)
    with store.read() as connection:
        assert since(connection, moment) == sorted([job_id, late.job_id])


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_job_lives_through_nothing_is_wrong_with_it(store: EventStore, seed: int) -> None:
    walked = walk(store, seed)
    anchor(walked, most=100)
    assert of_jobs(walked) == []
    assert of_anchors(walked) == []


def other(value: Any) -> Any:
    """Another value of the same kind, that a column takes."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1000  # and no other row of it
        case datetime():
            return value + timedelta(microseconds=1)
        case str():
            return value[:-1] + ("x" if value[-1:] != "x" else "y")
        case _:
            return None


FREE = {"position": "gaps and order of positions mean nothing"}
"""Columns of which no digest tells, and why."""


@pytest.mark.parametrize("table", [job_events, *TABLES, anchors, anchored_jobs], ids=str)
def test_a_change_of_any_value_that_is_there_is_found(store: EventStore, table: Table) -> None:
    """In each table, of each column, in two rows that chance has chosen; and each of these rows removed."""
    walked = walk(store, 7, jobs=10, steps=250)
    for _ in range(4):
        anchor(walked, most=60)
    anchor(walked)
    with forging.unguarded(walked) as connection:  # and from here on nothing is guarded
        rows = [dict(row) for row in connection.execute(select(table)).mappings()]
    missed = []
    for row in Random(7).sample(rows, 2):
        changed = [{**row, name: other(row[name])} for name in row if name not in FREE and row[name] is not None]
        for forged in (*changed, None):
            put(walked, table, row, forged)
            if not of_jobs(walked, *jobs_in(table, row, forged)) and not of_anchors(walked):
                missed.append((forged, row))
            put(walked, table, forged, row)
    assert missed == []
    assert of_jobs(walked) == []


def put(store: EventStore, table: Table, there: dict[str, Any] | None, wanted: dict[str, Any] | None) -> None:
    """Put one row in the place of another."""
    with store.write() as connection:
        if there is not None:
            connection.execute(delete(table).where(and_(*(key == there[key.name] for key in table.primary_key))))
        if wanted is not None:
            connection.execute(table.insert(), wanted)


def jobs_in(table: Table, *rows: dict[str, Any] | None) -> set[str]:
    """Of which jobs these rows tell; those of anchors tell of none in particular."""
    return set() if table is anchors else {row[owner(table).name] for row in rows if row is not None}
