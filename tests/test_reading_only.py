"""An analyst whose database user may only read."""

import secrets
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from docs.lives import SetClock
from ourvidz.exit_codes import ExitCode
from statemachine.store import EventStore, open_store
from tests.servers import _run, database
from tests.statemachine.builders import live_through
from tests.test_cli import COMMAND, environment


@pytest.fixture
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with a job of three days ago, for a user who may read all of it and write nothing."""
    name = f"ovz_reader_{secrets.token_hex(4)}"
    with database(request, "postgresql", tmp_path) as url:
        store = open_store(url)
        clock = SetClock(store.now() - timedelta(days=3))
        live_through(EventStore(store.engine, clock=clock, wakeups=store.wakeups))
        store.close()
        _run(url, f"CREATE ROLE {name} LOGIN")
        _run(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        yield make_url(url).set(username=name).render_as_string(hide_password=False)
        _run(url, f"DROP OWNED BY {name}")
    _run(request.getfixturevalue("postgres_url"), f"DROP ROLE {name}")


def ourvidz(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, "--database-url", url, *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)


def test_reports_tell_the_same_though_nothing_can_be_rolled_up(reader: str) -> None:
    done = ourvidz(reader, "report", "throughput", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert sum(int(line.split(",")[2]) for line in done.stdout.splitlines()[1:] if line[0].isdigit()) == 1
    assert "not rolled up: the database refuses: permission denied" in done.stderr


def test_what_may_not_be_done_is_a_sentence(reader: str) -> None:
    done = ourvidz(reader, "queues", "pause", "sdxl_queue", "--reason", "to see")
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.REFUSED, 1)
    assert done.stderr.startswith("the database refuses: permission denied")
