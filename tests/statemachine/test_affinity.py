"""Jobs of the model that is loaded go first, within bounds: the rule in words, in SQL, and what comes of it."""

import random
import shutil
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Row, event, select

from statemachine import decisions
from statemachine.states import State
from statemachine.store import EventStore, open_store
from statemachine.store.affinity import LOOK_AHEAD, Affinity, Due
from statemachine.store.claims import Claimant
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


class Worker:
    """A claimant with a window and a memory of its own."""

    def __init__(self, store: EventStore, clock: FakeClock, window: float = WINDOW) -> None:
        self._store = store
        self._affinity = Affinity(window, clock.monotonic)

    def take(self, *resident: str, count: int = 1) -> list[str]:
        """Ids of what it gets with these models loaded."""
        who = claimant_of(resident)
        return [job.id for job in self._store.claim(who, drawing=count, affinity=self._affinity)]


def claimant_of(resident: Iterable[str], name: str = "w1") -> Claimant:
    return replace(claimant(name), resident=list(resident))


@pytest.fixture
def worker(timed: EventStore, clock: FakeClock) -> Worker:
    return Worker(timed, clock)


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


class Diary:
    """The rule, word by word, for one worker who writes down everything that it does."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, str, datetime]] = []  # who was passed over, by which model's job, when

    def next(self, order: list[Row[Any]], resident: set[str], now: datetime) -> Row[Any]:
        """The first resident job, if none that it passes over has been passed over for too long; else the head.

        Who was taken, or was away meanwhile, begins anew.
        """
        self._forget_all_but({row.id for row in order})
        taken = self._choice(order, resident, now)
        self._forget_all_but({row.id for row in order if row is not taken})
        return taken

    def _forget_all_but(self, ids: set[str]) -> None:
        self._entries = [entry for entry in self._entries if entry[0] in ids]

    def _choice(self, order: list[Row[Any]], resident: set[str], now: datetime) -> Row[Any]:
        head = order[0]
        same = [row for row in order if row.priority == head.priority]
        found = next((row for row in same if row.model in resident), head)
        before = same[: same.index(found)]
        for row, (passed, model, at) in product(before, self._entries):
            if passed == row.id and model in resident and (now - at).total_seconds() >= WINDOW:
                return head
        self._entries += [(row.id, str(found.model), now) for row in before]
        return found


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5, 7])
def test_the_order_is_that_of_the_rule(timed: EventStore, clock: FakeClock, seed: int) -> None:
    """Jobs of three models, several users and priorities come, are taken by two workers, one or more at a time, and
    come back; every claim is compared.
    """
    dice = random.Random(seed)
    workers = [(Worker(timed, clock), Diary()) for _ in range(2)]
    preferred = held_back = 0
    for _ in range(60):
        clock.advance(dice.choice([0.5, 2.0, 5.0, WINDOW / 2]))
        for _ in range(dice.randrange(5)):
            clock.advance(0.001)
            admit(
                timed,
                dice.choice([SDXL, SDXL, WAN, WAN, OTHER]),
                user_id=dice.choice("abc"),
                priority=dice.choice([0, 0, 0, 1]),
            )
        for worker, diary in dice.sample(workers, 2):
            order, expected = waiting(timed), list[str]()
            loaded = resident = set(dice.sample([SDXL, WAN, OTHER], dice.choice([0, 1, 1, 1, 2])))
            count = dice.choice([1, 1, 2, 3])
            while order and len(expected) < count:
                job = diary.next(order, resident, clock.now()) if loaded else order[0]
                first = next((row for row in order if row.model in resident and row.priority == job.priority), job)
                preferred += job is not order[0]
                held_back += job is order[0] and first is not job and job.priority == order[0].priority
                order.remove(job)
                expected.append(job.id)
                resident = resident if job.model in resident else {job.model}
            assert worker.take(*loaded, count=count) == expected
            for job_id in expected:
                if dice.random() < 0.3:
                    _comes_back(timed, job_id, dice)
    assert preferred > 10, "affinity had nothing to do here: the seed proves nothing"
    assert held_back > 1, "the window was never over: the seed proves nothing"


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


def test_a_resident_models_jobs_pass_over_others_until_the_window_is_over(
    timed: EventStore, clock: FakeClock, worker: Worker
) -> None:
    """However long all of them have waited: what counts is since when somebody is passed over."""
    (wan,) = admit(timed, WAN)
    first, second, third = admit(timed, SDXL, SDXL, SDXL)
    clock.advance(3600.0)
    assert worker.take(SDXL) == [first]
    clock.advance(WINDOW / 2)
    assert worker.take(SDXL) == [second]
    clock.advance(WINDOW / 2)
    assert worker.take(SDXL) == [wan]
    assert worker.take(WAN) == [third]


def test_every_other_model_has_a_window_of_its_own(timed: EventStore, clock: FakeClock, worker: Worker) -> None:
    """With three models, whoever was passed over by the first may be by the second, too: each swap is to be worth it.
    By the same one he is not passed over again.
    """
    wan, other, wans, others = admit(timed, WAN, OTHER, WAN, OTHER)
    sdxl = admit(timed, SDXL, SDXL, SDXL)
    assert worker.take(SDXL) == [sdxl[0]]
    clock.advance(WINDOW)
    assert worker.take(SDXL) == [wan]
    assert worker.take(WAN) == [wans]
    assert worker.take(SDXL) == [other]
    assert worker.take(OTHER) == [others]


def test_whoever_was_passed_over_for_the_window_is_so_no_more_though_others_came_in_before_him(
    timed: EventStore, clock: FakeClock, worker: Worker
) -> None:
    """A newer job may have the earlier turn: it does not hide the older one behind it."""
    first, second, late = admit(timed, WAN, WAN, SDXL, user_id="busy")
    assert worker.take(SDXL) == [late]
    clock.advance(WINDOW)
    (fresh,) = admit(timed, WAN, user_id="new")
    (sdxl,) = admit(timed, SDXL, user_id="busy")
    assert [row.id for row in waiting(timed)] == [first, fresh, second, sdxl]
    assert [worker.take(SDXL) for _ in range(4)] == [[first], [fresh], [second], [sdxl]]


def test_urgent_jobs_that_come_between_begin_no_new_window(timed: EventStore, clock: FakeClock, worker: Worker) -> None:
    """They are the head themselves and are taken; who stood behind them has been passed over all the same."""
    (wan,) = admit(timed, WAN)
    sdxl = admit(timed, SDXL, SDXL, SDXL)
    for job_id in sdxl[:2]:
        assert worker.take(SDXL) == [job_id]
        clock.advance(WINDOW / 2)
        urgent = admit(timed, SDXL, priority=1)
        assert worker.take(SDXL) == urgent
    assert worker.take(SDXL) == [wan]


def test_each_worker_counts_for_itself(timed: EventStore, clock: FakeClock, worker: Worker) -> None:
    admit(timed, WAN)
    first, second = admit(timed, SDXL, SDXL)
    assert worker.take(SDXL) == [first]
    clock.advance(WINDOW)
    assert Worker(timed, clock).take(SDXL) == [second]


def test_a_higher_priority_goes_first_whatever_is_loaded(timed: EventStore, worker: Worker) -> None:
    admit(timed, SDXL)
    (urgent,) = admit(timed, WAN, priority=1)
    assert worker.take(SDXL) == [urgent]


@pytest.mark.parametrize(("resident", "window"), [([], WINDOW), ([SDXL], 0.0)])
def test_nothing_loaded_or_no_window_keeps_the_order(
    timed: EventStore, clock: FakeClock, resident: list[str], window: float
) -> None:
    expected = admit(timed, WAN, SDXL, WAN, SDXL)
    assert Worker(timed, clock, window).take(*resident, count=9) == expected


def test_several_claimed_at_once_reckon_with_the_swap_between_them(
    timed: EventStore, clock: FakeClock, worker: Worker
) -> None:
    """With the first WAN job the device is WAN's: the next ones are to be, too."""
    late, sdxl = admit(timed, WAN, SDXL)
    assert worker.take(SDXL) == [sdxl]
    clock.advance(WINDOW)
    first, wan, second = admit(timed, SDXL, WAN, SDXL)
    assert worker.take(SDXL, count=4) == [late, wan, first, second]


