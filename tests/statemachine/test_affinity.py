"""Jobs of the model that is loaded go first, within bounds: the rule in words, in SQL, and what comes of it."""

import random
import shutil
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Row, event, select

from statemachine import decisions
from statemachine.states import State
from statemachine.store import EventStore, open_store
from statemachine.store.affinity import LOOK_AHEAD, Due, prefer
from statemachine.store.schema import jobs
from tests.fakes import FakeClock
from tests.statemachine.builders import claimant, live_through, new_job

WINDOW = 30.0
SDXL, WAN, OTHER = "lustify_sdxl", "wan_2_1_1_3b", "other"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def timed(fresh_database: str, clock: FakeClock) -> Iterator[EventStore]:
    """A store whose time is the test's."""
    opened = open_store(fresh_database, clock=clock)
    yield opened
    opened.close()


def take(store: EventStore, *resident: str, window: float = WINDOW, count: int = 1) -> list[str]:
    """Ids of what a claimant with these models gets."""
    who = replace(claimant(), resident=resident, affinity_seconds=window)
    return [job.id for job in store.claim(who, drawing=count)]


def admit(store: EventStore, *models: str, **changes: Any) -> list[str]:
    new = [new_job(model=model, **changes) for model in models]
    store.admit(new)
    return [one.job_id for one in new]


def waiting(store: EventStore) -> list[Row[Any]]:
    """What may be claimed, in the normal order, sorted here and not by the database."""
    query = select(jobs).where(jobs.c.finished_at.is_(None), jobs.c.worker_id.is_(None))
    with store.read() as connection:
        rows = connection.execute(query).all()
    due = [row for row in rows if row.resume_at is None or row.resume_at <= store.now()]
    return sorted(due, key=lambda row: (-row.priority, row.turn, row.queued_at))


def by_the_rule(order: list[Row[Any]], resident: set[str], now: datetime) -> str:
    """The rule, word by word: the first resident job, if nobody that it passes over has been due for too long."""
    head = order[0]
    same = [row for row in order if row.priority == head.priority]
    for place, row in enumerate(same):
        if row.model in resident:
            patient = all((now - passed.due_at).total_seconds() < WINDOW for passed in same[:place])
            return str(row.id if patient else head.id)
    return str(head.id)


@pytest.mark.parametrize("seed", range(6))
def test_the_order_is_that_of_the_rule(timed: EventStore, clock: FakeClock, seed: int) -> None:
    """Jobs of three models, several users and priorities come, are taken, and come back; every claim is compared."""
    dice = random.Random(seed)
    preferred = 0
    for _ in range(60):
        clock.advance(dice.choice([0.001, 0.5, 2.0, 5.0, WINDOW / 2]))
        for _ in range(dice.randrange(4)):
            clock.advance(0.001)
            admit(
                timed,
                dice.choice([SDXL, SDXL, WAN, WAN, OTHER]),
                user_id=dice.choice("abc"),
                priority=dice.choice([0, 0, 0, 1]),
            )
        for _ in range(dice.choice([1, 2, 2])):
            order = waiting(timed)
            if not order:
                break
            resident = set(dice.sample([SDXL, WAN, OTHER], dice.randrange(3)))
            expected = by_the_rule(order, resident, clock.now()) if resident else order[0].id
            preferred += expected != order[0].id
            assert take(timed, *resident) == [expected]
            if dice.random() < 0.3:
                _comes_back(timed, expected, dice)
    assert preferred > 3, "affinity had nothing to do here: the seed proves nothing"


def _comes_back(store: EventStore, job_id: str, dice: random.Random) -> None:
    """Interrupted, and due from now on; or to be tried again, and due from then on."""
    job = store.load(job_id)
    if dice.random() < 0.5:
        events = decisions.interrupt(job, reason="x", by="me", now=store.now(), counts=False)
    else:
        events = decisions.trouble(
            job, error_class="transient", error_type="X", message="m", now=store.now(), jitter=0.5, retry_after=5.0
        )
    store.append(job, events)


def test_a_resident_models_job_passes_over_others_until_the_window_is_over(timed: EventStore, clock: FakeClock) -> None:
    (wan,) = admit(timed, WAN)
    first, second, third = admit(timed, SDXL, SDXL, SDXL)
    assert take(timed, SDXL) == [first]
    clock.advance(WINDOW - 0.001)
    assert take(timed, SDXL) == [second]
    clock.advance(0.001)
    assert take(timed, SDXL) == [wan]
    assert take(timed, SDXL) == [third]


def test_whoever_has_waited_for_the_window_is_passed_over_by_nobody_though_others_are_before_him(
    timed: EventStore, clock: FakeClock
) -> None:
    """A newer job may have the earlier turn: it does not hide the older one behind it."""
    busy = admit(timed, WAN, WAN, user_id="busy")
    clock.advance(WINDOW)
    (fresh,) = admit(timed, WAN, user_id="new")
    (sdxl,) = admit(timed, SDXL, user_id="busy")
    assert [row.id for row in waiting(timed)] == [busy[0], fresh, busy[1], sdxl]
    assert [take(timed, SDXL) for _ in range(4)] == [[busy[0]], [fresh], [busy[1]], [sdxl]]


