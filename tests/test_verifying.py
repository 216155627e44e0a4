"""`jobs verify`: files against their digests, the log against the anchors, and what people and programs are told."""

import io
import json
import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE
from uuid import uuid4

import pytest
from sqlalchemy import select

from ourvidz.exit_codes import ExitCode
from ourvidz.logs import set_up
from ourvidz.verifying import Verifying, finding_document, roots_in, sentence
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob
from statemachine.anchor import Key
from statemachine.finding import Finding, Wrong
from statemachine.job import Job
from statemachine.store import EventStore, open_store
from statemachine.store.schema import job_payloads
from tests.fakes import Crash, FakeClock, MemoryBucket
from tests.mutations import FIXTURES
from tests.statemachine import forging
from tests.statemachine.builders import claimant, new_job
from tests.test_cli import COMMAND, Run, base, environment, run, submit
from tests.test_logs import out
from tests.town import Host, Town
from workers.anchoring import Anchoring
from workers.arrivals import build_payload, read
from workers.asset_check import SILENCE
from workers.errors import GiveUp, Misconfigured, TryAgain
from workers.spool import sha256

__all__ = ["base", "out", "run"]

USER = "11111111-2222-4333-8444-555555555555"


def came(store: EventStore, raw: bytes, queue: str = "sdxl_queue") -> str:
    """A job whose payload came as producers send it."""
    new = read(raw, queue=queue, source="redis", now=store.now(), draw_seed=lambda: 7)
    assert isinstance(new, NewJob)
    store.admit([new])
    return new.job_id


def asked(store: EventStore) -> str:
    """A plain one."""
    return came(store, json.dumps(build_payload("sdxl_image_fast", "a heron at dawn", user_id=USER)).encode())


def uploaded(store: EventStore, bucket: MemoryBucket, *, assets: int = 2, job_id: str | None = None) -> Job:
    """A job whose files are in the bucket; it only has to be told of."""
    if job_id is None:
        job_id = asked(store)
    (job,) = store.claim(claimant(), drawing=1)
    made, done = [], []
    for index in range(assets):
        data, key = f"picture {index} of run {job.run}".encode(), f"{USER}/{job_id}_{index}.png"
        bucket.put("pictures", key, data, content_type="image/png", seconds=1)
        size = {"digest": sha256(data), "bytes": len(data)}
        made.append(e.AssetGenerated(index=index, seed=index, name="a.png", width=8, height=8, **size))  # type: ignore[arg-type]
        done.append(e.AssetUploaded(index=index, bucket="pictures", key=key, **size))  # type: ignore[arg-type]
    job = store.append(job, [*decisions.start(job), *made, e.MediaGenerated(device_seconds=1.0, engine="null")])
    return store.append(job, [*decisions.start(job), *done, e.MediaUploaded()])


def finished(store: EventStore, job: Job) -> Job:
    return store.append(job, [*decisions.start(job), *decisions.finish(job, now=store.now(), notified=True)])


def wrong(verifying: Verifying) -> list[tuple[Wrong, str | None, int | None, str | None]]:
    return [(one.kind, one.job_id, one.version, one.asset) for batch in verifying.everything() for one in batch]


def place(job: Job, index: int) -> str:
    return f"pictures/{USER}/{job.id}_{index}.png"


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