def test_what_is_claimed_at_once_counts_from_then(timed: EventStore, clock: FakeClock, worker: Worker) -> None:
    (wan,) = admit(timed, WAN)
    *both, third = admit(timed, SDXL, SDXL, SDXL)
    assert worker.take(SDXL, count=2) == both
    clock.advance(WINDOW)
    assert worker.take(SDXL, count=2) == [wan, third]


def test_what_needs_no_model_any_more_waits_for_none(timed: EventStore, worker: Worker) -> None:
    """A job of which only the upload is left is taken in its turn."""
    job = timed.load(live_through(timed))
    timed.append(job, decisions.requeue(job, by="me", reason="mended", stage=State.UPLOADING))
    admit(timed, SDXL)
    assert worker.take(SDXL) == [job.id]


def test_only_so_many_are_looked_at(timed: EventStore, worker: Worker) -> None:
    first, *_ = admit(timed, *[WAN] * LOOK_AHEAD, SDXL)
    assert worker.take(SDXL) == [first]


def test_claimants_with_models_never_get_the_same_job_and_leave_none(store: EventStore) -> None:
    """Each locks only what it takes, and looks past what another is taking."""
    store.admit([new_job(model=model) for model in [SDXL, WAN] * 20])
    got: list[str] = []
    lock = threading.Lock()

    def work(name: str, model: str) -> None:
        who, affinity = claimant_of([model], name), Affinity(WINDOW, FakeClock().monotonic)
        while claimed := store.claim(who, drawing=3, affinity=affinity):
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
    assert len(Worker(store, FakeClock()).take(SDXL)) == 1
    with store.read() as connection:
        for statement, parameters in asked[:]:
            plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert any("USING INDEX ix_jobs_waiting" in line for line in plan), plan
            assert not any("TEMP B-TREE FOR ORDER BY" in line for line in plan), plan
    assert any("jobs.model" in statement for statement, _ in asked)
    store.close()


