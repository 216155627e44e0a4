"""Erasing: what is personal is gone, what happened is not, and nothing is forgotten when storage is away."""

import json
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from ourvidz import acts
from ourvidz.acts import Done, perform
from ourvidz.erasing import erase
from ourvidz.exit_codes import ExitCode
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob, Verdict
from statemachine.job import Job
from statemachine.states import State
from statemachine.store import EventStore
from statemachine.store.codec import digest
from statemachine.store.schema import dead_letters, job_payloads
from tests.fakes import Crash, MemoryBucket, MemorySpool
from tests.fates import START
from tests.test_cli import Run, base, run
from tests.test_cli import submit as submit_by_command
from tests.test_cli_acts import cancelled, store_of
from workers.arrivals import build_payload, read
from workers.erasing import Remover
from workers.errors import Misconfigured, TryAgain

__all__ = ["base", "run"]  # fixtures

USER = "0b9d6a52-1c55-4a44-8d0e-5d3c3f6f7a90"
SECRET = "the heron of Zanzibar"
ENHANCED = "a majestic heron of Zanzibar"


def payload(number: int, prompt: str = SECRET) -> NewJob:
    job_id = f"7f3a0c1e-5b7d-4c7e-9a51-{number:012x}"
    built = build_payload("sdxl_image_fast", prompt, num_images=3, seed=1, user_id=USER, job_id=job_id)
    new = read(json.dumps(built).encode(), queue="sdxl_queue", source="redis", now=START, draw_seed=lambda: 1)
    assert isinstance(new, NewJob)
    return new


def key(number: int, index: int) -> str:
    return f"{USER}/7f3a0c1e-5b7d-4c7e-9a51-{number:012x}_{index}.png"


def finished(store: EventStore, bucket: MemoryBucket, number: int = 1) -> str:
    """A completed job: three files in storage, and an enhanced prompt that was written behind the first content."""
    new = payload(number)
    store.admit([new], at=START + timedelta(seconds=number))
    job = store.load(new.job_id)
    job = store.append(job, decisions.claim(job, worker="w", host="h", device="cpu"))
    made: list[e.Event] = [
        e.AssetGenerated(index=i, seed=i, name=f"{i}.png", digest=f"{i}" * 64, bytes=3, width=8, height=8)
        for i in range(3)
    ]
    drawn = [*decisions.start(job), *made, e.MediaGenerated(device_seconds=1.0, engine="null")]
    job = store.append(job, drawn, personal={"enhanced_prompt": ENHANCED})
    uploaded: list[e.Event] = []
    for i in range(3):
        bucket.objects["sdxl_image_fast", key(number, i)] = b"png"
        uploaded.append(
            e.AssetUploaded(index=i, bucket="sdxl_image_fast", key=key(number, i), digest=f"{i}" * 64, bytes=3)
        )
    job = store.append(job, [*decisions.start(job), *uploaded, e.MediaUploaded()])
    return store.append(job, [*decisions.start(job), *decisions.finish(job, now=store.now(), notified=True)]).id


def failed(store: EventStore, number: int = 1) -> str:
    """A job that failed while it was uploaded: of a file that is in storage no event tells."""
    new = payload(number)
    store.admit([new])
    job = store.load(new.job_id)
    job = store.append(job, decisions.claim(job, worker="w", host="h", device="cpu"))
    ended = decisions.give_up(job, error_class="permanent", error_type="X", message="m", now=store.now())
    job = store.append(job, ended)
    return store.append(job, decisions.finish(job, now=store.now(), notified=True)).id


def do(
    store: EventStore,
    bucket: MemoryBucket,
    *job_ids: str,
    by: str = "ada",
    dry: bool = False,
    spool: MemorySpool | None = None,
) -> list[Done]:
    act = erase(by, "asked for it", Remover(bucket, spool or MemorySpool()))
    return list(perform(store, act, job_ids, dry=dry))


def kinds(store: EventStore, job_id: str) -> list[str]:
    return [row.kind for row in store.history(job_id)]


def verify(store: EventStore, job_id: str) -> None:
    previous = ""
    for row in store.history(job_id):
        assert row.digest == digest(previous, row)
        previous = row.digest


