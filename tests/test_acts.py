"""Operators' acts, on SQLite and on PostgreSQL: what is done, what is refused and why, and who may write beside."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ourvidz import acts
from ourvidz.acts import Act, Done, perform, possible
from statemachine import decisions
from statemachine import events as e
from statemachine.errors import Conflict, StaleJob
from statemachine.job import Job
from statemachine.states import Outcome, State
from statemachine.store import EventStore
from statemachine.store.operating import operate
from statemachine.store.pausing import pause, queue_lengths, resume
from statemachine.store.reading import unwanted
from statemachine.store.schema import job_payloads, rejected_writes
from tests.statemachine.builders import asset, claimant, claimed, live_through, new_job

CANCEL = acts.cancel("ada", "ordered twice")
RETRY = acts.retry("ada", "again")
RESEND = acts.resend("ada", "lost")


def waiting(store: EventStore, **changes: object) -> str:
    """A job that nobody holds."""
    new = new_job(**changes)  # type: ignore[arg-type]  # fields of job_queued
    store.admit([new])
    return new.job_id


def failed(store: EventStore, **changes: object) -> str:
    """A job that failed before anything was made of it."""
    job_id = waiting(store, **changes)
    job = store.load(job_id)
    job = store.append(job, decisions.claim(job, worker="w", host="h", device="cpu"))
    job = store.append(
        job, decisions.give_up(job, error_class="permanent", error_type="X", message="m", now=store.now())
    )
    return store.append(job, decisions.finish(job, now=store.now(), notified=True)).id


def undeliverable(store: EventStore) -> str:
    """A job that completed, of which only the telling failed."""
    job = store.load(live_through(store))
    job = store.append(job, decisions.requeue(job, by="b", reason="r", stage=State.CALLBACK))
    job = store.append(job, decisions.claim(job, worker="w", host="h", device="cpu"))
    return store.append(
        job, decisions.give_up(job, error_class="permanent", error_type="X", message="no", now=store.now())
    ).id


def refused_at_the_door(store: EventStore) -> str:
    new = new_job(job_type=None, stages=["callback"])
    new.events.append(
        e.OutcomeDecided(outcome="failed", error_class="permanent", error_type="InvalidPayload", message="b")
    )
    store.admit([new])
    (job,) = store.claim(claimant(), telling=1)
    return store.append(job, decisions.finish(job, now=store.now(), notified=True)).id


def do(store: EventStore, act: Act, *job_ids: str, dry: bool = False) -> list[Done]:
    return list(perform(store, act, job_ids, dry=dry))


def kinds(store: EventStore, job_id: str) -> list[str]:
    return [row.kind for row in store.history(job_id)]


class TestCancel:
    def test_a_waiting_job_ends_at_once_and_its_receiver_is_told_next(self, store: EventStore) -> None:
        job_id = waiting(store)
        (done,) = do(store, CANCEL, job_id)
        assert (done.done, done.said) == (True, "cancelled; its receiver is told next")
        assert kinds(store, job_id) == ["job_queued", "cancel_requested", "outcome_decided"]
        job = store.load(job_id)
        assert (job.state, job.outcome, job.cancel_by, job.cancel_reason) == (
            "callback",
            "cancelled",
            "ada",
            "ordered twice",
        )
        assert job.error is not None
        assert (job.error.error_type, job.error.message) == ("Cancelled", "ordered twice")
        (told,) = store.claim(claimant(), telling=1)
        assert told.id == job_id

    def test_a_retry_that_rests_is_waiting_too(self, store: EventStore) -> None:
        job = claimed(store)
        store.append(
            job,
            decisions.trouble(
                job,
                error_class="transient",
                error_type="X",
                message="m",
                now=store.now(),
                jitter=1.0,
                retry_after=900.0,
            ),
        )
        do(store, CANCEL, job.id)
        (told,) = store.claim(claimant(), telling=1)
        assert (told.outcome, told.resume_at) == (Outcome.CANCELLED, None)

    def test_a_job_in_work_keeps_its_lease_until_its_worker_hears(self, store: EventStore) -> None:
        job = claimed(store)
        (done,) = do(store, CANCEL, job.id)
        assert done.said == "generating on w1, which stops at its next step (ada asked for it)"
        asked = store.load(job.id)
        assert (asked.worker_id, asked.token, asked.outcome, asked.cancel_pending) == ("w1", job.token, None, True)
        with store.read() as connection:
            assert unwanted(connection, [job.id, "x"]) == {job.id: job.token}

    def test_a_second_one_changes_nothing_and_says_who_was_first(self, store: EventStore) -> None:
        job = claimed(store)
        do(store, CANCEL, job.id)
        (done,) = do(store, acts.cancel("bob", "me too"), job.id)
        assert done.done
        assert "(ada asked for it)" in done.said
        assert kinds(store, job.id).count("cancel_requested") == 1

    @pytest.mark.parametrize("put_off", ["trouble", "drain", "lease lost", "engine lost", "third engine lost"])
    def test_what_would_put_it_off_ends_it(self, store: EventStore, put_off: str) -> None:
        now = store.now()
        job = claimed(store)
        for _ in range(decisions.CRASH_BUDGET - 1 if put_off == "third engine lost" else 0):
            died = [*decisions.start(job), *decisions.interrupt(job, reason="engine hung", by="w1", now=now)]
            job = store.append(job, died)
            job = store.append(job, decisions.claim(job, worker="w1", host="h", device="cpu"))
        do(store, CANCEL, job.id)
        asked = store.load(job.id)
        lost = decisions.interrupt(job, reason="engine hung", by="w1", now=now)
        assert any(isinstance(event, e.OutcomeDecided) for event in lost) == (put_off == "third engine lost")
        events = {
            "trouble": decisions.trouble(
                asked, error_class="transient", error_type="X", message="m", now=now, jitter=0.5
            ),
            "drain": decisions.interrupt(asked, reason="worker stopped", by="w1", now=now, counts=False),
            "lease lost": decisions.interrupt(asked, reason="lease expired", by="s", now=now),
            "engine lost": decisions.rejudged(asked, lost),
            "third engine lost": decisions.rejudged(asked, lost),
        }[put_off]
        assert store.append(asked, events).outcome is Outcome.CANCELLED

    def test_it_is_refused_with_the_outcome_once_that_is_decided(self, store: EventStore) -> None:
        ended = live_through(store)
        telling = waiting(store)
        do(store, CANCEL, telling)
        one, other = do(store, CANCEL, ended, telling)
        assert (one.done, other.done) == (False, False)
        assert one.said.startswith("it has completed at 20")
        assert other.said.startswith("it is decided as cancelled at 20")
        assert other.said.endswith("and its receiver may have been told")


class TestRetry:
    def test_a_failed_job_begins_anew(self, store: EventStore) -> None:
        job_id = failed(store)
        (done,) = do(store, RETRY, job_id)
        assert (done.done, done.said) == (True, "run 2 begins at queued")
        job = store.load(job_id)
        assert (job.state, job.run, job.outcome) == (State.QUEUED, 2, None)
        assert '"by":"ada"' in store.history(job_id)[-1].data

    def test_where_only_the_telling_failed_only_that_is_repeated(self, store: EventStore) -> None:
        job_id = undeliverable(store)
        (done,) = do(store, RETRY, job_id)
        assert done.said == "run 3 tells its receiver that it has completed, in the name of run 1"
        job = store.load(job_id)
        assert (job.state, job.outcome, len(job.current_assets)) == (State.CALLBACK, Outcome.COMPLETED, 2)
        (done,) = do(store, acts.retry("ada", "", State.GENERATING), failed(store))
        assert done.said == "run 2 begins at generating"

    def test_an_upload_says_what_will_be_drawn_again(self, store: EventStore) -> None:
        uploading = acts.retry("ada", "", State.UPLOADING)
        bare, whole = do(store, uploading, failed(store), live_through(store))
        assert bare.said.endswith("1 of its files were not uploaded and are drawn again, from the same seed")
        assert whole.said.endswith("all of its files are uploaded, so its receiver is told next")

    @pytest.mark.parametrize(
        ("make", "stage", "why"),
        [
            (waiting, None, "it is not finished: queued"),
            (lambda store: claimed(store).id, None, "it is not finished: generating on w1"),
            (refused_at_the_door, None, "its payload was refused when it came; only its callback can be sent again"),
            (refused_at_the_door, State.GENERATING, "its payload was refused when it came"),
            (failed, State.ENHANCING, "it has no stage enhancing; its stages are generating, uploading and callback"),
            (
                lambda store: failed(store, stages=["enhancing", "generating", "uploading", "callback"]),
                State.GENERATING,
                "its prompt was never enhanced, so it cannot begin at generating",
            ),
        ],
    )
    def test_what_is_refused(
        self, store: EventStore, make: Callable[[EventStore], str], stage: State | None, why: str
    ) -> None:
        job_id = make(store)
        before = kinds(store, job_id)
        (done,) = do(store, acts.retry("ada", "", stage), job_id)
        assert not done.done
        assert done.said.startswith(why)
        assert kinds(store, job_id) == before

    def test_erased_content_can_only_be_told_of(self, store: EventStore) -> None:
        job_id = failed(store)
        with store.write() as connection:
            connection.execute(job_payloads.update().values(content=None, erased_at=store.now()))
        (done,) = do(store, RETRY, job_id)
        assert done.said.startswith("its content was erased")
        assert possible(store.load(job_id), whole=False) == [f"ourvidz callbacks resend {job_id}"]
        (done,) = do(store, RESEND, job_id)
        assert done.done


class TestResend:
    @pytest.mark.parametrize("make", [live_through, failed, refused_at_the_door, undeliverable])
    def test_any_finished_job_is_told_of_again_in_the_name_of_the_run_that_decided(
        self, store: EventStore, make: Callable[[EventStore], str]
    ) -> None:
        job_id = make(store)
        (done,) = do(store, RESEND, job_id)
        job = store.load(job_id)
        assert done.said.endswith("in the name of run 1")
        assert job.verdict is not None
        assert (job.state, job.verdict.run, job.outcome) == (State.CALLBACK, 1, job.verdict.outcome)

    def test_as_new_is_in_the_name_of_the_new_run(self, store: EventStore) -> None:
        job_id = live_through(store)
        (done,) = do(store, acts.resend("ada", "", as_new=True), job_id)
        assert done.said.endswith("in the name of run 2")

    def test_the_projections_are_those_of_the_history(self, store: EventStore) -> None:
        do(store, RESEND, live_through(store), failed(store))
        do(store, CANCEL, waiting(store))
        assert [one.changed for one in store.rebuild()] == [()] * 3

    def test_a_live_job_is_told_of_anyway(self, store: EventStore) -> None:
        (done,) = do(store, RESEND, waiting(store))
        assert (done.done, done.said) == (False, "it is not finished: queued")


class TestMany:
    def test_one_that_refuses_harms_no_neighbour(self, store: EventStore) -> None:
        ids = [live_through(store), claimed(store).id, waiting(store), "no such job"]
        assert [done.done for done in do(store, CANCEL, *ids)] == [False, True, True, False]

    def test_one_that_the_database_refuses_harms_no_neighbour(self, store: EventStore) -> None:
        """Its group is written again, one by one."""
        job = claimed(store)
        good, bad = waiting(store), waiting(store)
        store.append(job, [e.Degraded(what="x", why="y")], worker_id="w1")
        with store.write() as connection:
            connection.execute(text("CREATE UNIQUE INDEX only_one ON job_events (kind) WHERE kind = 'degraded'"))
        version = store.load(bad).version

        def decide(job: Job, whole: bool) -> list[e.Event]:
            events = CANCEL.decide(job, whole)
            return [e.Degraded(what="x", why="y")] if job.id == bad else events

        results = operate(store, [good, bad], decide)
        assert isinstance(results[good], Job)
        assert isinstance(results[bad], IntegrityError)
        assert (store.load(good).outcome, store.load(bad).version) == ("cancelled", version)

    def test_a_deadlock_with_a_writer_is_not_a_database_that_is_away(self, store: EventStore) -> None:
        """Workers' groups lock their rows in any order. Whoever waits first is the one that PostgreSQL ends."""
        if store.engine.dialect.name != "postgresql":
            pytest.skip("SQLite has one writer at a time")
        first, second = sorted([waiting(store), waiting(store)])
        lock = text("SELECT id FROM jobs WHERE id = :id FOR UPDATE")
        blocked = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        done: list[Done] = []
        acting = threading.Thread(target=lambda: done.extend(do(store, CANCEL, first, second)))
        with store.write() as connection:
            connection.execute(lock, {"id": second})
            acting.start()
            until = time.monotonic() + 5
            while not connection.scalar(blocked) and time.monotonic() < until:
                time.sleep(0.01)
            connection.execute(lock, {"id": first})
        acting.join()
        assert [one.done for one in done] == [True, True]

    def test_a_dry_run_writes_nothing_and_says_the_same(self, store: EventStore) -> None:
        ids = [live_through(store), waiting(store)]
        before = [store.load(job_id) for job_id in ids]
        dry = do(store, CANCEL, *ids, dry=True)
        assert [store.load(job_id) for job_id in ids] == before
        assert dry == do(store, CANCEL, *ids)

    def test_batches_are_many(self, store: EventStore) -> None:
        new = [new_job() for _ in range(230)]
        store.admit(new)
        done = do(store, CANCEL, *(one.job_id for one in new))
        assert [one.done for one in done] == [True] * 230

    def test_whoever_writes_at_the_same_time_judges_again_and_no_act_is_lost(self, store: EventStore) -> None:
        """Workers append all the while; each act lands once, no write is taken for one of a lost lease."""
        held = [claimed(store) for _ in range(6)]
        begun = threading.Barrier(3)
        stale: list[Conflict] = []

        def work(mine: list[Job]) -> None:
            begun.wait()
            for _ in range(10):
                for job in mine:
                    try:
                        store.append(store.load(job.id), [e.Degraded(what="x", why="y")], worker_id="w1")
                    except StaleJob as conflict:
                        stale.append(conflict)

        threads = [threading.Thread(target=work, args=(held[part::2],)) for part in (0, 1)]
        for thread in threads:
            thread.start()
        begun.wait()
        done = do(store, CANCEL, *(job.id for job in held))
        for thread in threads:
            thread.join()
        assert all(one.done for one in done)
        assert {kinds(store, job.id).count("cancel_requested") for job in held} == {1}
        with store.read() as connection:
            assert connection.execute(rejected_writes.select()).all() == []