ALTERNATING = [SDXL, WAN] * 20
DRAW, SWAP = 2.0, 15.0


def simulate(store: EventStore, clock: FakeClock, window: float, *, since: float) -> tuple[int, list[float]]:
    """Draw all, one at a time, one model at a time, when they have waited `since` seconds; return the swaps and how
    long each one waited then, in the order of arrival.
    """
    worker, ids = Worker(store, clock, window), admit(store, *ALTERNATING)
    clock.advance(since)
    begun = clock.now()
    loaded, swaps, waits = "", 0, dict[str, float]()
    while len(waits) < len(ids):
        (job_id,) = worker.take(*filter(None, [loaded]))
        model = store.load(job_id).model or ""
        if model != loaded:
            loaded, swaps = model, swaps + 1
            clock.advance(SWAP)
        waits[job_id] = (clock.now() - begun).total_seconds()
        clock.advance(DRAW)
    return swaps, [waits[job_id] for job_id in ids]


@pytest.mark.parametrize("since", [0.0, 3600.0])
def test_forty_alternating_jobs_swap_thrice_and_none_waits_beyond_the_window_for_it(
    timed: EventStore, clock: FakeClock, since: float
) -> None:
    """In a backlog that is older than the window, too."""
    plain_swaps, plain = simulate(timed, clock, 0.0, since=since)
    swaps, waits = simulate(timed, clock, WINDOW, since=since)
    assert (plain_swaps, swaps) == (len(ALTERNATING), 3)
    assert max(late - early for late, early in zip(waits, plain, strict=True)) <= WINDOW
    assert max(waits) < max(plain) / 4
    wide_swaps, _ = simulate(timed, clock, 3600.0, since=since)
    assert wide_swaps == 2


def test_a_stream_of_resident_jobs_holds_nobody_up_beyond_the_window(
    timed: EventStore, clock: FakeClock, worker: Worker
) -> None:
    """New jobs of the loaded model come faster than they are drawn."""
    (wan,) = admit(timed, WAN, user_id="patient")
    begun = clock.now()
    while True:
        admit(timed, SDXL, SDXL, user_id="busy")
        if worker.take(SDXL) == [wan]:
            break
        clock.advance(DRAW)
    assert WINDOW <= (clock.now() - begun).total_seconds() < WINDOW + DRAW


def test_nothing_is_preferred_among_none() -> None:
    assert Affinity(WINDOW, FakeClock().monotonic).prefer(list[Due](), {SDXL}, count=3) == []