def of_payloads(store: EventStore) -> Sequence[tuple[bool, bool, bool]]:
    """Per job, in the order of ids: whether the bytes, the content and the mark of erasure are there."""
    with store.read() as connection:
        rows = connection.execute(select(job_payloads).order_by(job_payloads.c.job_id)).all()
    return [(row.raw is not None, row.content is not None, row.erased_at is not None) for row in rows]


class TestErasing:
    def test_what_is_personal_is_gone_and_what_happened_is_not(self, store: EventStore) -> None:
        bucket, spool = MemoryBucket(), MemorySpool()
        mine, other = finished(store, bucket, 1), finished(store, bucket, 2)
        spool.write(mine, "asset_0.png", b"png")
        spool.write(other, "asset_0.png", b"png")
        before = store.load(mine)
        (done,) = do(store, bucket, mine, spool=spool)
        assert (done.done, done.said) == (True, "erased, and nothing of it is left in storage")
        assert of_payloads(store) == [(False, False, True), (True, True, False)]
        assert bucket.keys() == [key(2, 0), key(2, 1), key(2, 2)]
        assert {job_id for job_id, _ in spool.files} == {other}
        job = store.load(mine)
        assert (job.state, job.outcome, job.assets) == (before.state, before.outcome, before.assets)
        assert kinds(store, mine)[-2:] == ["content_erased", "files_removed"]
        told = store.history(mine)[-2].event
        assert isinstance(told, e.ContentErased)
        assert (told.by, told.reason) == ("ada", "asked for it")
        assert told.files[2] == {"bucket": "sdxl_image_fast", "key": key(1, 2), "digest": "2" * 64}
        assert job.erased is not None
        assert job.erased.files_removed_at is not None

    def test_the_history_verifies_and_the_projections_follow_from_it(self, store: EventStore) -> None:
        mine = finished(store, MemoryBucket())
        do(store, MemoryBucket(), mine)
        verify(store, mine)
        assert [rebuilt.changed for rebuilt in store.rebuild()] == [()]

    def test_a_file_is_found_of_which_no_event_tells(self, store: EventStore) -> None:
        """Uploaded by a worker that died before it could write so."""
        mine, bucket = failed(store), MemoryBucket()
        bucket.objects["sdxl_image_fast", key(1, 1)] = b"png"
        do(store, bucket, mine)
        assert bucket.keys() == []

    def test_no_byte_of_it_is_left_in_the_files_of_sqlite(self, tmp_path: Path, empty_sqlite: Path) -> None:
        """Not in freed pages, not in rows that were replaced before, not in the log."""
        from statemachine.store import open_store

        path = tmp_path / "ourvidz.sqlite"
        path.write_bytes(empty_sqlite.read_bytes())
        store = open_store(f"sqlite:///{path}")
        jobs = [finished(store, MemoryBucket(), number) for number in range(1, 30)]

        def holding() -> list[str]:
            words = (SECRET.encode(), ENHANCED.encode())
            return [file.name for file in tmp_path.iterdir() if any(word in file.read_bytes() for word in words)]

        assert holding()
        do(store, MemoryBucket(), *jobs)
        assert holding() == []
        store.close()

    def test_a_dry_run_writes_nothing(self, store: EventStore) -> None:
        bucket = MemoryBucket()
        mine = finished(store, bucket)
        (done,) = do(store, bucket, mine, dry=True)
        assert (done.done, done.said) == (True, "erased from the database; 3 files to be removed from storage")
        assert (len(bucket.objects), of_payloads(store)) == (3, [(True, True, False)])
        assert "content_erased" not in kinds(store, mine)

    def test_a_job_that_is_not_finished_is_left_alone(self, store: EventStore) -> None:
        new = payload(1)
        store.admit([new])
        (done,) = do(store, MemoryBucket(), new.job_id)
        assert (done.done, done.error) == (False, None)
        assert done.said == "it is not finished: queued; cancel it first, or wait for its end"
        assert of_payloads(store) == [(True, True, False)]


