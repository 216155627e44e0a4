"""The daily views are right at any moment, whatever was rolled up when, and by whom."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Connection, func, select, text
from structlog.testing import capture_logs

from docs.lives import SetClock
from statemachine import decisions
from statemachine.store import EventStore, open_store
from statemachine.store.append import append, prepare
from statemachine.store.counting import Count, counted, spread
from statemachine.store.facts import FACTS, USE, Fact
from statemachine.store.rolling import DAY, GRACE, due, midnight, roll, seal
from statemachine.store.rollups import rollup_marks, rollup_state
from statemachine.store.schema import Row, job_attempts, jobs
from tests.fakes import FakeClock
from tests.statemachine.builders import live_through, new_job
from tests.statemachine.tallies import facts_of, near, rounded, tally, told
from tests.statemachine.walks import START, walk
from workers.rolling import REST_SECONDS, Rolling

AHEAD = datetime(2031, 12, 30, 20, 0, tzinfo=UTC)
"""Later than any database's clock: only how far days are rolled up says then which of them are."""


def of_view(connection: Connection, fact: Fact) -> list[Row]:
    return [dict(row) for row in connection.execute(text(f"SELECT * FROM daily_{fact.name}")).mappings()]


def check(store: EventStore) -> None:
    """Every daily view says what the projections say."""
    with store.read() as connection:
        for fact, rows in facts_of(connection).items():
            keys = ["day", *fact.keys]
            found = told(fact, of_view(connection, fact), keys)
            assert found == near(tally(fact, rows, list(fact.keys), "day")), fact.name


def marks(store: EventStore) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(rollup_marks)).scalar_one()


def roll_all(store: EventStore) -> list[datetime]:
    return list(roll(store.engine, store.now()))


@pytest.mark.parametrize(("seed", "start"), [(1, START), (2, AHEAD), (3, AHEAD)])
def test_the_views_are_right_whenever_they_are_asked(store: EventStore, seed: int, start: datetime) -> None:
    """Clocks are set back, jobs requeued, rows damaged and rebuilt, days rolled up in between."""
    rolled: list[datetime] = []

    def meanwhile(at: EventStore, clock: SetClock, rng: Random) -> None:
        chance = rng.random()
        if chance < 0.12:
            clock.wait(rng.uniform(3_600, 100_000))
        elif chance < 0.14:
            clock.wait(-rng.uniform(3_600, 200_000))
        elif chance < 0.28:
            rolled.extend(roll_all(at))
        elif chance < 0.31:
            _damage(at, rng)
            rolled.extend(roll_all(at))
            list(at.rebuild())
        elif chance < 0.33:
            check(at)

    walked = walk(store, seed, steps=400, start=start, meanwhile=meanwhile)
    check(walked)
    rolled += roll_all(walked)
    check(walked)
    assert len(rolled) > len(set(rolled)) > 5  # days were rolled up, and some once more
    with walked.read() as connection:
        assert due(connection, walked.now()) == []


def _damage(store: EventStore, rng: Random) -> None:
    """What somebody with a SQL shell does: a day that was right is wrong, and so is another one."""
    with store.write() as connection:
        ended = connection.execute(select(jobs.c.id, jobs.c.finished_at).where(jobs.c.finished_at.is_not(None))).all()
        if ended:
            job_id, at = rng.choice(ended)
            there = at + timedelta(days=rng.choice([-2, 2]))
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(finished_at=there))
            connection.execute(job_attempts.delete().where(job_attempts.c.job_id == job_id))


@pytest.mark.parametrize("seed", [5, 6])
def test_any_span_is_counted_as_it_is_by_hand(store: EventStore, seed: int) -> None:
    """With days from rollups and edges that are counted, by any keys and any unit of time."""
    rng = Random(seed)
    walked = walk(store, seed, meanwhile=lambda _, clock, dice: clock.wait(dice.uniform(0, 2_000)))
    roll_all(walked)
    end = walked.now()
    for _ in range(12):
        begins, ends = sorted(START + (end - START) * rng.uniform(-0.1, 1.1) for _ in range(2))
        begins = rng.choice([begins, midnight(begins)])
        with walked.read() as connection:
            for fact, rows in facts_of(connection).items():
                known = [*fact.keys, *fact.more]
                keys, moment = rng.sample(known, rng.randrange(len(known))), rng.choice([None, "day", "hour"])
                wanted = Count(fact, begins, ends, keys, moment)
                found = told(fact, counted(connection, wanted), wanted.groups)
                inside = [row for row in rows if begins <= row["at"] < ends]
                assert found == near(tally(fact, inside, keys, moment)), (fact.name, wanted)


def test_only_some_values_of_a_key(store: EventStore) -> None:
    walked = walk(store, 7)
    with walked.read() as connection:
        wanted = Count(USE, START - DAY, walked.now() + DAY, [], "day", {"user_id": None})
        inside = [row for row in facts_of(connection)[USE] if row["user_id"] is None]
        assert told(USE, counted(connection, wanted), ["day"]) == near(tally(USE, inside, [], "day"))


