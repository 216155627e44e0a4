"""What the documentation says is so: its commands run, its links lead somewhere, its generated parts are fresh."""

import ast
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from docs import generate
from docs.columns import COLUMNS
from ourvidz.migrate import upgrade
from ourvidz.reference import commands
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import DeadLetter, NewJob
from statemachine.job import Job
from statemachine.store import EventStore, open_store, views
from statemachine.store.schema import metadata
from statemachine.table import diagram
from tests.fakes import FakeClock
from tests.statemachine.builders import asset, new_job
from workers.arrivals import build_payload, read
from workers.spool import sha256
from workers.storage import LocalBucket

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
USER: Final = "0b9d6a52-1c55-4a44-8d0e-5d3c3f6f7a90"
README: Final = (ROOT / "README.md").read_text("utf-8")

ELSEWHERE: Final = {
    "make demo": "runs `ourvidz demo`, which is run",
    "make test": "is what runs this",
    'make test PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"': "needs a network",
    "ourvidz worker --device cuda:1": "needs a GPU, and never ends",
    "ourvidz supervisor": "never ends",
    "OURVIDZ_REDIS_URL=redis://redis.internal:6379/0 ourvidz ingress": "never ends, and needs a Redis",
    "ourvidz config check && ourvidz up": "never ends; each half is run",
    "OURVIDZ_SDXL_MODEL=/models/sdxl.safetensors ourvidz up": "never ends; the dialogue runs it",
    'ourvidz jobs submit --type sdxl_image_fast --prompt "a heron at dawn" --num-images 3 --wait': "the dialogue",
}
"""Lines that are shown and not run here, and why."""


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def environment(**more: str) -> dict[str, str]:
    """A shell in which this project is installed and nothing is set."""
    names = ("PATH", "HOME", "LANG", "TMPDIR")
    plain = {name: os.environ[name] for name in names if name in os.environ}
    return {**plain, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{plain.get('PATH', '')}", **more}


def run(script: str, folder: Path, **more: str) -> str:
    """Run it in bash and return what it printed. An exit code other than 0 fails the test with both streams."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def asked(job_id: str) -> NewJob:
    """A job as its payload makes it."""
    payload = build_payload("sdxl_image_fast", "a heron at dawn", job_id=job_id, user_id=USER)
    new = read(
        json.dumps(payload).encode(), queue="sdxl_queue", source="redis", now=datetime.now(UTC), draw_seed=lambda: 7
    )
    assert isinstance(new, NewJob)
    return new


def live_through(store: EventStore, job_id: str, storage: Path) -> None:
    """A job from the queue to its end, as a worker would write it, with its picture."""
    store.admit([asked(job_id)])
    job = store.load(job_id)

    def write(*events: e.Event) -> Job:
        return store.append(job, list(events), worker_id="w1")

    key, picture = f"{USER}/{job_id}_0.png", b"a picture"
    LocalBucket(storage).put("sdxl_image_fast", key, picture, content_type="image/png", seconds=60)
    made = replace(asset(), digest=sha256(picture), bytes=len(picture))
    job = write(*decisions.claim(job, worker="w1", host="h", device="cpu"))
    job = write(*decisions.start(job, device="cpu"))
    job = write(made, e.MediaGenerated(device_seconds=1.5, engine="null"))
    job = write(*decisions.start(job))
    uploaded = e.AssetUploaded(index=0, bucket="sdxl_image_fast", key=key, digest=made.digest, bytes=made.bytes)
    job = write(uploaded, e.MediaUploaded())
    job = write(*decisions.start(job))
    write(*decisions.finish(job, now=store.now(), notified=False))


def fail(store: EventStore, job_id: str) -> None:
    """A job that ends as failed."""
    store.admit([asked(job_id)])
    job = store.load(job_id)
    job = store.append(job, decisions.claim(job, worker="w1", host="h", device="cpu"))
    job = store.append(
        job, decisions.give_up(job, error_class="permanent", error_type="Broken", message="m", now=store.now())
    )
    store.append(job, decisions.finish(job, now=store.now(), notified=False))


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded defaults and with what the examples name: jobs of several fates, dead letter 12."""
    folder = tmp_path_factory.mktemp("seeded")
    url = f"sqlite:///{folder}/ourvidz-data/ourvidz.sqlite"
    (folder / "ourvidz-data").mkdir()
    upgrade(url)
    store = open_store(url, clock=FakeClock(datetime.now(UTC) - timedelta(days=100)))
    storage = folder / "ourvidz-data" / "storage"
    live_through(store, "1d0c5e11-5c1d-4e6f-8a90-1b2c3d4e5f60", storage)  # goes into archives/, below
    store.close()
    store = open_store(url)
    for start in ("7f3a2b10", "90bc77aa"):
        live_through(store, f"{start}-5c1d-4e6f-8a90-1b2c3d4e5f60", storage)
    store.admit([asked("c41d0e7b-5c1d-4e6f-8a90-1b2c3d4e5f60")])
    for start in ("e5f0a1b2", "b8d2c3e4"):
        fail(store, f"{start}-5c1d-4e6f-8a90-1b2c3d4e5f60")
    good = json.dumps(build_payload("sdxl_image_fast", "a heron")).encode()
    for raw in [*(b"no payload %d" % number for number in range(11)), good]:
        store.admit([DeadLetter(raw=raw, reason="not JSON", queue="sdxl_queue", source="redis")])
    store.close()
    payload = build_payload("sdxl_image_fast", "a heron at dawn")
    (folder / "payload.json").write_text(json.dumps(payload), "utf-8")
    run("ourvidz history archive --to archives --older-than 90d", folder)
    return folder


SHELL: Final = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    if page.name != "README.md"
    for number, block in enumerate(blocks(page.read_text("utf-8"), "sh"), start=1)
]