class TestFiles:
    def test_what_is_there_as_it_was_uploaded_is_right(self, store: EventStore, bucket: MemoryBucket) -> None:
        finished(store, uploaded(store, bucket))
        verifying = Verifying(store, bucket=bucket)
        assert wrong(verifying) == []
        assert (verifying.looked.files, verifying.looked.jobs) == (2, 1)

    @pytest.mark.parametrize("data", [b"", b"another picture", b"picture 1 of run 1 and more"])
    def test_a_replaced_file(self, store: EventStore, bucket: MemoryBucket, data: bytes) -> None:
        job = uploaded(store, bucket)
        bucket.objects["pictures", f"{USER}/{job.id}_1.png"] = data
        version = next(row.version for row in store.history(job.id) if getattr(row.event, "key", "").endswith("_1.png"))
        assert wrong(Verifying(store, bucket=bucket)) == [(Wrong.ASSET_CHANGED, job.id, version, place(job, 1))]
        assert wrong(Verifying(store)) == [], "files were not to be looked at"

    def test_a_missing_file(self, store: EventStore, bucket: MemoryBucket) -> None:
        job = uploaded(store, bucket)
        del bucket.objects["pictures", f"{USER}/{job.id}_0.png"]
        ((kind, job_id, _, asset),) = wrong(Verifying(store, bucket=bucket))
        assert (kind, job_id, asset) == (Wrong.ASSET_MISSING, job.id, place(job, 0))

    def test_a_later_run_replaces_an_earlier_ones_files_rightly(self, store: EventStore, bucket: MemoryBucket) -> None:
        job = finished(store, uploaded(store, bucket, assets=3))
        store.append(job, decisions.requeue(job, by="me", reason="again"))
        uploaded(store, bucket, assets=2, job_id=job.id)
        verifying = Verifying(store, bucket=bucket)
        assert wrong(verifying) == []
        assert verifying.looked.files == 3

    def test_a_job_that_is_uploading_may_be_ahead_of_its_history(self, store: EventStore, bucket: MemoryBucket) -> None:
        job = finished(store, uploaded(store, bucket))
        store.append(job, decisions.requeue(job, by="me", reason="again"))
        (job,) = store.claim(claimant(), drawing=1)
        store.append(job, [*decisions.start(job), e.MediaGenerated(device_seconds=1.0, engine="null")])
        bucket.objects["pictures", f"{USER}/{job.id}_0.png"] = b"of the second run"
        assert wrong(Verifying(store, bucket=bucket)) == []

    def test_a_job_that_has_gone_on_while_it_was_looked_at(self, store: EventStore, bucket: MemoryBucket) -> None:
        """Its file was replaced by a run that the snapshot does not know."""

        class Meanwhile(MemoryBucket):
            def get(self, bucket: str, key: str, *, most: int, seconds: float) -> bytes | None:
                job = store.load(key[-42:-6])
                if job.state.terminal:
                    store.append(job, decisions.requeue(job, by="me", reason="again"))
                return b"of the second run"

        finished(store, uploaded(store, bucket, assets=1))
        assert wrong(Verifying(store, bucket=Meanwhile())) == []

    def test_a_file_of_an_erased_job_is_not_missed_and_must_not_be_there(
        self, store: EventStore, bucket: MemoryBucket
    ) -> None:
        job = finished(store, uploaded(store, bucket))
        files = [{"bucket": "pictures", "key": f"{USER}/{job.id}_{index}.png"} for index in range(2)]
        store.append(job, [e.ContentErased(by="me", reason="asked", files=files)])
        with store.write() as connection:
            connection.execute(job_payloads.update().values(raw=None, content=None))
        del bucket.objects["pictures", f"{USER}/{job.id}_0.png"]
        ((kind, job_id, _, asset),) = wrong(Verifying(store, bucket=bucket))
        assert (kind, job_id, asset) == (Wrong.ERASED_LEFT, job.id, place(job, 1))

    def test_a_storage_that_does_not_answer_is_asked_no_more(self, store: EventStore, bucket: MemoryBucket) -> None:
        """What is not known is not right."""
        for _ in range(10):
            finished(store, uploaded(store, bucket))
        bucket.failing = [TryAgain("no answer"), *(Misconfigured("no such bucket") for _ in range(30))]
        verifying = Verifying(store, bucket=bucket)
        found = wrong(verifying)
        assert {kind for kind, *_ in found} == {Wrong.ASSET_UNREAD}
        assert len(found) + verifying.looked.not_asked == 20
        assert verifying.looked.not_asked > 0
        assert SILENCE <= len(found) < 20

    def test_a_file_that_cannot_be_asked_for_keeps_no_other_from_being_looked_at(
        self, store: EventStore, bucket: MemoryBucket
    ) -> None:
        for _ in range(5):
            finished(store, uploaded(store, bucket))
        bucket.failing = [GiveUp("the key must be another") for _ in range(8)]
        verifying = Verifying(store, bucket=bucket)
        assert len(wrong(verifying)) == 8
        assert (verifying.looked.files, verifying.looked.not_asked) == (2, 0)


