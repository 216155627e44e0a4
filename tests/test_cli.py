"""The command line as a program sees it: exit codes, one sentence on stderr, documents on stdout."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ourvidz import reference
from ourvidz.exit_codes import ExitCode
from statemachine.store import open_store
from tests.supabase_server import KEY as SERVICE_KEY
from tests.supabase_server import SupabaseServer
from workers.arrivals import build_payload
from workers.presets import PRESETS

Run = Callable[..., "subprocess.CompletedProcess[str]"]

COMMAND = [sys.executable, "-c", "from ourvidz.cli import main; main()"]


def environment(**more: str) -> dict[str, str]:
    """Ours, without the settings of whoever runs the tests."""
    names = ("SUPABASE_", "UPSTASH_", "OURVIDZ_", "COLUMNS", "NO_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(names)} | more


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `ourvidz` in a folder of its own."""

    def call(*arguments: str, stdin: str = "", **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=environment(**env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


@pytest.fixture
def base(run: Run) -> Run:
    """The same, with a database."""
    assert run("db", "upgrade").returncode == 0
    return run


def submit(base: Run, *more: str) -> str:
    """Submit a job and return its id."""
    done = base("jobs", "submit", "--type", "sdxl_image_fast", "--prompt", "a heron", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fails(done: "subprocess.CompletedProcess[str]", code: ExitCode, sentence: str) -> None:
    """One line on stderr, nothing on stdout, no traceback."""
    assert (done.returncode, done.stderr.strip(), done.stdout) == (code, sentence, "")


def test_without_a_database_the_sentence_says_what_to_do(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ourvidz-data" / "ourvidz.sqlite"
    fails(
        run("jobs", "inspect", "7f3a"),
        ExitCode.OLD_SCHEMA,
        f"there is no database at {file} yet: run `ourvidz db upgrade`, or `ourvidz up`",
    )
    assert not file.parent.exists(), "a question must not make a database"


def test_an_old_schema(base: Run, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ourvidz-data" / "ourvidz.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    done = base("jobs", "list")
    assert done.returncode == ExitCode.OLD_SCHEMA
    assert "version 0000" in done.stderr
    assert "ourvidz db upgrade" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_job(base: Run) -> None:
    fails(base("jobs", "inspect", "7f3a"), ExitCode.UNKNOWN_JOB, "no job's id begins with 7f3a")
    wrong = "'x%_' is no job id: wanted a UUID or its first characters"
    fails(base("jobs", "inspect", "x%_"), ExitCode.UNKNOWN_JOB, wrong)


def test_an_unreachable_database_names_no_password(run: Run) -> None:
    done = run("--database-url", "postgresql://u:s3cret@127.0.0.1:1/db", "jobs", "list")
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr.startswith("the database does not answer")
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr


def test_a_wrong_setting(run: Run) -> None:
    sentence = "lease_seconds (environment OURVIDZ_LEASE_SECONDS): wanted a number from 3 to 3600, got '0'"
    fails(run("config", "show", OURVIDZ_LEASE_SECONDS="0"), ExitCode.WRONG_SETTING, sentence)
    sentence = "OURVIDZ_DATA_DIRR: no such setting; did you mean OURVIDZ_DATA_DIR?"
    fails(run("jobs", "list", OURVIDZ_DATA_DIRR="x"), ExitCode.WRONG_SETTING, sentence)


def test_a_file_that_is_no_database(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database")
    for command in (["jobs", "list"], ["db", "upgrade"]):
        done = run("--database-url", f"sqlite:///{file}", *command)
        fails(done, ExitCode.WRONG_SETTING, f"database_url: {file} is no SQLite database")
    assert file.read_text() == "not a database"


def test_a_wrong_command_line(run: Run) -> None:
    done = run("jobs", "inspekt")
    assert done.returncode == ExitCode.USAGE
    assert "inspekt" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_traceback_comes_with_v_wherever_it_stands(run: Run) -> None:
    for arguments in (("-v", "jobs", "list"), ("jobs", "list", "-v")):
        assert "Traceback" in run(*arguments).stderr


def test_submit_list_inspect_and_rebuild_tell_of_the_same_job(base: Run) -> None:
    job_id = submit(base, "--num-images", "3", "--seed", "7", "--steps", "12", "--size", "512*512")
    listed = json.loads(base("jobs", "list", "--json").stdout)
    assert [job["id"] for job in listed["jobs"]] == [job_id]
    told = json.loads(base("jobs", "inspect", job_id[:8], "--json").stdout)
    assert told["schema"] == 1
    assert (told["prompt"], told["seed"]) == ("a heron", 7)
    assert {key: told["resolved"][key] for key in ("width", "steps", "num_images")} == {
        "width": 512,
        "steps": 12,
        "num_images": 3,
    }
    assert base("jobs", "inspect", job_id).stdout.startswith("Queued for ")
    rebuilt = base("jobs", "rebuild")
    assert rebuilt.stdout.strip() == "1 jobs compared with their events, 0 rewritten"


def test_rebuild_names_what_it_mended(base: Run, tmp_path: Path) -> None:
    job_id = submit(base)
    with sqlite3.connect(tmp_path / "ourvidz-data" / "ourvidz.sqlite") as connection:
        connection.execute("UPDATE jobs SET seed = 1, state = 'completed'")
    done = base("jobs", "rebuild", job_id[:6])
    assert done.stdout.splitlines()[0] == f"{job_id}  rewritten: jobs"
    assert base("jobs", "inspect", job_id).stdout.startswith("Queued")


def test_a_prefix_that_fits_several_names_them(base: Run) -> None:
    for last in "12":
        submit(base, "--id", f"7f3a0c1e-5b7d-4c7e-9a51-2f1f6c9d0e1{last}")
    done = base("jobs", "inspect", "7f3a")
    assert done.returncode == ExitCode.UNKNOWN_JOB
    assert done.stderr.strip() == (
        "7f3a fits more than one job: 7f3a0c1e-5b7d-4c7e-9a51-2f1f6c9d0e11, 7f3a0c1e-5b7d-4c7e-9a51-2f1f6c9d0e12"
    )


def test_filters(base: Run) -> None:
    first = submit(base)
    base("jobs", "submit", "--type", "sdxl_image_high", "--prompt", "x", "--num-images", "4")

    def ids(*arguments: str) -> Sequence[Any]:
        return [job["id"] for job in json.loads(base("jobs", "list", "--json", *arguments).stdout)["jobs"]]

    assert ids("--state", "queued") == [first]
    assert ids("--type", "sdxl_image_fast") == [first]
    assert first not in ids("--error", "must be 1, 3 or 6")
    assert len(ids("--since", "1h")) == 2
    assert ids("--until", "2020-01-01") == []
    assert len(ids("--limit", "1")) == 1
    assert base("jobs", "list", "--state", "done").returncode == ExitCode.USAGE


def test_a_payload_comes_from_a_file_or_from_stdin_and_twice_is_once(base: Run, tmp_path: Path) -> None:
    payload = build_payload("sdxl_image_fast", "--not-an-option \u2603")
    (tmp_path / "payload.json").write_text(json.dumps(payload))
    assert base("jobs", "submit", "payload.json").stdout.strip() == payload["id"]
    again = base("jobs", "submit", "-", stdin=json.dumps(payload))
    assert again.stdout.strip() == payload["id"]
    assert "known already" in again.stderr
    told = json.loads(base("jobs", "inspect", payload["id"], "--json").stdout)
    assert told["prompt"] == "--not-an-option \u2603"


def test_a_refused_payload_is_kept_as_a_job_that_can_be_inspected(base: Run) -> None:
    done = base("jobs", "submit", "--type", "sdxl_image_fast", "--prompt", "x", "--num-images", "4")
    assert done.returncode == ExitCode.REFUSED
    assert done.stderr.strip().endswith("must be 1, 3 or 6, got 4")
    job_id = done.stdout.strip()
    assert json.loads(base("jobs", "inspect", job_id, "--json").stdout)["outcome"] == "failed"


def test_a_prompt_cannot_steer_the_terminal_of_whoever_looks_at_a_document(base: Run) -> None:
    """The 8-bit twins of ESC [ too, which JSON itself lets through, and what turns the direction of writing."""
    prompt = "a \x1b[31mheron\x9b2J at \x7f\u202e dawn\u2028 🦩"
    job_id = submit(base, "--prompt", prompt)
    shown = base("jobs", "inspect", job_id, "--json").stdout
    assert json.loads(shown)["prompt"] == prompt
    assert not {"\x1b", "\x9b", "\x7f", "\u202e", "\u2028"} & set(shown)
    page = base("jobs", "inspect", job_id).stdout
    assert not {"\x1b", "\x9b", "\x7f", "\u202e", "\u2028"} & set(page)


def test_a_dead_letter_is_refused_while_bad_and_requeued_once_when_mended(base: Run, tmp_path: Path) -> None:
    done = base("jobs", "submit", "-", stdin='{"type": "sdxl_image_fast"}')
    assert (done.returncode, done.stdout) == (ExitCode.REFUSED, "")
    assert "kept as a dead letter" in done.stderr
    assert "id is missing" in base("deadletters", "show", "1").stdout
    fails(base("deadletters", "requeue", "1"), ExitCode.REFUSED, "dead letter 1 is still refused: id is missing")
    fails(base("deadletters", "show", "9"), ExitCode.UNKNOWN_JOB, "there is no dead letter 9")

    payload = build_payload("sdxl_image_fast", "a heron")
    with sqlite3.connect(tmp_path / "ourvidz-data" / "ourvidz.sqlite") as connection:
        connection.execute("UPDATE dead_letters SET raw = ?", (json.dumps(payload).encode(),))
    assert base("deadletters", "requeue", "1", "--by", "ada").stdout.strip() == payload["id"]
    again = base("deadletters", "requeue", "1")
    fails(again, ExitCode.REFUSED, "dead letter 1 was requeued by ada already")
    letters = json.loads(base("deadletters", "list", "--json").stdout)["dead_letters"]
    assert [letter["requeued_by"] for letter in letters] == ["ada"]


def test_a_dead_letter_about_a_known_job_makes_no_second_one(base: Run) -> None:
    job_id = submit(base)
    other = build_payload("sdxl_image_fast", "another prompt", job_id=job_id)
    assert base("jobs", "submit", "-", stdin=json.dumps(other)).returncode == ExitCode.REFUSED
    assert "known with another content" in base("deadletters", "requeue", "1").stderr
    assert len(json.loads(base("deadletters", "list", "--json").stdout)["dead_letters"]) == 1


def test_watch_ends_with_the_job_and_says_how_it_ended(base: Run, tmp_path: Path) -> None:
    job_id = submit(base)
    watching = subprocess.Popen(
        [*COMMAND, "jobs", "watch", job_id], cwd=tmp_path, env=environment(), stdout=-1, stderr=-1, text=True
    )
    assert watching.stdout is not None
    assert watching.stdout.readline().split()[1:] == [job_id, "queued"]  # it watches; now the job ends
    store = open_store(f"sqlite:///{tmp_path}/ourvidz-data/ourvidz.sqlite")
    from statemachine import decisions

    job = store.append(store.load(job_id), decisions.cancel(store.load(job_id), by="ada", reason="enough"))
    store.append(job, decisions.finish(job, now=store.now(), notified=False))
    store.close()
    out, err = watching.communicate(timeout=30)
    assert out.splitlines()[-1].split()[2] == "cancelled"
    assert err.strip().startswith(f"job {job_id} was cancelled")
    assert watching.returncode == ExitCode.NOT_COMPLETED


def test_ctrl_c_is_quiet(base: Run, tmp_path: Path) -> None:
    job_id = submit(base)
    watching = subprocess.Popen(
        [*COMMAND, "jobs", "watch", job_id], cwd=tmp_path, env=environment(), stdout=-1, stderr=-1, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=30) == ("", "")
    assert watching.returncode == ExitCode.INTERRUPTED


def test_a_broken_pipe_is_quiet(base: Run, tmp_path: Path) -> None:
    submit(base)
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [*COMMAND, "jobs", "list", "--json"], cwd=tmp_path, env=environment(), stdout=write_end,
        stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(write_end)
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, b"")


def test_colours_stay_out_of_pipes(base: Run) -> None:
    job_id = submit(base)
    for arguments in (("jobs", "list"), ("jobs", "inspect", job_id), ("workers",), ("config", "check")):
        assert "\x1b" not in base(*arguments).stdout


def test_config_show_masks_and_names_sources(run: Run) -> None:
    done = run("config", "show", OURVIDZ_CALLBACK_SECRET="s3cret", OURVIDZ_REDIS_URL="redis://:s3cret@h/0")
    assert "s3cret" not in done.stdout
    assert "environment OURVIDZ_CALLBACK_SECRET" in done.stdout


def test_config_check_finds_what_would_not_work(base: Run, tmp_path: Path) -> None:
    assert base("config", "check").returncode == 0
    (tmp_path / "a-file").write_text("")
    done = base("--set", f"spool_dir={tmp_path}/a-file/spool", "config", "check", "--json")
    levels = {check["name"]: check["level"] for check in json.loads(done.stdout)["checks"]}
    assert (levels["spool_dir"], levels["database_url"]) == ("wrong", "ok")
    assert done.returncode == ExitCode.WRONG_SETTING
    away = base("--set", "redis_url=redis://127.0.0.1:1/0", "config", "check")
    assert away.returncode == ExitCode.UNREACHABLE


def test_config_check_asks_the_storage(base: Run) -> None:
    """Whether it is there, lets us in, and has the buckets; without writing to it."""
    with SupabaseServer(*PRESETS) as server:
        there = base("config", "check", **_supabase(server.url))
        assert "supabase: answers and lets us in" in there.stdout
        assert SERVICE_KEY not in base("config", "check", **_supabase(server.url, key=f"{SERVICE_KEY}x")).stdout
        server.buckets.remove("video_fast")
        lacking = base("config", "check", **_supabase(server.url))
        assert "has no bucket video_fast" in lacking.stdout
        assert lacking.returncode == ExitCode.WRONG_SETTING
        assert server.objects == {}
    away = base("config", "check", **_supabase(server.url))
    assert "Supabase Storage: connection refused" in away.stdout


def _supabase(url: str, *, key: str = SERVICE_KEY) -> dict[str, str]:
    named = {"OURVIDZ_STORAGE_URL": "supabase:", "SUPABASE_URL": url, "SUPABASE_SERVICE_KEY": key}
    return {"OURVIDZ_ENGINE": "null", **named}


def test_a_foreign_statemachine_is_named_before_anything_is_imported_from_it(tmp_path: Path) -> None:
    (tmp_path / "statemachine").mkdir()
    (tmp_path / "statemachine" / "__init__.py").write_text("raise SystemError('imported')\n")
    done = subprocess.run(
        [*COMMAND, "jobs", "list"], cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)), capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == ExitCode.ERROR
    assert "is another project's" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", [path for path, _, _ in reference.commands()])
def test_every_command_has_help_with_an_example(path: str) -> None:
    about, found, example = next(
        (function.__doc__ or "").partition("\b\n    Example:\n")
        for name, function, _ in reference.commands()
        if name == path
    )
    assert about.strip()
    assert found
    assert path in example or path.split()[-1] in example


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from ourvidz.cli import run; run(['--help'])\n"
        "slow = {'pydantic_settings', 'sqlalchemy', 'redis', 'requests', 'structlog', 'alembic', 'torch', 'PIL'}\n"
        "sys.exit(str(sorted(slow & set(sys.modules))) if slow & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_about_jobs_do_without_pydantic_settings(base: Run, tmp_path: Path) -> None:
    """It costs 0.1 s of the half second that `jobs inspect` may take."""
    job_id = submit(base)
    code = (
        f"import sys; from ourvidz.cli import run; run(['jobs', 'inspect', {job_id!r}])\n"
        "slow = {'pydantic_settings', 'redis', 'requests', 'structlog', 'alembic', 'torch'} & set(sys.modules)\n"
        "sys.exit(str(sorted(slow)) if slow else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