def test_how_a_sum_is_spread_over_a_key(store: EventStore) -> None:
    walked = walk(store, 8)
    with walked.read() as connection:
        queued = [row["user_id"] for row in facts_of(connection)[USE] if row.get("queued")]
        wanted = Count(USE, START - DAY, walked.now() + DAY, ["user_id"])
        (row,) = spread(connection, wanted, over="user_id", of="queued")
    numbers = [queued.count(user) for user in set(queued)]
    assert row == {"number": len(numbers), "queued": len(queued), "most": max(numbers)}


@pytest.mark.parametrize("ms", [0, 7, 19, 20, 21, 49, 50, 52, 53, 99, 100, 105, 999, 1_049, 86_400_000, 604_800_000])
def test_a_rounded_duration_is_right_within_five_percent(ms: int) -> None:
    assert abs(rounded(ms) - ms) <= 0.05 * ms


def at_midday(store: EventStore, moment: datetime = AHEAD) -> EventStore:
    """The same store under a clock that is ahead of the database's, in the middle of a day."""
    clock = SetClock(midnight(moment) + timedelta(hours=12))
    return EventStore(store.engine, clock=clock, wakeups=store.wakeups)


def later(store: EventStore, by: timedelta) -> EventStore:
    return EventStore(store.engine, clock=SetClock(store.now() + by), wakeups=store.wakeups)


def test_a_day_is_rolled_up_an_hour_after_its_end(store: EventStore) -> None:
    midday = at_midday(store)
    live_through(midday)
    first = midnight(midday.now())
    assert list(roll(store.engine, first + DAY + GRACE - timedelta(seconds=1))) == []
    assert list(roll(store.engine, first + 3 * DAY + GRACE)) == [first, first + DAY, first + 2 * DAY]
    assert list(roll(store.engine, first + 3 * DAY + GRACE)) == []
    check(store)


def test_there_is_nothing_to_roll_up_where_there_are_no_jobs(store: EventStore) -> None:
    assert roll_all(store) == []


def test_a_write_of_today_leaves_no_mark_and_a_requeue_marks_the_day_that_it_leaves(store: EventStore) -> None:
    """On PostgreSQL today is the database's: a clock ahead of it is today, too."""
    midday = at_midday(store)
    job_id = live_through(midday)
    assert marks(store) == 0
    next_day = later(midday, DAY)
    assert roll_all(next_day) == [midnight(midday.now())]
    next_day.append(next_day.load(job_id), decisions.requeue(next_day.load(job_id), by="me", reason="again"))
    assert marks(store) == 1
    check(store)
    assert roll_all(next_day) == [midnight(midday.now())]
    assert marks(store) == 0
    check(store)


def test_a_commit_that_was_held_up_for_hours_is_counted(store: EventStore) -> None:
    """The database was away: what was sealed before midnight is written after that day was rolled up."""
    midday = at_midday(store)
    live_through(midday)
    new = new_job()
    midday.admit([new])
    job = midday.load(new.job_id)
    sealed = prepare(job, decisions.claim(job, worker="w", host="h", device="cpu"), worker_id="w", at=midday.now())
    started = prepare(sealed.after, decisions.start(sealed.after), worker_id="w", at=midday.now())
    lost = decisions.interrupt(started.after, reason="worker lost", by="s", now=midday.now(), detail=None)
    ended = prepare(started.after, lost, worker_id=None, at=midday.now())
    roll_all(later(midday, 2 * DAY))
    for part in (sealed, started, ended):
        with store.write() as connection:
            append(connection, [part])
    assert marks(store) > 0
    check(store)
    roll_all(later(midday, 2 * DAY))
    assert marks(store) == 0
    check(store)


def test_a_write_that_is_under_way_while_its_day_is_rolled_up_is_counted(store: EventStore) -> None:
    """It saw a day that was not rolled up yet, and who rolled it up did not see it. Its mark tells."""
    if store.engine.dialect.name == "sqlite":
        pytest.skip("nobody rolls up while somebody writes")
    yesterday = EventStore(store.engine, clock=SetClock(store.now() - DAY), wakeups=store.wakeups)
    live_through(yesterday)
    new = new_job()
    yesterday.admit([new])
    job = yesterday.load(new.job_id)
    late = prepare(
        job,
        decisions.give_up(job, error_class="permanent", error_type="X", message="m", now=yesterday.now()),
        worker_id=None,
        at=yesterday.now(),
    )
    told_ = prepare(
        late.after,
        decisions.finish(late.after, now=yesterday.now(), notified=False),
        worker_id=None,
        at=yesterday.now(),
    )
    with store.write() as connection:
        append(connection, [late])
    with store.write() as connection:
        append(connection, [told_])
        assert midnight(yesterday.now()) in set(roll(store.engine, store.now() + 3 * DAY))
    check(store)
    assert midnight(yesterday.now()) in list(roll(store.engine, store.now() + 3 * DAY))
    check(store)


@pytest.fixture
def second(fresh_database: str) -> Iterator[EventStore]:
    """Another process's way to the same database."""
    opened = open_store(fresh_database)
    yield opened
    opened.close()


