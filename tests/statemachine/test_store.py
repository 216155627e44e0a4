"""The invariants of the event store, each on SQLite and on PostgreSQL."""

import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from statemachine import decisions
from statemachine import events as e
from statemachine.admission import DeadLetter, Verdict
from statemachine.errors import Conflict, FencedOut, Forked, IllegalEvent, StaleJob, StoreAway, UnknownJob
from statemachine.job import Job
from statemachine.states import Outcome, State
from statemachine.store import EventStore
from statemachine.store.append import Sealed, prepare
from statemachine.store.codec import digest
from statemachine.store.letters import mark_requeued
from statemachine.store.schema import dead_letters, job_assets, job_attempts, job_events, job_leases, jobs
from statemachine.store.schema import rejected_writes as rejected
from statemachine.store.writer import Writer
from tests.statemachine.builders import asset, claimant, claimed, new_job


def count(store: EventStore, table: object) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0  # type: ignore[arg-type]


def no_pause(failures: int) -> None:
    raise AssertionError(f"the database was away {failures} times")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job_events SET kind = 'x'",
        "UPDATE job_events SET data = '{}' WHERE version = 1",
        "DELETE FROM job_events",
        "TRUNCATE job_events",
        "INSERT OR REPLACE INTO job_events SELECT * FROM job_events",
        "INSERT OR REPLACE INTO job_events (job_id, version, kind, to_state, run, at, data, digest) "
        "SELECT job_id, version, 'x', to_state, run, at, data, digest FROM job_events",
    ],
)
def test_the_history_is_append_only(store: EventStore, statement: str) -> None:
    store.admit([new_job()])
    with pytest.raises(DBAPIError), store.write() as connection:
        connection.execute(text(statement))
    assert count(store, job_events) == 1


def test_retention_has_one_door(store: EventStore) -> None:
    job = claimed(store)
    with store.write() as connection:
        at = {"at": store.now()}
        connection.execute(text("INSERT INTO retention_door VALUES (1, 'me', 'a test', :at)"), at)
        connection.execute(job_events.delete().where(job_events.c.job_id == job.id))
        connection.execute(text("DELETE FROM retention_door"))
    assert count(store, job_events) == 0
    store.admit([new_job()])
    with pytest.raises(DBAPIError), store.write() as connection:
        connection.execute(job_events.delete())


def test_a_stale_version_writes_nothing_and_may_try_again(store: EventStore) -> None:
    job = claimed(store)
    store.append(job, decisions.cancel(job, by="me", reason="changed my mind"))
    with pytest.raises(StaleJob, match="expected version 2, found 3"):
        store.append(job, decisions.start(job), worker_id="w1")
    assert count(store, rejected) == 0
    assert store.load(job.id).version == 3


def test_a_token_that_was_passed_on_is_final_and_leaves_a_trace(store: EventStore) -> None:
    job = claimed(store)
    store.append(job, decisions.interrupt(job, reason="lease expired", by="s", now=store.now()))
    with pytest.raises(FencedOut):
        store.append(job, decisions.start(job), worker_id="w1")
    (other,) = store.claim(claimant("w2"), drawing=1)
    with pytest.raises(FencedOut):
        store.append(job, decisions.start(job), worker_id="w1")
    assert other.token == 3
    with store.read() as connection:
        traces = connection.execute(select(rejected.c.worker_id, rejected.c.token, rejected.c.kinds)).all()
    assert traces == [("w1", 1, "stage_started")] * 2
    assert store.load(job.id) == other


