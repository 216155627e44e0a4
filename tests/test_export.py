"""Exporting: what is in the file, that it can be checked without the service, and what is left out of it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourvidz.exporting import Exported, Missing, Story, export
from ourvidz.inspect.document import document
from ourvidz.inspect.reading import situation_of
from statemachine import decisions
from statemachine import events as e
from statemachine.store import EventStore
from statemachine.store.codec import canonical
from statemachine.store.reading import personal
from tests.fakes import Crash, MemoryBucket
from tests.test_cli import Run, base, run, submit
from tests.test_erasing import ENHANCED, SECRET, do, finished, key
from workers.errors import TryAgain
from workers.spool import sha256

__all__ = ["base", "run"]  # fixtures

PICTURES = {index: b"picture %d" % index for index in range(3)}


def drawn(store: EventStore, bucket: MemoryBucket) -> str:
    """A completed job whose files are the ones that its history tells of."""
    job_id = finished(store, bucket)
    job = store.append(store.load(job_id), decisions.requeue(store.load(job_id), by="ada", reason="again"))
    job = store.append(job, decisions.claim(job, worker="w", host="h", device="cpu"))
    made: list[e.Event] = []
    uploaded: list[e.Event] = []
    for index, data in PICTURES.items():
        told = {"index": index, "digest": sha256(data), "bytes": len(data)}
        made.append(e.AssetGenerated(seed=index, name=f"{index}.png", width=8, height=8, **told))  # type: ignore[arg-type]
        uploaded.append(e.AssetUploaded(bucket="sdxl_image_fast", key=key(1, index), **told))  # type: ignore[arg-type]
        bucket.objects["sdxl_image_fast", key(1, index)] = data
    job = store.append(job, [*decisions.start(job), *made, e.MediaGenerated(device_seconds=1.0, engine="null")])
    job = store.append(job, [*decisions.start(job), *uploaded, e.MediaUploaded()])
    return store.append(job, [*decisions.start(job), *decisions.finish(job, now=store.now(), notified=True)]).id


def exported(store: EventStore, bucket: MemoryBucket | None, job_id: str, target: Path) -> Exported:
    situation = situation_of(store, job_id)
    with store.read() as connection:
        raw, content = personal(connection, job_id)
    story = Story(
        document=document(situation),
        history=situation.history,
        assets=situation.job.assets,
        raw=raw,
        content=content,
    )
    return export(story, bucket, target)


def unpacked(file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    """As its owner would: with a bare Python, from anywhere."""
    command = [sys.executable, "-I", "-S", str(folder / "verify.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


class TestWhole:
    def test_it_holds_the_story_the_payload_and_the_files_and_checks_itself(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        bucket = MemoryBucket()
        job_id = drawn(store, bucket)
        done = exported(store, bucket, job_id, tmp_path / "job.zip")
        assert (done.missing, done.personal, done.events) == ([], True, len(store.history(job_id)))
        folder = unpacked(tmp_path / "job.zip", tmp_path / "job")
        assert {file.name: file.read_bytes() for file in (folder / "assets").iterdir()} == {
            f"{job_id}_{index}.png": data for index, data in PICTURES.items()
        }
        assert json.loads((folder / "job.json").read_text("utf-8"))["prompt"] == SECRET
        assert json.loads((folder / "payload").read_bytes())["prompt"] == SECRET
        assert json.loads((folder / "content.json").read_text("utf-8"))["enhanced_prompt"] == ENHANCED
        assert "It holds personal content" in (folder / "README.txt").read_text("utf-8")
        checked = check(folder)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert checked.stdout.strip().endswith(f"the last digest is {store.load(job_id).digest}")

    def test_nobody_else_may_read_it_and_none_is_replaced(self, store: EventStore, tmp_path: Path) -> None:
        job_id = drawn(store, MemoryBucket())
        target = tmp_path / "job.zip"
        exported(store, MemoryBucket(), job_id, target)
        assert target.stat().st_mode & 0o777 == 0o600
        before = target.read_bytes()
        with pytest.raises(FileExistsError):
            exported(store, MemoryBucket(), job_id, target)
        assert target.read_bytes() == before

    def test_what_ends_in_the_middle_leaves_nothing(self, store: EventStore, tmp_path: Path) -> None:
        job_id = drawn(store, MemoryBucket())
        bucket = MemoryBucket()
        bucket.failing = [Crash()]  # type: ignore[list-item]
        with pytest.raises(Crash):
            exported(store, bucket, job_id, tmp_path / "job.zip")
        assert list(tmp_path.glob("*.zip*")) == list(tmp_path.glob(".job*")) == []


class TestMissing:
    def test_each_file_that_is_not_there_is_named_with_the_reason(self, store: EventStore, tmp_path: Path) -> None:
        bucket = MemoryBucket()
        job_id = drawn(store, bucket)
        bucket.failing = [TryAgain("connection refused")]
        del bucket.objects["sdxl_image_fast", key(1, 1)]
        bucket.objects["sdxl_image_fast", key(1, 2)] = b"another picture, and a longer one"
        done = exported(store, bucket, job_id, tmp_path / "job.zip")
        assert done.missing == [
            Missing(f"sdxl_image_fast/{key(1, 0)}", "connection refused"),
            Missing(f"sdxl_image_fast/{key(1, 1)}", "storage does not have it any more"),
            Missing(f"sdxl_image_fast/{key(1, 2)}", "what storage has there is not the file that was uploaded"),
        ]
        folder = unpacked(tmp_path / "job.zip", tmp_path / "job")
        assert not (folder / "assets").exists()
        assert f"missing: sdxl_image_fast/{key(1, 0)}: connection refused" in (folder / "README.txt").read_text()
        assert check(folder).returncode == 0

    def test_of_an_erased_job_the_history_is_left_and_checks(self, store: EventStore, tmp_path: Path) -> None:
        bucket = MemoryBucket()
        job_id = drawn(store, bucket)
        do(store, bucket, job_id)
        done = exported(store, bucket, job_id, tmp_path / "job.zip")
        assert (done.assets, len(done.missing)) == ([], 3)
        folder = unpacked(tmp_path / "job.zip", tmp_path / "job")
        assert {file.name for file in folder.iterdir()} == {"README.txt", "events.jsonl", "job.json", "verify.py"}
        assert check(folder).returncode == 0


def test_for_support_nothing_is_in_it_that_a_person_wrote(store: EventStore, tmp_path: Path) -> None:
    bucket = MemoryBucket()
    job_id = drawn(store, bucket)
    done = exported(store, None, job_id, tmp_path / "job.zip")
    assert (done.personal, done.assets, done.missing) == (False, [], [])
    folder = unpacked(tmp_path / "job.zip", tmp_path / "job")
    for file in folder.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes()
            assert ENHANCED.encode() not in file.read_bytes()
    assert check(folder).returncode == 0


class TestTampering:
    """What `verify.py` is for."""

    @pytest.fixture
    def folder(self, store: EventStore, tmp_path: Path) -> Path:
        bucket = MemoryBucket()
        exported(store, bucket, drawn(store, bucket), tmp_path / "job.zip")
        return unpacked(tmp_path / "job.zip", tmp_path / "job")

    @pytest.mark.parametrize(
        ("column", "value"),
        [("data", "{}"), ("at", "2026-07-05T12:00:00.000000+00:00"), ("kind", "degraded"), ("worker_id", "me")],
    )
    def test_an_event_that_was_changed_is_named(self, folder: Path, column: str, value: str) -> None:
        lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
        lines[2] = json.dumps({**json.loads(lines[2]), column: value})
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        checked = check(folder)
        assert checked.returncode == 1
        assert checked.stdout.startswith("version 3 (")

    def test_an_event_that_was_left_out_is_missed(self, folder: Path) -> None:
        lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
        (folder / "events.jsonl").write_text("\n".join(lines[:4] + lines[5:]) + "\n", "utf-8")
        checked = check(folder)
        assert (checked.returncode, checked.stdout.splitlines()[0]) == (
            1,
            "version 5 is missing: version 6 stands in its place",
        )

    def test_another_picture_is_noticed(self, folder: Path) -> None:
        file = next((folder / "assets").iterdir())
        file.write_bytes(b"another")
        checked = check(folder)
        assert (checked.returncode, checked.stdout) == (1, f"assets/{file.name} is not the file that was uploaded\n")


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53), st.text(st.characters(exclude_categories=["Cs"])))))
def test_the_standard_library_writes_what_the_digests_cover(values: list[Any]) -> None:
    """Else a program that knows nothing of us could not check a digest."""
    assert json.dumps(values, ensure_ascii=False, separators=(",", ":")) == canonical(values)


class TestCommand:
    def test_a_job_becomes_a_file_named_by_its_id(self, base: Run, tmp_path: Path) -> None:
        job_id = submit(base)
        done = base("jobs", "export", job_id[:8])
        assert (done.returncode, done.stdout) == (0, f"{tmp_path}/{job_id}.zip\n")
        assert done.stderr.splitlines() == [
            "1 event, no file",
            "it holds personal content; --without-personal leaves that out",
        ]
        again = base("jobs", "export", job_id)
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == f"{tmp_path}/{job_id}.zip: it is there already, and is not replaced\n"

    def test_the_document_says_what_is_in_it(self, base: Run, tmp_path: Path) -> None:
        job_id = submit(base)
        done = base("jobs", "export", job_id, "--without-personal", "-o", "x.zip", "--json")
        assert json.loads(done.stdout) == {
            "schema": 1,
            "id": job_id,
            "file": f"{tmp_path}/x.zip",
            "events": 1,
            "assets": [],
            "missing": [],
            "personal": False,
        }
        assert check(unpacked(tmp_path / "x.zip", tmp_path / "x")).returncode == 0
