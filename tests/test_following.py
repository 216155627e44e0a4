"""`jobs inspect --follow` and `jobs why`: from another process, while the job goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ourvidz.cli import run
from ourvidz.exit_codes import ExitCode
from statemachine import decisions
from statemachine import events as e
from statemachine.job import Job
from statemachine.store import EventStore
from tests.statemachine.builders import claimed

COMMAND: Final = [sys.executable, "-c", "from ourvidz.cli import main; main()"]


def url_of(store: EventStore) -> str:
    """Where it is."""
    return store.engine.url.render_as_string(hide_password=False)


def follow(store: EventStore, job: Job, *more: str) -> "subprocess.Popen[str]":
    """Somebody follows the job from outside."""
    command = [*COMMAND, "--database-url", url_of(store), "jobs", "inspect", job.id, "--follow", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(store: EventStore, job: Job) -> None:
    """It fails, and nobody is to be told."""
    failed = decisions.give_up(job, error_class="permanent", error_type="Broken", message="so be it", now=store.now())
    job = store.append(job, failed)
    store.append(job, decisions.finish(job, now=store.now(), notified=False))


def test_a_program_gets_a_document_for_each_change_and_the_last_is_of_the_end(store: EventStore) -> None:
    job = claimed(store)
    with follow(store, job, "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["state"], first["version"]) == ("generating", job.version)
        job = store.append(job, decisions.start(job, device="cpu"), worker_id="w1")
        second = json.loads(process.stdout.readline())
        assert (second["version"], second["attempts"][0]["outcome"]) == (job.version, None)
        end(store, job)
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == ExitCode.OK
    assert (rest[-1]["state"], rest[-1]["live"]) == ("failed", None)
    versions = [document["version"] for document in (first, second, *rest)]
    assert versions == sorted(set(versions))


def test_a_pipe_gets_a_line_for_each_change_and_then_the_page(store: EventStore) -> None:
    job = claimed(store)
    with follow(store, job) as process:
        assert process.stdout is not None
        assert " Taken " in process.stdout.readline()
        end(store, job)
        rest = process.stdout.read()
    lines, _, page = rest.partition("\n\n")
    assert " ago: so be it (Broken); nobody was told" in lines.splitlines()[-1]
    assert page.startswith("Failed ")
    assert "Possible now" in page


@pytest.mark.parametrize("more", [("--at", "1"), ("--html", "x.html")])
def test_what_is_over_and_what_is_a_file_cannot_be_followed(more: tuple[str, str]) -> None:
    assert run(["jobs", "inspect", "7f3a", "--follow", *more]) == ExitCode.USAGE


def test_why_is_one_sentence_and_one_name(store: EventStore, capsys: pytest.CaptureFixture[str]) -> None:
    job = claimed(store)
    stumbled = decisions.trouble(
        job, error_class="transient", error_type="Away", message="https://s.example/?sig=abc is away",
        now=store.now(), jitter=1.0,
    )  # fmt: skip
    store.append(job, stumbled)
    assert run(["--database-url", url_of(store), "jobs", "why", job.id[:8]]) == ExitCode.OK
    said = capsys.readouterr().out
    assert said.startswith("It failed ")
    assert "(Away: https://s.example/?… is away); next try in " in said
    assert run(["--database-url", url_of(store), "jobs", "why", job.id, "--json"]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["why"]["reason"], told["state"], set(told)) == (
        "backoff", "generating", {"schema", "id", "now", "at", "state", "outcome", "why"}
    )  # fmt: skip


def test_the_web_page_is_written_whole_with_the_pictures(
    store: EventStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the settings' own storage, a folder by default."""
    job = claimed(store)
    user, data = "0b9d6a52-1c55-4a44-8d0e-5d3c3f6f7a90", b"no picture, but bytes"
    key = f"{user}/{job.id}_0.png"
    made = e.AssetGenerated(index=0, seed=1, name="a.png", digest="0" * 64, bytes=len(data), width=4, height=4)
    job = store.append(job, [made, e.MediaGenerated(device_seconds=1.0, engine="null")], worker_id="w1")
    uploaded = e.AssetUploaded(index=0, bucket="sdxl_image_fast", key=key, digest="0" * 64, bytes=len(data))
    store.append(job, [uploaded], worker_id="w1")
    place = tmp_path / "data" / "storage" / "sdxl_image_fast" / key
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    page = tmp_path / "page.html"
    options = ["--database-url", url_of(store), "--set", f"data_dir={tmp_path / 'data'}"]
    assert run([*options, "jobs", "inspect", job.id, "--html", str(page)]) == ExitCode.OK
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"{page} is written, with 1 of 1 file in it\n")
    assert "data:image/png;base64,bm8gcGljdHVyZSwgYnV0IGJ5dGVz" in page.read_text("utf-8")
    assert "this is not the file that was made" in page.read_text("utf-8")
    assert [path.name for path in tmp_path.glob("*.html*")] == ["page.html"]
    assert run([*options, "jobs", "inspect", job.id, "--html", str(tmp_path / "no" / "x.html")]) == ExitCode.ERROR
    assert "there is no such folder" in capsys.readouterr().err