def test_nothing_is_wrong_with_what_workers_left(fresh_database: str, tmp_path: Path) -> None:
    """One of them died, and one job was cancelled; a supervisor has anchored all the while."""
    town = Town(tmp_path / "town", fresh_database)
    anchoring = Anchoring(town.store, town.clock, name="s", seconds=5)
    hosts = [Host(town, "one"), Host(town, "two")]
    jobs = [
        town.admit("sdxl_image_fast", 1, num_images=3),
        town.admit("sdxl_image_high", 2, num_images=6),
        town.admit("image7b_fast_enhanced", 3),
    ]
    cancelled = town.store.load(jobs[1].id)
    town.store.append(cancelled, decisions.cancel(cancelled, by="me", reason="not wanted"))
    town.crash_at("bucket.put:after")
    with pytest.raises(Crash):
        town.pass_time(60, *hosts)
    for host in hosts:
        host.boot()
    for job in jobs:
        town.until_done(job, *hosts)
        anchoring.tick()
    verifying = Verifying(town.store, bucket=town.bucket)
    assert wrong(verifying) == []
    assert (verifying.looked.jobs, verifying.looked.files) == (3, 4)
    assert verifying.looked.anchors > 0
    town.store.close()


class TestContent:
    def test_what_came_is_right_whatever_it_was(self, store: EventStore) -> None:
        for file in FIXTURES:
            fixture = json.loads(file.read_text("utf-8"))
            came(store, json.dumps(fixture["body"], ensure_ascii=False, indent=1).encode(), fixture["queue"])
        refused = {"id": str(uuid4()), "type": "no such type", "prompt": "a \u0000 b"}
        came(store, b"\xef\xbb\xbf" + json.dumps(refused).encode())
        verifying = Verifying(store)
        assert wrong(verifying) == []
        assert verifying.looked.jobs == len(FIXTURES) + 1

    @pytest.mark.parametrize(
        "values",
        [
            {"raw": b'{"id": "another"}'},
            {"raw": b"no JSON"},
            {"raw": None},
            {"content": '{"negative_prompt":null,"prompt":"a crow at dawn","references":[]}'},
            {"content": "no JSON"},
            {"content": None},
        ],
        ids=str,
    )
    def test_what_was_asked_cannot_be_another_thing(self, store: EventStore, values: dict[str, object]) -> None:
        job_id = asked(store)
        with store.write() as connection:
            connection.execute(job_payloads.update().values(**values))
        assert wrong(Verifying(store)) == [(Wrong.CONTENT, job_id, 1, None)]

    def test_without_its_row_nothing_is_known(self, store: EventStore) -> None:
        job_id = asked(store)
        with store.write() as connection:
            connection.execute(job_payloads.delete())
        assert wrong(Verifying(store)) == [(Wrong.CONTENT, job_id, 1, None)] * 2

    def test_an_enhanced_prompt_is_the_one_that_was_accepted(self, store: EventStore) -> None:
        job_id = asked(store)
        with store.write() as connection:
            content = json.loads(connection.scalar(select(job_payloads.c.content)) or "")
            connection.execute(job_payloads.update().values(content=json.dumps({**content, "enhanced_prompt": "more"})))
        assert wrong(Verifying(store)) == [(Wrong.CONTENT, job_id, None, None)]

    def test_what_was_erased_is_not_missed_and_must_not_be_there(self, store: EventStore, bucket: MemoryBucket) -> None:
        job = finished(store, uploaded(store, bucket))
        store.append(job, [e.ContentErased(by="me", reason="asked")])
        assert wrong(Verifying(store)) == [(Wrong.ERASED_LEFT, job.id, 1, None)]
        with store.write() as connection:
            connection.execute(job_payloads.update().values(raw=None, content=None))
        assert wrong(Verifying(store)) == []