def test_who_goes_on_from_a_history_that_is_no_longer_there_is_fenced_out(store: EventStore) -> None:
    """A restored database gives the same versions and tokens away once more, to other facts."""
    job = claimed(store)
    lost = prepare(job, decisions.start(job), worker_id="w1", at=store.now() + timedelta(seconds=1)).after
    ahead = prepare(lost, [asset()], worker_id="w1", at=store.now()).after
    found = store.append(job, decisions.start(job), worker_id="w2")
    assert (lost.version, lost.token) == (found.version, found.token)
    for before in (lost, ahead):
        with pytest.raises(Forked, match=f"at version {before.version} its history is not the one"):
            store.append(before, [asset(1)], worker_id="w1")
    assert store.load(job.id) == found
    with store.read() as connection:
        traces = connection.execute(select(rejected.c.worker_id, rejected.c.version, rejected.c.found_version)).all()
    assert traces == [("w1", 3, 3), ("w1", 4, 3)]


def test_a_right_version_under_a_wrong_token_is_refused(store: EventStore) -> None:
    """The token is compared for itself: a version that happens to match must not open the door."""
    job = claimed(store)
    forged = Sealed(
        before=job,
        **{
            k: getattr(prepare(job, decisions.start(job), worker_id="w", at=store.now()), k)
            for k in ("after", "rows", "worker_id", "at")
        },
    )
    with store.write() as connection:
        connection.execute(jobs.update().values(token=9))
    (result,) = store.append_group([forged])
    assert isinstance(result, FencedOut)


def test_a_commit_whose_acknowledgement_was_lost_is_a_success(store: EventStore) -> None:
    job = claimed(store)
    sealed = prepare(job, decisions.start(job), worker_id="w1", at=store.now())
    first = store.append_group([sealed])
    again = store.append_group([sealed])
    assert first == again == [sealed.after]
    assert count(store, job_events) == 3
    assert count(store, rejected) == 0


def test_the_writer_writes_the_same_bytes_again_when_the_database_was_away(store: EventStore) -> None:
    class Lossy(EventStore):
        """Commits, then says that it did not hear back."""

        lose = 2

        def append_group(self, group):  # type: ignore[no-untyped-def]
            if self.lose == 2:
                self.lose -= 1
                raise StoreAway("gone before the commit")
            result = super().append_group(group)
            if self.lose == 1:
                self.lose -= 1
                raise StoreAway("gone after the commit")
            return result

    job = claimed(store)
    lossy = Lossy(store.engine, clock=store.clock, wakeups=store.wakeups)
    pauses: list[int] = []
    after = Writer(lossy, pause=pauses.append).append(job, decisions.start(job), worker_id="w1")
    assert (after.version, pauses) == (3, [1, 2])
    assert count(store, job_events) == 3


def test_one_bad_row_harms_no_neighbour(store: EventStore) -> None:
    good, bad = claimed(store), claimed(store)
    writer = Writer(store, pause=no_pause)
    poisoned = prepare(bad, [e.Degraded(what="x", why="y")], worker_id="w1", at=store.now())
    poisoned.rows[0] = type(poisoned.rows[0])(
        **{f: getattr(poisoned.rows[0], f) for f in poisoned.rows[0].__struct_fields__ if f != "data"},
        data=None,  # type: ignore[arg-type]  # the database refuses it
    )
    from statemachine.store.writer import _Ticket

    tickets = [_Ticket(prepare(good, decisions.start(good), worker_id="w1", at=store.now())), _Ticket(poisoned)]
    writer._waiting.extend(tickets)
    assert writer.tick() == 2
    assert isinstance(tickets[0].outcome, Job)
    assert isinstance(tickets[1].outcome, DBAPIError)
    assert store.load(good.id).version == 3
    assert store.load(bad.id).version == 2