@pytest.mark.parametrize("block", SHELL)
def test_commands_in_docs_run(seeded: Path, block: str) -> None:
    lines = [line for line in block.splitlines() if line.strip() not in ELSEWHERE]
    if shutil.which("jq") is None:
        lines = [line.partition(" | jq")[0] for line in lines]
    if lines:
        run("\n".join(lines), seeded)


@pytest.mark.parametrize("program", blocks((ROOT / "docs" / "retention.md").read_text("utf-8"), "python"))
def test_programs_on_the_page_of_retention_read_archives(seeded: Path, program: str) -> None:
    run("ourvidz history views archives > archives.sql", seeded)
    (seeded / "read.py").write_text(program, "utf-8")
    assert run("python read.py", seeded)


def test_commands_that_are_not_run_are_really_shown() -> None:
    shown = {
        line.strip() for page in PAGES for block in blocks(page.read_text("utf-8"), "sh") for line in block.splitlines()
    }
    assert set(ELSEWHERE) <= shown


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Path]:
    """The folder of the dialogue, the service of its first terminal running in it."""
    _, _, first, *_ = blocks(README, "sh")
    assert first.strip().endswith("\nourvidz up")
    log = (tmp_path / "up.log").open("wb")
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", first.strip().replace("\nourvidz up", "\nexec ourvidz up")],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    url = tmp_path / "ourvidz-data" / "valkey" / "url"
    until = time.monotonic() + 120
    while not url.exists() or b'"ingress up"' not in (tmp_path / "up.log").read_bytes():
        assert process.poll() is None, (tmp_path / "up.log").read_text()
        assert time.monotonic() < until, (tmp_path / "up.log").read_text()
        time.sleep(0.05)
    yield tmp_path
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
        log.close()


def test_the_dialogue_of_the_readme_is_one(up: Path) -> None:
    """Pasted as it stands, on the real engine: pictures lie where it says."""
    _, _, _, ask, look, answer = blocks(README, "sh")
    (push,) = blocks(README, "python")
    assert "completed 3 made" in run(ask, up)
    subprocess.run([sys.executable, "-c", push], cwd=up, env=environment(), check=True, timeout=60)
    watch, rest = look.split("\n", 1)
    # The list is read in some milliseconds; a slow machine may need more than the start of a command.
    run(f"for i in 1 2 3 4 5 6 7 8 9; do ourvidz jobs list | grep -q 7f3a && break; sleep 0.2; done; {watch}", up)
    said = run(rest, up)
    assert said.startswith("Completed")
    assert said.strip().splitlines()[-1] == "7f3a2b10-5c1d-4e6f-8a90-1b2c3d4e5f60_0.png"
    assert run(answer, up).startswith("It did what was asked.")
    assert "data:image/png;base64," in (up / "lighthouse.html").read_text("utf-8")
    assert (up / "throughput.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_parts_are_fresh(name: str) -> None:
    """`python -m docs.generate` mends it."""
    text = (ROOT / name).read_text("utf-8")
    assert generate.fill(text) == text


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md"])
def test_the_state_diagram_is_that_of_the_table(name: str) -> None:
    assert blocks((ROOT / name).read_text("utf-8"), "mermaid") == [diagram() + "\n"]


def test_every_column_is_explained_and_no_other() -> None:
    known = {**metadata.tables, **views.declared.tables}
    declared = {name: [column.name for column in table.columns] for name, table in known.items()}
    assert {name: list(columns) for name, columns in COLUMNS.items()} == declared


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).is_file(), f"{page.name} links to {target}"