@pytest.mark.parametrize("fresh_database", ["postgresql"], indirect=True)
def test_a_day_waits_for_who_was_stopped_while_writing_into_it(store: EventStore, second: EventStore) -> None:
    """It wrote while the day was not over, so without a mark, and ends when it has long been."""
    new = new_job()
    store.admit([new])
    job = store.load(new.job_id)
    refused = decisions.give_up(job, error_class="permanent", error_type="X", message="m", now=store.now())
    late = prepare(job, refused, worker_id=None, at=store.now())
    ended = prepare(
        late.after, decisions.finish(late.after, now=store.now(), notified=False), worker_id=None, at=store.now()
    )
    with second.write() as stopped:
        append(stopped, [late])
        append(stopped, [ended])
        assert list(roll(store.engine, store.now() + 2 * DAY)) == []
    assert list(roll(store.engine, store.now() + 2 * DAY))
    check(store)


def test_where_somebody_rolls_up_already_nothing_is_done(store: EventStore, second: EventStore) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("there is one writer at a time")
    midday = at_midday(store)
    live_through(midday)
    with second.write() as connection:
        connection.execute(select(rollup_state).with_for_update())
        assert roll_all(later(midday, 2 * DAY)) == []
    assert len(roll_all(later(midday, 2 * DAY))) == 2


def test_a_sealed_day_stays_as_it_was_when_its_jobs_go(store: EventStore) -> None:
    midday = at_midday(store)
    gone, kept = live_through(midday), live_through(midday)
    until = midnight(midday.now()) + DAY
    with pytest.raises(ValueError, match="not rolled up yet"), store.write() as connection:
        seal(connection, until)
    afterwards = later(midday, 2 * DAY)
    roll_all(afterwards)
    with store.read() as connection:
        before = [of_view(connection, fact) for fact in FACTS]
    with store.write() as connection:
        seal(connection, until)
        connection.execute(jobs.delete().where(jobs.c.id == gone))
        connection.execute(job_attempts.delete().where(job_attempts.c.job_id == gone))
    afterwards.append(afterwards.load(kept), decisions.requeue(afterwards.load(kept), by="me", reason="again"))
    with store.read() as connection:
        assert [of_view(connection, fact) for fact in FACTS] == before
    assert len(roll_all(later(midday, 3 * DAY))) == 1
    assert marks(store) == 0
    with store.read() as connection:
        assert [of_view(connection, fact) for fact in FACTS] == before


def test_what_was_marked_is_counted_before_it_is_sealed(store: EventStore) -> None:
    midday = at_midday(store)
    job_id = live_through(midday)
    afterwards = later(midday, 2 * DAY)
    roll_all(afterwards)
    afterwards.append(afterwards.load(job_id), decisions.requeue(afterwards.load(job_id), by="me", reason="again"))
    with store.write() as connection:
        seal(connection, midnight(midday.now()) + DAY)
    assert marks(store) == 0
    check(store)


def test_rebuilding_everything_counts_each_day_anew_that_is_not_sealed(store: EventStore) -> None:
    """Somebody has edited rollups, which nothing else is held against."""
    midday = at_midday(store)
    live_through(midday)
    rolled = roll_all(later(midday, 3 * DAY))
    with store.write() as connection:
        connection.execute(text("UPDATE rollup_output SET completed = 99"))
    with pytest.raises(AssertionError):
        check(store)
    assert [one.changed for one in store.rebuild()] == [()]
    check(store)
    assert roll_all(later(midday, 3 * DAY)) == rolled
    check(store)
    with store.write() as connection:
        seal(connection, rolled[-1])
    list(store.rebuild())
    assert marks(store) == 1


def test_the_supervisor_rolls_up_a_day_a_tick_and_rests_when_none_is_left(store: EventStore) -> None:
    clock = FakeClock(start=AHEAD)
    live_through(EventStore(store.engine, clock=clock, wakeups=store.wakeups))
    rolling = Rolling(store, clock)
    assert rolling.tick() is None
    clock.advance(REST_SECONDS - 1)
    clock.set_wall(2 * 86_400)
    assert rolling.tick() is None
    clock.advance(1)
    with capture_logs() as logs:
        days = [rolling.tick() for _ in range(3)]
    assert days == [midnight(AHEAD), midnight(AHEAD) + DAY, None]
    assert [line["day"] for line in logs] == ["2031-12-30", "2031-12-31"]


def test_a_day_that_cannot_be_rolled_up_is_logged_and_tried_again_later(store: EventStore) -> None:
    clock = FakeClock(start=AHEAD)
    live_through(EventStore(store.engine, clock=clock, wakeups=store.wakeups))
    clock.advance(2 * 86_400)
    with store.write() as connection:
        connection.execute(text("ALTER TABLE rollup_models RENAME TO elsewhere"))
    rolling = Rolling(store, clock)
    with capture_logs() as logs:
        assert rolling.tick() is None
    assert [line["event"] for line in logs] == ["no day rolled up"]
    with store.write() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO rollup_models"))
    clock.advance(REST_SECONDS)
    assert rolling.tick() == midnight(AHEAD)