class TestChoosing:
    def test_one_job_is_looked_at_with_the_anchors_that_cover_it(self, store: EventStore, bucket: MemoryBucket) -> None:
        for _ in range(3):
            job = finished(store, uploaded(store, bucket))
            forging.anchor(store)
        verifying = Verifying(store, bucket=bucket)
        assert [one for batch in verifying.one(job.id) for one in batch] == []
        assert (verifying.looked.jobs, verifying.looked.anchors, verifying.looked.files) == (1, 1, 2)
        forging.change(store, job.id, 3, worker_id="somebody else")
        ((found,),) = [batch for batch in verifying.one(job.id) if batch]
        assert (found.kind, found.job_id, found.version) == (Wrong.CHANGED, job.id, 3)

    def test_what_happened_since(self, store: EventStore, bucket: MemoryBucket) -> None:
        old = finished(store, uploaded(store, bucket))
        forging.anchor(store, at=store.now() - timedelta(days=2))
        with store.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET queued_at = '2020-01-01 00:00:00.000000'")
        forging.change(store, old.id, 3, worker_id="somebody else")
        new = finished(store, uploaded(store, bucket))
        forging.anchor(store)
        verifying = Verifying(store, bucket=bucket)
        assert [one for batch in verifying.since(store.now() - timedelta(days=1)) for one in batch] == []
        assert (verifying.looked.jobs, verifying.looked.anchors) == (1, 1)
        forging.remove_all(store, new.id)
        found = [one for batch in verifying.since(store.now() - timedelta(days=1)) for one in batch]
        assert [(one.kind, one.job_id) for one in found] == [(Wrong.CUT, new.id)]

    @pytest.mark.parametrize(("anchor_seconds", "late"), [(60.0, 1), (3600.0, 0)])
    def test_what_was_anchored_late_is_told(self, store: EventStore, anchor_seconds: float, late: int) -> None:
        asked(store)
        forging.anchor(store, at=store.now() + timedelta(hours=1, minutes=1))
        verifying = Verifying(store, anchor_seconds=anchor_seconds)
        assert wrong(verifying) == []
        assert verifying.looked.late == late

    def test_what_is_not_anchored_is_told(self, store: EventStore, bucket: MemoryBucket) -> None:
        verifying = Verifying(store)
        assert verifying.tail().events == 0
        job = uploaded(store, bucket)
        forging.anchor(store)
        assert (verifying.tail().events, verifying.tail().since) == (0, None)
        last = finished(store, job)
        assert (verifying.tail().events, verifying.tail().since) == (last.version - job.version, last.last_at)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_log_can_be_read_for_the_anchors_that_it_tells_of(
    store: EventStore, out: io.StringIO, log_format: str
) -> None:
    """Whatever its form, and among whatever else."""
    set_up(log_format, stream=out)
    clock = FakeClock()
    anchoring = Anchoring(store, clock, name="s", seconds=60)
    made = []
    for _ in range(2):
        store.admit([new_job()])
        made.append(anchoring.tick())
        clock.advance(60)
    assert roots_in(out.getvalue().splitlines()) == {one.sequence: frozenset([one.root]) for one in made if one}
    assert None not in made
    coloured = f"\x1b[36manchor\x1b[0m=\x1b[35m3:{'ab' * 32}\x1b[0m job 7:{'cd' * 32} anchor=8:{'ef' * 31}"
    assert roots_in([coloured]) == {3: frozenset(["ab" * 32])}