def test_files_that_docs_name_are_there() -> None:
    for page in PAGES:
        for name in re.findall(
            r"`((?:ourvidz|workers|statemachine|migrations|tests|docs)/[\w/.]*)`", page.read_text("utf-8")
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_tests_that_docs_name_are_there() -> None:
    known: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        known |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for page in PAGES:
        named = set(re.findall(r"`(test_\w+)`", page.read_text("utf-8")))
        assert named <= known, f"{page.name} names {named - known}"


def test_every_command_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for path, _, _ in commands():
        assert f"`{path}" in text, f"docs/cli.md does not tell of {path}"


class TestEvents:
    """The promises of docs/events.md, kept to the letter."""

    PAGE: Final = (ROOT / "docs" / "events.md").read_text("utf-8")

    def copy(self, seeded: Path, tmp_path: Path) -> Path:
        """A database of one's own, with text in it that is not easy to write down."""
        path = tmp_path / "ourvidz.sqlite"
        with sqlite3.connect(seeded / "ourvidz-data" / "ourvidz.sqlite") as source, sqlite3.connect(path) as target:
            source.backup(target)
        store = open_store(f"sqlite:///{path}")
        store.admit([new_job(disagreements=['"\\ \0\x1f\x7f\u2028 é 日本 🦩\n'])])
        store.close()
        return path

    def verify(self, path: Path) -> subprocess.CompletedProcess[str]:
        """Run the page's own program, which imports nothing of ours."""
        (program,) = blocks(self.PAGE, "python")
        return subprocess.run(
            [sys.executable, "-I", "-c", program, str(path)], capture_output=True, text=True, check=False, timeout=60
        )

    def test_the_program_on_the_page_verifies_a_history(self, seeded: Path, tmp_path: Path) -> None:
        done = self.verify(self.copy(seeded, tmp_path))
        assert (done.returncode, done.stdout) == (0, "all chains verify\n"), done.stderr

    @pytest.mark.parametrize(
        "tampering",
        [
            "UPDATE job_events SET data = replace(data, '7', '8') WHERE kind = 'asset_generated'",
            "UPDATE job_events SET at = replace(at, ':', ';') WHERE version = 3",
            "UPDATE job_events SET worker_id = NULL WHERE version = 2",
            "DELETE FROM job_events WHERE version = 2",
        ],
    )
    def test_the_program_on_the_page_notices_a_change(self, seeded: Path, tmp_path: Path, tampering: str) -> None:
        path = self.copy(seeded, tmp_path)
        with sqlite3.connect(path) as connection:
            for trigger in ("no_update", "no_delete"):
                connection.execute(f"DROP TRIGGER job_events_{trigger}")
            assert connection.execute(tampering).rowcount > 0
        assert "does not verify" in self.verify(path).stderr

    def test_the_query_on_the_page_is_one(self, seeded: Path, tmp_path: Path) -> None:
        (query,) = blocks(self.PAGE, "sql")
        with sqlite3.connect(self.copy(seeded, tmp_path)) as connection:
            kinds = [row[2] for row in connection.execute(query)]
        assert (kinds[0], kinds[-1]) == ("job_queued", "job_completed")


def test_the_wheel_holds_every_module_and_the_migrations(tmp_path: Path) -> None:
    """`ourvidz db upgrade` works where only the wheel is installed."""
    copied = shutil.copytree(ROOT, tmp_path / "tree", ignore=shutil.ignore_patterns(".*", "*.egg-info", "demo-output"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"
    subprocess.run([sys.executable, "-c", build], cwd=copied, capture_output=True, check=True, timeout=120)
    (wheel,) = (copied / "out").glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(file.relative_to(copied))
        for top in ("ourvidz", "workers", "statemachine")
        for file in (copied / top).rglob("*.py")
    }
    wanted |= {f"ourvidz/{file.relative_to(copied)}" for file in (copied / "migrations").rglob("*.py")}
    assert "ourvidz/migrations/versions/v0002_completion_statistics.py" in wanted
    assert wanted <= held, sorted(wanted - held)


PRIVATE: Final = re.compile(
    r"(?<![\w.:/])/(?:home|root|work|Users)/|\bissue #?\d|\b(?:this|last|next|previous) session\b", re.I
)


def test_the_repository_does_not_speak_of_where_it_was_made() -> None:
    """No paths of somebody's machine, no numbers of somebody's tickets."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            found = PRIVATE.search((ROOT / name).read_text("utf-8", errors="replace"))
            assert found is None, f"{name}: {found and found[0]}"


def test_every_installed_dependency_is_imported_and_explained() -> None:
    """A dependency that nobody imports, and a reason for one that is gone, are both noticed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    always = [re.split(r"[><=\[]", line)[0] for line in project["dependencies"]]
    extras = [
        re.split(r"[><=\[]", line)[0]
        for name, lines in project["optional-dependencies"].items()
        if name != "dev"
        for line in lines
    ]
    imported: set[str] = set()
    for top in ("ourvidz", "workers", "statemachine", "migrations"):
        for file in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported.add(node.module.partition(".")[0])
    why = (ROOT / "docs" / "why.md").read_text("utf-8")
    for name in always + extras:
        module = {"Pillow": "PIL", "SQLAlchemy": "sqlalchemy", "pydantic-settings": "pydantic_settings"}.get(name, name)
        assert module in imported or name == "accelerate", f"{name} is required and not imported"
        assert re.search(rf"^\|.*\b{re.escape(name)}\b", why, re.MULTILINE), f"docs/why.md says nothing of {name}"