def test_a_higher_priority_goes_first_whatever_is_loaded(timed: EventStore) -> None:
    admit(timed, SDXL)
    (urgent,) = admit(timed, WAN, priority=1)
    assert take(timed, SDXL) == [urgent]


@pytest.mark.parametrize(("resident", "window"), [([], WINDOW), ([SDXL], 0.0)])
def test_nothing_loaded_or_no_window_keeps_the_order(timed: EventStore, resident: list[str], window: float) -> None:
    expected = admit(timed, WAN, SDXL, WAN, SDXL)
    assert take(timed, *resident, window=window, count=9) == expected


def test_several_claimed_at_once_reckon_with_the_swap_between_them(timed: EventStore, clock: FakeClock) -> None:
    """With the first WAN job the device is WAN's: the next ones are to be, too."""
    late = admit(timed, WAN)
    clock.advance(WINDOW)
    first, wan, second = admit(timed, SDXL, WAN, SDXL)
    assert take(timed, SDXL, count=4) == [*late, wan, first, second]


def test_what_needs_no_model_any_more_waits_for_none(timed: EventStore) -> None:
    """A job of which only the upload is left is taken in its turn."""
    job = timed.load(live_through(timed))
    timed.append(job, decisions.requeue(job, by="me", reason="mended", stage=State.UPLOADING))
    admit(timed, SDXL)
    assert take(timed, SDXL) == [job.id]


def test_only_so_many_are_looked_at(timed: EventStore) -> None:
    first, *_ = admit(timed, *[WAN] * LOOK_AHEAD, SDXL)
    assert take(timed, SDXL) == [first]


def test_claimants_with_models_never_get_the_same_job_and_leave_none(store: EventStore) -> None:
    """Each locks only what it takes, and looks past what another is taking."""
    store.admit([new_job(model=model) for model in [SDXL, WAN] * 20])
    got: list[str] = []
    lock = threading.Lock()

    def work(name: str, model: str) -> None:
        who = replace(claimant(name), resident=[model], affinity_seconds=WINDOW)
        while claimed := store.claim(who, drawing=3):
            with lock:
                got.extend(job.id for job in claimed)

    threads = [threading.Thread(target=work, args=(f"w{n}", [SDXL, WAN][n % 2])) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == 40


def test_the_next_jobs_are_read_off_an_index(tmp_path: Path, empty_sqlite: Path) -> None:
    """A hundred thousand that wait are not sorted at each claim. PostgreSQL chooses by what is there, SQLite always."""
    shutil.copy(empty_sqlite, tmp_path / "plan.sqlite")
    store = open_store(f"sqlite:///{tmp_path / 'plan.sqlite'}")
    asked: list[tuple[str, Any]] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "ORDER BY jobs.priority" in statement:
            asked.append((statement, parameters))

    admit(store, WAN, SDXL)
    assert len(take(store, SDXL)) == 1
    with store.read() as connection:
        for statement, parameters in asked[:]:
            plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert any("USING INDEX ix_jobs_waiting" in line for line in plan), plan
            assert not any("TEMP B-TREE FOR ORDER BY" in line for line in plan), plan
    assert any("due_at" in statement for statement, _ in asked)
    store.close()


ALTERNATING = [SDXL, WAN] * 20
DRAW, SWAP = 2.0, 15.0


def simulate(store: EventStore, clock: FakeClock, window: float) -> tuple[int, list[float]]:
    """Draw all, one at a time, one model at a time; return the swaps and each job's wait in the order of arrival."""
    begun, ids = clock.now(), admit(store, *ALTERNATING)
    loaded, swaps, waits = "", 0, dict[str, float]()
    while len(waits) < len(ids):
        (job_id,) = take(store, *filter(None, [loaded]), window=window)
        model = store.load(job_id).model or ""
        if model != loaded:
            loaded, swaps = model, swaps + 1
            clock.advance(SWAP)
        waits[job_id] = (clock.now() - begun).total_seconds()
        clock.advance(DRAW)
    return swaps, [waits[job_id] for job_id in ids]


def test_forty_alternating_jobs_swap_less_and_none_waits_beyond_the_window_for_it(
    timed: EventStore, clock: FakeClock
) -> None:
    plain_swaps, plain = simulate(timed, clock, 0.0)
    swaps, waits = simulate(timed, clock, WINDOW)
    assert plain_swaps == len(ALTERNATING)
    assert swaps < plain_swaps
    assert max(late - early for late, early in zip(waits, plain, strict=True)) <= WINDOW
    assert max(waits) <= max(plain)
    wide_swaps, _ = simulate(timed, clock, 3600.0)
    assert wide_swaps == 2


def test_a_stream_of_resident_jobs_holds_nobody_up_beyond_the_window(timed: EventStore, clock: FakeClock) -> None:
    """New jobs of the loaded model come faster than they are drawn."""
    (wan,) = admit(timed, WAN, user_id="patient")
    begun = clock.now()
    while True:
        admit(timed, SDXL, SDXL, user_id="busy")
        if take(timed, SDXL) == [wan]:
            break
        clock.advance(DRAW)
    assert WINDOW <= (clock.now() - begun).total_seconds() < WINDOW + DRAW


def test_nothing_is_preferred_among_none() -> None:
    assert prefer(list[Due](), {SDXL}, count=3, window=WINDOW, now=FakeClock().now()) == []