class TestStorageAway:
    def test_what_was_begun_is_in_the_history_and_goes_on_later(self, store: EventStore) -> None:
        bucket = MemoryBucket()
        mine = finished(store, bucket)
        bucket.failing = [TryAgain("connection refused")]
        (done,) = do(store, bucket, mine)
        said = "erased from the database; 3 files to be removed from storage: connection refused"
        assert (done.done, done.said) == (False, f"{said}; the same command goes on with it")
        assert (of_payloads(store), len(bucket.objects)) == ([(False, False, True)], 3)
        assert kinds(store, mine)[-1] == "content_erased"
        (done,) = do(store, bucket, mine, by="bob")
        assert (done.done, bucket.keys()) == (True, [])
        last = store.history(mine)[-1].event
        assert last == e.FilesRemoved(by="bob")
        assert kinds(store, mine).count("content_erased") == 1
        before = kinds(store, mine)
        (done,) = do(store, bucket, mine)
        assert (done.done, kinds(store, mine)) == (True, before)

    @pytest.mark.parametrize("away", [TryAgain("no answer"), Misconfigured("answered 403")])
    def test_it_is_asked_once_and_the_database_is_done_all_the_same(self, store: EventStore, away: Exception) -> None:
        bucket = MemoryBucket()
        jobs = [finished(store, bucket, number) for number in (1, 2, 3)]
        bucket.failing = [away]
        done = do(store, bucket, *jobs)
        assert [one.done for one in done] == [False, False, False]
        assert (len(bucket.objects), of_payloads(store)) == (9, [(False, False, True)] * 3)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("file", [1, 2, 3])
def test_whoever_dies_in_the_middle_leaves_it_to_be_finished(store: EventStore, file: int, when: str) -> None:
    """Nothing personal is left without a word in the history that it was to go."""
    calls: list[str] = []

    def dies(effect: str) -> None:
        calls.append(effect)
        if calls.count(f"bucket.remove:{when}") == file and effect == f"bucket.remove:{when}":
            raise Crash

    bucket = MemoryBucket(dies)
    mine = finished(store, bucket)
    with pytest.raises(Crash):
        do(store, bucket, mine)
    assert (of_payloads(store), kinds(store, mine)[-1]) == ([(False, False, True)], "content_erased")
    (done,) = do(store, bucket, mine)
    assert (done.done, bucket.keys(), kinds(store, mine)[-1]) == (True, [], "files_removed")
    assert kinds(store, mine).count("content_erased") == 1


class TestAfterwards:
    def test_nothing_is_made_or_told_of_it_again(self, store: EventStore) -> None:
        bucket = MemoryBucket()
        mine = finished(store, bucket)
        do(store, bucket, mine)
        before = kinds(store, mine)
        for act in (acts.retry("bob", ""), acts.retry("bob", "", State.CALLBACK), acts.resend("bob", "")):
            (done,) = perform(store, act, [mine])
            assert not done.done
            assert done.said.startswith("its content was erased by ada at 20")
        assert kinds(store, mine) == before
        assert acts.possible(store.load(mine), whole=False) == []

    def test_a_failure_may_be_told_again_for_nothing_in_it_is_gone(self, store: EventStore) -> None:
        mine = failed(store)
        do(store, MemoryBucket(), mine)
        assert acts.possible(store.load(mine), whole=False) == [f"ourvidz callbacks resend {mine}"]
        (done,) = perform(store, acts.resend("bob", ""), [mine])
        assert done.done
        assert store.load(mine).erased is not None

    def test_nothing_begins_while_files_are_still_to_go(self, store: EventStore) -> None:
        mine, bucket = failed(store), MemoryBucket()
        bucket.failing = [TryAgain("connection refused")]
        do(store, bucket, mine)
        (done,) = perform(store, acts.resend("bob", ""), [mine])
        assert not done.done
        assert done.said.endswith("and that is not finished: `ourvidz jobs erase` goes on with it")

    def test_what_comes_late_is_still_refused_and_can_be_erased_too(self, store: EventStore) -> None:
        bucket = MemoryBucket()
        mine = finished(store, bucket)
        do(store, bucket, mine)
        assert [one.verdict for one in store.admit([payload(1)])] == [Verdict.DUPLICATE]
        assert of_payloads(store) == [(False, False, True)]
        assert [one.verdict for one in store.admit([payload(1, "another secret")])] == [Verdict.DEAD]
        do(store, bucket, mine, by="bob")
        with store.read() as connection:
            (letter,) = connection.execute(select(dead_letters)).all()
        assert (bytes(letter.raw), len(letter.raw_digest), letter.job_id) == (b"", 64, mine)
        assert kinds(store, mine)[-4:] == ["content_erased", "files_removed", "content_erased", "files_removed"]
        verify(store, mine)