def test_many_threads_share_commits_and_none_is_lost(store: EventStore) -> None:
    writer = Writer(store, pause=no_pause)
    held = [claimed(store) for _ in range(6)]
    done: list[Job] = []

    def work(job: Job) -> None:
        job = writer.append(job, decisions.start(job), worker_id="w1")
        for index in range(5):
            job = writer.append(job, [asset(index)], worker_id="w1")
        done.append(job)

    threads = [threading.Thread(target=work, args=(job,)) for job in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {job.version for job in done} == {8}
    assert {store.load(job.id).digest for job in held} == {job.digest for job in done}
    assert count(store, job_assets) == 30


def test_digests_chain_the_history(store: EventStore) -> None:
    job = claimed(store)
    job = store.append(job, [*decisions.start(job), asset(), e.MediaGenerated(device_seconds=1.5, engine="null")])
    previous = ""
    for row in store.history(job.id):
        assert row.digest == digest(previous, row)
        previous = row.digest
    assert previous == job.digest


def test_projections_follow_and_rebuild_gives_equal_rows(store: EventStore) -> None:
    job = claimed(store)
    job = store.append(job, decisions.start(job, device="cpu"), worker_id="w1")
    job = store.append(job, decisions.interrupt(job, reason="engine crashed", by="w1", now=store.now()))
    (job,) = store.claim(claimant("w2"), drawing=1)
    job = store.append(job, decisions.start(job), worker_id="w2")
    job = store.append(job, [asset(0), asset(1), e.MediaGenerated(device_seconds=2.0, engine="null")])
    job = store.append(job, decisions.start(job), worker_id="w2")
    uploaded = e.AssetUploaded(index=0, bucket="b", key="u/x_0.png", digest="0" * 64, bytes=9)
    job = store.append(job, [uploaded, e.AssetsLost(missing=["1" * 64], reason="the spool is gone")])
    with store.read() as connection:
        row = connection.execute(select(jobs)).one()
        attempts = connection.execute(
            select(
                job_attempts.c.stage, job_attempts.c.attempt, job_attempts.c.outcome, job_attempts.c.worker_id
            ).order_by(job_attempts.c.started_at)
        ).all()
    assert (row.state, row.version, row.attempts, row.assets) == ("generating", job.version, 3, 1)
    assert [tuple(a) for a in attempts] == [
        ("generating", 1, "interrupted", "w1"),
        ("generating", 2, "succeeded", "w2"),
        ("uploading", 1, "assets lost", "w2"),
    ]
    assert [r.changed for r in store.rebuild()] == [()]
    with store.write() as connection:
        connection.execute(jobs.update().values(state="completed", attempts=0))
        connection.execute(job_attempts.delete())
        connection.execute(job_assets.update().values(bytes=1))
    assert [r.changed for r in store.rebuild()] == [("jobs", "job_attempts", "job_assets")]
    assert [r.changed for r in store.rebuild()] == [()]
    with store.read() as connection:
        assert connection.execute(select(jobs)).one() == row


def test_illegal_events_are_refused_and_write_nothing(store: EventStore) -> None:
    job = claimed(store)
    with pytest.raises(IllegalEvent, match="job_completed is not allowed in the state generating"):
        store.append(job, [e.JobCompleted(total_seconds=1.0)])
    assert store.load(job.id) == job


def test_a_finished_job_changes_only_by_a_new_run(store: EventStore) -> None:
    job = claimed(store)
    job = store.append(
        job, decisions.give_up(job, error_class="permanent", error_type="X", message="m", now=store.now())
    )
    assert (job.state, job.outcome) == (State.CALLBACK, Outcome.FAILED)
    job = store.append(job, decisions.finish(job, now=store.now(), notified=True))
    assert job.state is State.FAILED
    assert count(store, job_leases) == 0
    with pytest.raises(IllegalEvent):
        store.append(job, [e.Degraded(what="x", why="y")])
    job = store.append(job, decisions.requeue(job, by="me", reason="again"))
    assert (job.state, job.run, job.outcome, job.error) == (State.QUEUED, 2, None, None)
    (again,) = store.claim(claimant(), drawing=5)
    assert again.state is State.GENERATING


def test_the_same_payload_twice_is_one_job_and_another_content_a_dead_letter(store: EventStore) -> None:
    first = new_job()
    other = new_job(first.job_id, payload_digest="e" * 64)
    letter = DeadLetter(raw=b"\xff", reason="not UTF-8", queue="sdxl_queue", source="redis")
    verdicts = [admission.verdict for admission in store.admit([first, first, other, letter])]
    assert verdicts == [Verdict.NEW, Verdict.DUPLICATE, Verdict.DEAD, Verdict.DEAD]
    assert (count(store, jobs), count(store, job_events), count(store, dead_letters)) == (1, 1, 2)


def test_claims_go_round_the_users_by_priority_and_age(store: EventStore) -> None:
    order = [new_job(user_id="busy") for _ in range(4)]
    order += [new_job(user_id="one"), new_job(user_id="two"), new_job(user_id="busy", priority=5)]
    for new in order:
        store.admit([new])
    served = [job.user_id for _ in order for job in store.claim(claimant(), drawing=1)]
    assert served == ["busy", "busy", "one", "two", "busy", "busy", "busy"]


def test_claims_pass_over_what_is_not_due_paused_or_of_another_type(store: EventStore) -> None:
    retried = claimed(store)
    store.append(
        retried,
        decisions.trouble(
            retried, error_class="transient", error_type="X", message="m", now=store.now(), jitter=1.0, retry_after=60.0
        ),
    )
    store.admit([new_job(job_type="video_fast"), new_job(queue="held_queue")])
    with store.write() as connection:
        connection.execute(text("INSERT INTO queues (name, paused_at) VALUES ('held_queue', :at)"), {"at": store.now()})
    assert store.claim(claimant(), drawing=9) == []
    resume_at = store.load(retried.id).resume_at
    assert resume_at is not None
    assert resume_at > store.now() + timedelta(seconds=50)
    assert len(store.claim(claimant(types=["video_fast"]), drawing=9)) == 1


def test_an_outcome_is_told_though_its_queue_is_paused(store: EventStore) -> None:
    store.admit([new_job(queue="held_queue")])
    (job,) = store.claim(claimant(), drawing=1)
    with store.write() as connection:
        connection.execute(text("INSERT INTO queues (name, paused_at) VALUES ('held_queue', :at)"), {"at": store.now()})
    failed = decisions.trouble(job, error_class="permanent", error_type="X", message="m", now=store.now(), jitter=1.0)
    decided = store.append(job, [*decisions.start(job), *failed])
    store.append(decided, decisions.interrupt(decided, reason="drained", by="w", now=store.now(), counts=False))
    assert [told.id for told in store.claim(claimant(), drawing=9, telling=9)] == [job.id]


def test_two_claimants_never_get_the_same_job(store: EventStore) -> None:
    store.admit([new_job() for _ in range(40)])
    got: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        while jobs_ := store.claim(claimant(name), drawing=3):
            with lock:
                got.extend(job.id for job in jobs_)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == 40


def test_only_the_holder_renews(store: EventStore) -> None:
    job = claimed(store)
    assert store.renew("w1", {job.id: (job.token, '{"step": 3}')}, seconds=60) == {job.id}
    assert store.renew("w2", {job.id: (job.token, None)}, seconds=60) == set()
    assert store.renew("w1", {job.id: (job.token + 1, None)}, seconds=60) == set()
    (lease,) = store.leases()
    assert lease.expires_at is not None
    assert lease.expires_at > store.now() + timedelta(seconds=50)


def test_a_refused_payload_waits_to_be_told_and_needs_no_model(store: EventStore) -> None:
    new = new_job(job_type=None, stages=["callback"])
    refused = e.OutcomeDecided(outcome="failed", error_class="permanent", error_type="InvalidPayload", message="bad")
    new.events.append(refused)
    store.admit([new])
    assert store.claim(claimant(), drawing=9) == []
    (job,) = store.claim(claimant(types=["anything"]), telling=9)
    assert (job.state, job.outcome, job.token) == (State.CALLBACK, Outcome.FAILED, 1)


def test_later_kinds_survive(store: EventStore) -> None:
    """A newer program's events are kept and passed over by an older one."""
    job = claimed(store)
    with store.write() as connection:
        row = store.history(job.id)[-1]
        connection.execute(
            job_events.insert(),
            {
                "job_id": job.id,
                "version": 3,
                "kind": "teleported",
                "from_state": "generating",
                "to_state": "generating",
                "run": 1,
                "at": row.at,
                "data": '{"to":"mars"}',
                "digest": "f" * 64,
            },
        )
    later = store.load(job.id)
    assert (later.version, later.state, later.digest) == (3, State.GENERATING, "f" * 64)
    assert store.history(job.id)[-1].data == '{"to":"mars"}'


def test_hostile_text_is_stored_and_harms_nothing(store: EventStore) -> None:
    job = claimed(store)
    message = "a\0b \ud800 \u202e '; DROP TABLE jobs; --"
    after = store.append(
        job,
        decisions.give_up(job, error_class="permanent", error_type="X", message=message, now=store.now()),
        personal={"note": message},
    )
    assert after.version == 3
    assert [r.changed for r in store.rebuild()] == [()]
    previous = ""
    for row in store.history(job.id):
        assert row.digest == digest(previous, row)
        previous = row.digest


def test_an_unknown_job_is_a_sentence(store: EventStore) -> None:
    with pytest.raises(UnknownJob, match="no job has the id nope"):
        store.load("nope")


def test_conflicts_share_a_root() -> None:
    assert issubclass(StaleJob, Conflict)
    assert issubclass(FencedOut, Conflict)


@pytest.mark.parametrize("busy", ["busy", None])
def test_one_users_hundred_videos_do_not_starve_anothers_single_picture(store: EventStore, busy: str | None) -> None:
    """Nor do those of nobody in particular, nor those that only wait to be told of."""
    store.admit([new_job(user_id=busy) for _ in range(100)])
    assert len(store.claim(claimant(), drawing=3)) == 3
    single = new_job(user_id="single")
    store.admit([single])
    served = [job.id for _ in range(2) for job in store.claim(claimant(), drawing=1)]
    assert single.job_id in served


def test_a_users_urgent_job_does_not_wait_for_the_turns_of_its_others(store: EventStore) -> None:
    store.admit([new_job(user_id="busy") for _ in range(100)])
    urgent = new_job(user_id="busy", priority=5)
    store.admit([urgent, *(new_job(user_id=f"user {number}", priority=5) for number in range(5))])
    (first,) = store.claim(claimant(), drawing=1)
    assert first.id == urgent.job_id
    assert first.turn == 0


def test_a_user_whose_outcomes_wait_to_be_told_has_its_turn(store: EventStore) -> None:
    """A receiver that is down for a day holds nobody's new jobs up."""
    for _ in range(20):
        told = new_job(user_id="busy", job_type=None, stages=["callback"])
        told.events.append(
            e.OutcomeDecided(outcome="failed", error_class="permanent", error_type="InvalidPayload", message="bad")
        )
        store.admit([told])
    mine, others = new_job(user_id="busy"), [new_job(user_id="other") for _ in range(2)]
    store.admit([mine, *others])
    served = [job.id for _ in range(3) for job in store.claim(claimant(), drawing=1)]
    assert served == [mine.job_id, *(other.job_id for other in others)]


def test_a_dead_letter_that_comes_again_is_kept_once_until_it_was_requeued(store: EventStore) -> None:
    """As after a crash between the commit and the removal from the list."""
    letter = DeadLetter(raw=b"\xff", reason="not UTF-8", queue="sdxl_queue", source="redis")
    for _ in range(2):
        (verdict,) = store.admit([letter])
        assert (verdict.verdict, verdict.reason) == (Verdict.DEAD, "not UTF-8")
    store.admit([replace(letter, raw=b"\xfe"), replace(letter, queue="wan_queue")])
    assert count(store, dead_letters) == 3
    with store.write() as connection:
        for letter_id in connection.scalars(select(dead_letters.c.id)).all():
            assert mark_requeued(connection, letter_id, by="ada", at=store.now())
    store.admit([letter])
    assert count(store, dead_letters) == 4, "somebody tried, and it is dead still"
