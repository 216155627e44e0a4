"""Anchors: what is written once, in windows that miss nothing, by any number of supervisors."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from ourvidz.wiring import HostClock
from statemachine import decisions
from statemachine.anchor import Anchor, Key, Leaf, keys_of, root
from statemachine.store import EventStore, open_store
from statemachine.store.anchors import horizon, newest, settled, write
from statemachine.store.anchors_schema import anchored_jobs, anchors
from statemachine.store.append import append, prepare
from statemachine.store.schema import job_events
from statemachine.store.verify import verify
from tests.fakes import FakeClock
from tests.statemachine.builders import claimed, live_through, new_job
from workers.anchoring import Anchoring

KEY = Key(secret=b"a key that is long enough")


def anchor(store: EventStore, *, key: Key | None = None, most: int = 1000) -> Anchor | None:
    """Anchor what is there, as a supervisor does."""
    with store.write() as connection:
        ahead = horizon(connection)
        assert settled(connection, ahead)
        return write(connection, ahead.up_to, key=key, at=store.now(), made_by="s", most=most)


def leaves(store: EventStore, sequence: int) -> list[Leaf]:
    with store.read() as connection:
        rows = connection.execute(select(anchored_jobs).where(anchored_jobs.c.anchor == sequence)).all()
    return [Leaf(job_id=row.job_id, version=row.version, digest=row.digest) for row in rows]


@pytest.fixture
def second(fresh_database: str) -> Iterator[EventStore]:
    """Another process's way to the same database."""
    opened = open_store(fresh_database)
    yield opened
    opened.close()