class TestDecisions:
    def test_files_are_not_removed_of_what_was_not_erased(self) -> None:
        assert decisions.files_removed(Job(id="j"), by="ada") == []


class TestCommand:
    def test_it_asks_even_where_ids_are_given_and_says_what_it_did(self, base: Run, tmp_path: Path) -> None:
        job_id = cancelled(base, tmp_path)
        (tmp_path / "ourvidz-data" / "storage").mkdir()
        asked = base("jobs", "erase", job_id)
        assert (asked.returncode, asked.stdout) == (ExitCode.USAGE, "")
        assert asked.stderr.startswith("1 job would be erased for good: there is no terminal to ask on")
        done = base("jobs", "erase", job_id, "--yes", "--by", "ada", "--reason", "asked for it")
        assert (done.returncode, done.stdout) == (0, f"{job_id}  erased, and nothing of it is left in storage\n")
        told = json.loads(base("jobs", "inspect", job_id, "--json").stdout)
        assert told["prompt"] is None
        assert (told["erased"]["by"], told["erased"]["reason"]) == ("ada", "asked for it")
        assert "erased by ada at 20" in base("jobs", "inspect", job_id).stdout
        assert [event["kind"] for event in told["events"]][-2:] == ["content_erased", "files_removed"]
        assert base("jobs", "search", "heron").stdout == ""
        assert base("jobs", "verify").returncode == 0

    def test_a_dead_letter_that_was_erased_is_not_put_through_the_door(self, base: Run, tmp_path: Path) -> None:
        job_id = cancelled(base, tmp_path)
        (tmp_path / "ourvidz-data" / "storage").mkdir()
        other = json.dumps(build_payload("sdxl_image_fast", "another heron", job_id=job_id))
        assert base("jobs", "submit", "-", stdin=other).returncode == ExitCode.REFUSED
        assert base("jobs", "erase", job_id, "--yes").returncode == 0
        done = base("deadletters", "requeue", "1")
        assert (done.returncode, done.stderr) == (ExitCode.REFUSED, f"dead letter 1 was erased with job {job_id}\n")

    def test_a_storage_that_is_not_there_ends_with_an_error_and_one_that_is_goes_on(
        self, base: Run, tmp_path: Path
    ) -> None:
        job_id = cancelled(base, tmp_path)
        done = base("jobs", "erase", job_id, "--yes", "--json")
        assert done.returncode == ExitCode.ERROR
        document = json.loads(done.stdout)
        assert (document["act"], document["done"], document["refused"]) == ("erase", 0, 1)
        assert "its files are still to go from storage" in " ".join(base("jobs", "inspect", job_id).stdout.split())
        assert "if nothing was ever stored); the same command goes on with it" in done.stderr
        (tmp_path / "ourvidz-data" / "storage").mkdir()
        assert base("jobs", "erase", job_id, "--yes").returncode == 0

    def test_live_jobs_are_refused_and_filters_mean_finished_ones(self, base: Run, tmp_path: Path) -> None:
        live = submit_by_command(base)
        ended = cancelled(base, tmp_path)
        (tmp_path / "ourvidz-data" / "storage").mkdir()
        refused = base("jobs", "erase", live, "--yes")
        assert refused.returncode == ExitCode.REFUSED
        assert "cannot be erased: it is not finished: queued; cancel it first" in refused.stderr
        done: subprocess.CompletedProcess[str] = base("jobs", "erase", "--type", "sdxl_image_fast", "--yes")
        assert (done.returncode, done.stdout.split()[0]) == (0, ended)
        with store_of(tmp_path) as store:
            assert store.content(live)["prompt"] == "a heron"