class TestQueues:
    def test_a_paused_queue_is_not_claimed_from_and_says_who_and_why(self, store: EventStore) -> None:
        first = claimed(store)
        job_id = waiting(store)
        with store.write() as connection:
            assert pause(connection, "sdxl_queue", by="ada", reason="a move", at=store.now())
            assert not pause(connection, "sdxl_queue", by="bob", reason="mine", at=store.now())
        assert store.claim(claimant(), drawing=5) == []
        with store.read() as connection:
            queue, other = queue_lengths(connection, ["sdxl_queue", "wan_queue"], store.now())
        assert (queue.waiting, queue.resting, queue.in_work, queue.by, queue.reason) == (1, 0, 1, "ada", "a move")
        assert queue.paused_at is not None
        assert queue.oldest_due_at == store.load(job_id).due_at
        assert (other.waiting, other.paused_at) == (0, None)
        with store.write() as connection:
            assert resume(connection, "sdxl_queue", by="bob", reason="done")
            assert not resume(connection, "wan_queue", by="bob", reason="")
        assert [job.id for job in store.claim(claimant(), drawing=5)] == [job_id]
        with store.read() as connection:
            (queue,) = queue_lengths(connection, ["sdxl_queue"], store.now())
        assert (queue.in_work, queue.paused_at, queue.by, queue.reason) == (2, None, "bob", "done")
        assert first.queue == "sdxl_queue"

    def test_what_rests_does_not_wait(self, store: EventStore) -> None:
        job = claimed(store)
        later = decisions.trouble(
            job, error_class="transient", error_type="X", message="m", now=store.now(), jitter=1.0, retry_after=900.0
        )
        store.append(job, later)
        with store.read() as connection:
            (queue,) = queue_lengths(connection, ["sdxl_queue"], store.now())
        assert (queue.waiting, queue.resting, queue.oldest_due_at) == (0, 1, None)


def test_an_asset_that_was_uploaded_is_not_uploaded_again_by_a_run_that_begins_there(store: EventStore) -> None:
    job = store.load(live_through(store))
    again = store.append(job, decisions.requeue(job, by="b", reason="r", stage=State.UPLOADING))
    assert again.assets_to_upload == []
    assert asset().index == again.current_assets[0].index