@pytest.mark.parametrize("door", [False, True])
@pytest.mark.parametrize("table", ["anchors", "anchored_jobs"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = 7", "DELETE FROM {}", "TRUNCATE {}"])
def test_anchors_are_append_only_and_have_no_door(store: EventStore, statement: str, table: str, door: bool) -> None:
    store.admit([new_job()])
    anchor(store)
    column = {"anchors": "events", "anchored_jobs": "version"}[table]
    with pytest.raises(DBAPIError), store.write() as connection:
        if door:
            at = {"at": store.now()}
            connection.execute(text("INSERT INTO retention_door VALUES (1, 'me', 'a test', :at)"), at)
        connection.execute(text(statement.format(table, column)))


@pytest.mark.parametrize("table", ["anchors", "anchored_jobs"])
def test_nothing_replaces_an_anchor(store: EventStore, table: str) -> None:
    """SQLite's INSERT OR REPLACE deletes without asking a trigger; PostgreSQL knows no such words."""
    store.admit([new_job()])
    anchor(store)
    with pytest.raises(DBAPIError), store.write() as connection:
        connection.execute(text(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"))


def test_an_anchor_covers_the_last_event_of_each_job_in_its_window(store: EventStore) -> None:
    first, second = live_through(store), live_through(store)
    made = anchor(store)
    assert made is not None
    ends = {job_id: store.load(job_id) for job_id in (first, second)}
    assert {leaf.job_id: (leaf.version, leaf.digest) for leaf in leaves(store, 1)} == {
        job_id: (job.version, job.digest) for job_id, job in ends.items()
    }
    assert (made.sequence, made.above, made.jobs, made.events) == (1, 0, 2, sum(job.version for job in ends.values()))
    assert made.root == root(made, leaves(store, 1), None)
    assert anchor(store) is None, "nothing has changed"


def test_windows_join_and_chain_and_a_long_one_is_cut(store: EventStore) -> None:
    for _ in range(3):
        live_through(store)
    made = []
    while (one := anchor(store, most=7)) is not None:
        made.append(one)
    with store.read() as connection:
        positions = list(connection.scalars(select(job_events.c.position).order_by(job_events.c.position)))
        kept = [Anchor(**row) for row in connection.execute(select(anchors).order_by(anchors.c.sequence)).mappings()]
    assert kept == made
    assert [one.sequence for one in made] == list(range(1, len(made) + 1))
    assert [one.above for one in made] == [0, *(one.up_to for one in made[:-1])]
    assert [one.previous for one in made] == ["", *(one.root for one in made[:-1])]
    assert [one.events for one in made] == [sum(one.above < p <= one.up_to for p in positions) for one in made]
    assert sum(one.events for one in made) == len(positions)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])
def test_a_root_can_be_made_by_hand(store: EventStore, key: Key | None) -> None:
    """As docs/integrity.md says, from the rows alone."""
    store.admit([new_job() for _ in range(3)])
    anchor(store, key=key, most=2)
    anchor(store, key=key)
    with store.read() as connection:
        row = connection.execute(select(anchors).where(anchors.c.sequence == 2)).one()
        covered = connection.execute(select(anchored_jobs).where(anchored_jobs.c.anchor == 2)).all()
    lines = [f'["{one.job_id}",{one.version},"{one.digest}"]\n' for one in sorted(covered, key=lambda one: one.job_id)]
    below = hashlib.sha256("".join(lines).encode()).hexdigest()
    at = row.at.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
    said = [2, row.above, row.up_to, row.jobs, row.events, at, row.made_by, row.previous, row.key_id, below]
    text_ = json.dumps(said, separators=(",", ":")).encode()
    by_hand = hashlib.sha256(text_) if key is None else hmac.new(key.secret, text_, hashlib.sha256)
    assert row.root == by_hand.hexdigest()


@pytest.mark.parametrize(
    "change",
    [{"sequence": 2}, {"above": 1}, {"up_to": 8}, {"jobs": 2}, {"events": 2}, {"made_by": "t"}, {"previous": "0" * 64}],
)
def test_a_root_tells_of_all_that_an_anchor_says(store: EventStore, change: dict[str, object]) -> None:
    store.admit([new_job()])
    made = anchor(store)
    assert made is not None
    covered = leaves(store, 1)
    assert root(replace(made, **change), covered, None) != made.root
    assert root(replace(made, at=made.at + timedelta(microseconds=1)), covered, None) != made.root
    assert root(made, [], None) != made.root
    assert root(made, [replace(covered[0], version=2)], None) != made.root


def test_only_who_has_the_key_can_make_a_keyed_root(store: EventStore) -> None:
    store.admit([new_job()])
    made = anchor(store, key=KEY)
    assert made is not None
    assert made.key_id == KEY.id
    assert made.root == root(made, leaves(store, 1), KEY)
    assert made.root not in (root(made, leaves(store, 1), None), root(made, leaves(store, 1), Key(secret=b"other")))


def test_the_first_key_signs_and_the_others_are_believed() -> None:
    assert [key.secret for key in keys_of(" new-key-new-key-1\nold-key-old-key-1 ")] == [
        b"new-key-new-key-1",
        b"old-key-old-key-1",
    ]
    assert KEY.secret.decode() not in KEY.id


@pytest.mark.parametrize("fresh_database", ["postgresql"], indirect=True)
def test_what_commits_late_at_an_earlier_position_is_not_missed(store: EventStore, second: EventStore) -> None:
    """Positions commit out of order: a window waits for everybody who might still hold one inside of it."""
    late, early = claimed(store), claimed(store)
    with second.write() as slow:
        sealed = prepare(late, decisions.start(late), worker_id="w1", at=second.now())
        append(slow, [sealed])
        after = store.append(early, decisions.start(early), worker_id="w1")
        with store.read() as connection:
            ahead = horizon(connection)
            assert ahead.writers
            assert settled(connection, ahead) is False
        following = store.append(after, decisions.interrupt(after, reason="drained", by="t", now=store.now()))
    with store.write() as connection:
        assert settled(connection, ahead) is True
        made = write(connection, ahead.up_to, key=None, at=store.now(), made_by="s")
    assert made is not None
    versions = {leaf.job_id: leaf.version for leaf in leaves(store, made.sequence)}
    assert versions == {late.id: sealed.after.version, early.id: after.version}
    assert following.version > after.version, "written behind the window, and so in the next one"


@pytest.mark.parametrize("fresh_database", ["postgresql"], indirect=True)
def test_another_server_closes_no_window(store: EventStore) -> None:
    """One that took over may have lost commits, and draws their positions again."""
    store.admit([new_job()])
    with store.read() as connection:
        ahead = replace(horizon(connection), server="started at another time")
        assert settled(connection, ahead) is None


@pytest.mark.parametrize("fresh_database", ["postgresql"], indirect=True)
def test_of_two_supervisors_at_once_one_anchors(store: EventStore, second: EventStore) -> None:
    store.admit([new_job()])
    with store.write() as connection, second.write() as other:
        first = write(connection, 1, key=None, at=store.now(), made_by="a")
        assert write(other, 1, key=None, at=second.now(), made_by="b") is None, (
            "nor does it wait for one that is stopped"
        )
    assert first is not None
    with store.read() as connection:
        assert newest(connection) == first


class TestAnchoring:
    def ticks(self, clock: FakeClock, *who: Anchoring, seconds: int) -> list[str]:
        """Who anchored, second by second."""
        made = []
        for _ in range(seconds):
            made += [anchor.made_by for one in who if (anchor := one.tick()) is not None]
            clock.advance(1)
        return made

    def test_what_is_written_has_its_anchor_within_its_seconds(self, store: EventStore) -> None:
        clock = FakeClock()
        anchoring = Anchoring(store, clock, name="s", seconds=60)
        store.admit([new_job()])
        assert self.ticks(clock, anchoring, seconds=30) == ["s"], "what it finds is anchored at once"
        store.admit([new_job()])
        assert self.ticks(clock, anchoring, seconds=30) == []
        assert self.ticks(clock, anchoring, seconds=600) == ["s"], "and where nothing happens nothing is written"

    def test_a_long_history_is_caught_up_without_waiting(self, store: EventStore) -> None:
        clock = FakeClock()
        store.admit([new_job() for _ in range(5)])
        anchoring = Anchoring(store, clock, name="s", seconds=60, most=2)
        assert self.ticks(clock, anchoring, seconds=10) == ["s"] * 3

    def test_of_several_one_anchors_and_another_takes_over(self, store: EventStore, second: EventStore) -> None:
        clock = FakeClock()
        one = Anchoring(store, clock, name="one", seconds=60)
        two = Anchoring(second, clock, name="two", seconds=60)
        made = []
        for _ in range(8):
            store.admit([new_job()])
            made += self.ticks(clock, one, two, seconds=60)
        assert set(made) == {"one"}
        store.admit([new_job()])
        assert self.ticks(clock, two, seconds=121) == ["two"]

    def test_the_log_has_a_copy(self, store: EventStore) -> None:
        store.admit([new_job()])
        with capture_logs() as logs:
            made = Anchoring(store, FakeClock(), name="s", seconds=60, keys=[KEY]).tick()
        assert made is not None
        (line,) = logs
        assert (line["event"], line["anchor"], line["key_id"]) == ("anchored", f"1:{made.root}", KEY.id)
        assert KEY.secret.decode() not in str(line)

    def test_whoever_made_an_anchor_misses_it(self, store: EventStore) -> None:
        """The history and its anchors cut at the same place look whole. Who saw them longer knows."""
        clock = FakeClock()
        anchoring = Anchoring(store, clock, name="s", seconds=60)
        store.admit([new_job()])
        made = anchoring.tick()
        assert made is not None
        forget(store, "anchored_jobs", "anchors")
        clock.advance(60)
        with capture_logs() as logs:
            again = anchoring.tick()
        assert again is not None
        assert again.sequence == 1, "the history must not go without because of it"
        assert {"event": "an anchor is gone", "log_level": "error", "anchor": made.line} in logs

    @pytest.mark.parametrize("fresh_database", ["postgresql"], indirect=True)
    def test_a_transaction_without_an_end_is_told_of(self, store: EventStore, second: EventStore) -> None:
        clock = FakeClock()
        anchoring = Anchoring(store, clock, name="s", seconds=60)
        job = claimed(store)
        with capture_logs() as logs, second.write() as slow:
            append(slow, [prepare(job, decisions.start(job), worker_id="w1", at=second.now())])
            assert self.ticks(clock, anchoring, seconds=150) == []
        warned = [line for line in logs if line["log_level"] == "warning"]
        assert [line["event"] for line in warned] == ["a long transaction keeps the history from being anchored"] * 2
        assert self.ticks(clock, anchoring, seconds=1) == ["s"]

    def test_what_cannot_be_anchored_keeps_the_supervisor_from_nothing(self, store: EventStore) -> None:
        clock = FakeClock()
        anchoring = Anchoring(store, clock, name="s", seconds=60)
        store.admit([new_job()])
        rename(store, "job_events", "elsewhere")
        with capture_logs() as logs:
            assert anchoring.tick() is None
        assert [line["event"] for line in logs] == ["not anchored"]
        rename(store, "elsewhere", "job_events")
        assert self.ticks(clock, anchoring, seconds=61) == ["s"]


def forget(store: EventStore, *tables: str) -> None:
    """As somebody who may do anything with the database."""
    with store.write() as connection:
        for table in tables:
            if store.engine.dialect.name == "sqlite":
                connection.execute(text(f"DROP TRIGGER {table}_no_delete"))
            else:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            connection.execute(text(f"DELETE FROM {table}"))


def rename(store: EventStore, table: str, name: str) -> None:
    with store.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


def test_nothing_is_missed_however_many_write_meanwhile(store: EventStore, fresh_database: str) -> None:
    """Whatever stands in an anchored window is covered: verifying finds an event that is not."""
    begun = threading.Barrier(5)
    over = threading.Event()

    def live() -> None:
        own = open_store(fresh_database)
        begun.wait(60)
        for _ in range(15):
            new = new_job()
            own.admit([new])
            job = own.load(new.job_id)
            job = own.append(job, decisions.cancel(job, by="me", reason="not wanted"))
            end = decisions.finish(job, now=own.now(), notified=False)
            with own.write() as connection:
                append(connection, [prepare(job, end, worker_id=None, at=own.now())])
                for _ in range(20):  # the job's last event is written, and others are seen before it is
                    connection.execute(select(anchors.c.sequence)).all()
        own.close()

    def keep_anchoring() -> None:
        anchoring = Anchoring(store, HostClock(store), name="s", seconds=0.0, most=20)
        begun.wait(60)
        while not over.is_set():
            anchoring.tick()

    writers = [threading.Thread(target=live, daemon=True) for _ in range(4)]
    supervisor = threading.Thread(target=keep_anchoring, daemon=True)
    for thread in (*writers, supervisor):
        thread.start()
    for thread in writers:
        thread.join(200)
    over.set()
    supervisor.join(60)
    with store.read() as connection:
        last = newest(connection)
    assert last is not None
    assert last.sequence > 3, "it was anchored in the midst of it"
    anchor(store)
    looked = [one for batch in verify(store.engine) for one in batch]
    assert len(looked) == 60
    assert [finding for one in looked for finding in one.findings] == []