def test_every_kind_of_finding_stands_on_the_page_of_integrity() -> None:
    page = (Path(__file__).parents[1] / "docs" / "integrity.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE) == [(kind.value, kind.about) for kind in Wrong]


def test_a_finding_is_told_to_people_and_to_programs() -> None:
    found = Finding(kind=Wrong.CHANGED, job_id="7f3a", version=3, said="this \x1b[2J is not what was written")
    assert sentence(found) == "job 7f3a, version 3: this \ufffd[2J is not what was written [event_changed]"
    assert finding_document(found)["kind"] == "event_changed"
    assert sentence(Finding(kind=Wrong.ANCHOR, anchor=7, said="anchor 7 is missing")).startswith("anchor 7: ")


class TestCommand:
    def test_everything_is_right(self, base: Run) -> None:
        submit(base)
        done = base("jobs", "verify")
        assert (done.returncode, done.stderr) == (0, "")
        first, second = done.stdout.splitlines()
        assert first.startswith("looked at 1 job with 1 event, no anchor and no file in ")
        assert second.startswith("not anchored yet: 1 event, the first of ")

    def test_what_is_wrong_is_named_and_ends_it_with_a_code(self, base: Run, tmp_path: Path) -> None:
        job_id = submit(base)
        store = open_store(f"sqlite:///{tmp_path}/ourvidz-data/ourvidz.sqlite")
        forging.change(store, job_id, 1, worker_id="somebody else")
        store.close()
        done = base("jobs", "verify")
        assert done.returncode == ExitCode.ERROR
        assert done.stderr == "1 thing is wrong, in 1 job\n"
        assert done.stdout.startswith(f"job {job_id}, version 1: this job_queued, or the event before it, is not what ")
        told = json.loads(base("jobs", "verify", job_id[:8], "--json").stdout)
        assert [(one["kind"], one["job"], one["version"]) for one in told["wrong"]] == [("event_changed", job_id, 1)]
        assert (told["schema"], told["looked_at"]["jobs"], told["unanchored"]["events"]) == (1, 1, 1)

    def test_a_log_is_held_against_the_anchors(self, base: Run, tmp_path: Path) -> None:
        (tmp_path / "supervisor.log").write_text(f'{{"event": "anchored", "anchor": "1:{"ab" * 32}"}}\n')
        done = base("jobs", "verify", "--anchors", "supervisor.log")
        assert (done.returncode, done.stdout.splitlines()[0]) == (
            1,
            "anchor 1: it is not there, and the log has it [anchor]",
        )

    def test_a_log_without_anchors_proves_nothing_and_is_refused(self, base: Run, tmp_path: Path) -> None:
        (tmp_path / "other.log").write_text('{"event": "ingress up", "level": "info"}\n')
        done = base("jobs", "verify", "--anchors", "other.log")
        assert (done.returncode, done.stdout) == (ExitCode.ERROR, "")
        assert done.stderr.startswith("other.log tells of no anchor")

    def test_the_key_has_made_all_anchors_from_the_one_that_is_named(self, base: Run, tmp_path: Path) -> None:
        first = submit(base)
        store = open_store(f"sqlite:///{tmp_path}/ourvidz-data/ourvidz.sqlite")
        forging.anchor(store)
        submit(base)
        forging.anchor(store, key=Key(secret=b"a-key-that-is-long-enough"), at=store.now() + timedelta(days=1))
        store.close()
        key = {"OURVIDZ_ANCHOR_KEY": "a-key-that-is-long-enough"}
        done = base("jobs", "verify", **key)
        said = "anchor 1: it was made without the key that is set here [anchor]"
        assert (done.returncode, done.stdout.splitlines()[0]) == (1, said)
        one = base("jobs", "verify", first, **key)
        assert (one.returncode, one.stdout.splitlines()[0]) == (1, said)
        assert base("jobs", "verify", first, "--keyed-from", "2", **key).returncode == 0
        done = base("jobs", "verify", "--keyed-from", "2", **key)
        assert done.returncode == 0
        assert done.stdout.splitlines()[1:] == ["anchored late, so that nothing vouches for the time before: 1 event"]
        assert base("jobs", "verify").stdout.splitlines()[-1].endswith("not proven: 1 anchor")

    def test_an_id_stands_alone(self, base: Run) -> None:
        assert base("jobs", "verify", "7f3a", "--since", "2h").returncode == ExitCode.USAGE
        assert base("jobs", "verify", "7f3a").returncode == ExitCode.UNKNOWN_JOB

    @pytest.mark.parametrize("command", ["verify", "rebuild"])
    def test_who_watches_sees_how_far_it_is(self, base: Run, tmp_path: Path, command: str) -> None:
        """On the terminal alone: what is piped on is the same as ever."""
        submit(base)
        terminal, end = os.openpty()
        with os.fdopen(terminal, "rb", buffering=0) as seen:
            done = subprocess.run(
                [*COMMAND, "jobs", command],
                cwd=tmp_path,
                env=environment(TERM="xterm"),
                stdout=PIPE,
                stderr=end,
                text=True,
            )
            os.close(end)
            shown = seen.read(65536).decode()
        assert done.returncode == 0, shown
        assert re.search(r"jobs.* \x1b\S*1/1", shown), shown
        assert "\x1b" not in done.stdout
        assert "1 job" in done.stdout
