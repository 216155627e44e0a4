"""The queries for people, on both databases."""

import json
from datetime import timedelta

import pytest

from ourvidz.inspect.document import document
from ourvidz.inspect.reading import situation_of
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import DeadLetter, NewJob
from statemachine.errors import UnknownJob
from statemachine.store import EventStore
from statemachine.store import reading as r
from statemachine.store.letters import mark_requeued
from statemachine.store.projections import upsert
from statemachine.store.schema import job_leases, queues
from tests.fates import START
from workers.arrivals import build_payload, read

USER = "0b9d6a52-1c55-4a44-8d0e-5d3c3f6f7a90"


def job_id(number: int) -> str:
    """Ids that begin with 7f3a, apart at the end."""
    return f"7f3a0c1e-5b7d-4c7e-9a51-{number:012x}"


def admit(store: EventStore, number: int, *, num_images: int = 1, job_type: str = "sdxl_image_fast") -> str:
    """A job of one user, queued `number` seconds after the start."""
    payload = build_payload(job_type, "a heron", num_images=num_images, seed=1, user_id=USER, job_id=job_id(number))
    raw = json.dumps(payload).encode()
    new = read(raw, queue="sdxl_queue", source="redis", now=START, draw_seed=lambda: 1)
    assert isinstance(new, NewJob)
    store.admit([new], at=START + timedelta(seconds=number))
    return new.job_id


def take(store: EventStore, job_id: str, *, progress: str | None = None) -> None:
    """Worker w-1 claims the job and tells how far it is."""
    job = store.load(job_id)
    job = store.append(job, decisions.claim(job, worker="w-1", host="h", device="cpu"), worker_id="w-1")
    lease = {"worker_id": "w-1", "token": job.token, "progress": progress, "spool_host": "h"}
    with store.write() as connection:
        upsert(connection, job_leases, [{"job_id": job_id, **lease}])


def test_a_prefix_finds_its_job_or_says_why_not(store: EventStore) -> None:
    first, second = admit(store, 1), admit(store, 2)
    with store.read() as connection:
        assert r.resolve(connection, first) == first
        assert r.resolve(connection, second[:-1].upper() + "2") == second
        for wrong, said in (("7f3a", "fits more than one job"), ("7f3b", "no job's id begins"), ("%", "is no job id")):
            with pytest.raises(UnknownJob, match=said):
                r.resolve(connection, wrong)


def test_filters_narrow_the_list(store: EventStore) -> None:
    good, bad = admit(store, 1), admit(store, 2, num_images=4)

    def ids(**wanted: object) -> list[str]:
        with store.read() as connection:
            return [row["id"] for row in r.list_jobs(connection, r.Filter(**wanted))]  # type: ignore[arg-type]

    assert ids() == [bad, good]
    assert ids(limit=1) == [bad]
    assert ids(states=["queued"]) == [good]
    assert ids(job_type="sdxl_image_high") == []
    assert ids(user_id=USER) == [bad, good]
    assert ids(since=START + timedelta(seconds=2)) == [bad]
    assert ids(until=START + timedelta(seconds=2)) == [good]
    assert ids(error="INVALIDpayload") == [bad]
    assert ids(error="100%") == []
    with store.read() as connection:
        assert r.counts(connection) == {"queued": 1, "callback": 1}
        assert {row["id"] for row in r.live_jobs(connection, 10)} == {good, bad}


def test_a_claimed_job_shows_its_lease_and_progress_and_the_next_one_moves_up(store: EventStore) -> None:
    first, second = admit(store, 1), admit(store, 2)
    with store.read() as connection:
        assert r.ahead(connection, first, store.now()) == r.Ahead()
        assert r.ahead(connection, second, store.now()) == r.Ahead(turn=1)
    take(store, first, progress='{"step": 7, "of": 15}')
    with store.read() as connection:
        assert r.ahead(connection, first, store.now()) is None
        assert r.ahead(connection, second, store.now()) == r.Ahead()
        lease = r.lease(connection, first)
        assert lease is not None
        assert (lease["worker_id"], lease["progress"]) == ("w-1", {"step": 7, "of": 15})
        assert r.jobs_by_id(connection, [first])[0]["progress"] == {"step": 7, "of": 15}
    told = document(situation_of(store, first[:-1] + "1"))
    assert told["lease"]["worker_id"] == "w-1"
    assert told["sentence"].startswith("Taken ")


def test_workers_tell_what_they_hold(store: EventStore) -> None:
    mine = admit(store, 1)
    take(store, mine)
    store.see_worker(
        {
            "worker_id": "w-1", "host": "h", "pid": 1, "device": "cpu", "engine": None, "engine_pid": None,
            "job_types": '["sdxl_image_fast"]', "models": '["lustify_sdxl"]', "state": "active", "note": None,
            "version": "0", "started_at": START, "last_seen_at": START,
        }
    )  # fmt: skip
    with store.read() as connection:
        (row,) = r.list_workers(connection)
    assert (row["job_types"], row["models"], row["jobs"]) == (["sdxl_image_fast"], ["lustify_sdxl"], [mine])


def test_dead_letters_are_requeued_once(store: EventStore) -> None:
    store.admit([DeadLetter(raw=b"{", reason="not JSON", queue="sdxl_queue", source="redis")], at=START)
    with store.read() as connection:
        (row,) = r.list_dead_letters(connection, limit=5, waiting_only=True)
        assert (row["reason"], bytes(row["raw"])) == ("not JSON", b"{")
        assert r.dead_letter(connection, row["id"] + 1) is None
    with store.write() as connection:
        assert mark_requeued(connection, row["id"], by="ada", at=START)
        assert not mark_requeued(connection, row["id"], by="bob", at=START)
    with store.read() as connection:
        assert r.list_dead_letters(connection, limit=5, waiting_only=True) == []
        again = r.dead_letter(connection, row["id"])
    assert again is not None
    assert again["requeued_by"] == "ada"


def test_a_paused_queue_stands_in_the_sentence(store: EventStore) -> None:
    mine = admit(store, 1)
    with store.write() as connection:
        connection.execute(
            queues.insert(), {"name": "sdxl_queue", "paused_at": START, "paused_by": "ada", "reason": "move"}
        )
    assert "because ada paused sdxl_queue" in document(situation_of(store, mine))["sentence"]


def test_what_is_free_tells_which_spool_has_its_files_and_what_is_held_does_not(store: EventStore) -> None:
    mine = admit(store, 1)
    take(store, mine)
    assert situation_of(store, mine).spool is None
    job = store.load(mine)
    kept = e.Checkpointed(step=5, of=15, name="checkpoint_5", digest="c" * 64)
    job = store.append(job, [*decisions.start(job), kept], worker_id="w-1")
    given = decisions.interrupt(job, reason="drained", by="w-1", now=store.now(), counts=False)
    store.append(job, given, worker_id="w-1")
    told = situation_of(store, mine, spool_grace=7.0)
    assert (told.spool, told.spool_grace) == ("h", 7.0)
