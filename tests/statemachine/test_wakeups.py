"""The bell rings where it can, and never breaks the work of who rings it or waits for it."""

import os
import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoneLeft

from statemachine.store.wakeups import PostgresWakeUps, SocketWakeUps


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder whose name leaves room: pytest's own may be too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="ourvidz-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def bell(base: Path) -> Iterator[SocketWakeUps]:
    """A listener, already listening."""
    one = SocketWakeUps("db", base=base)
    one.wait(0.0)
    yield one
    one.close()


def test_it_rings(base: Path, bell: SocketWakeUps) -> None:
    """Several rings are one."""
    other = SocketWakeUps("db", base=base)
    other.notify()
    other.notify()
    assert bell.wait(10.0)
    assert not bell.wait(0.0)


def test_the_last_one_leaves_nothing(base: Path, bell: SocketWakeUps) -> None:
    (folder,) = base.iterdir()
    bell.close()
    assert not folder.exists()
    assert not bell.wait(0.0)
    bell.notify()
    assert not folder.exists()


def test_closing_wakes_up_who_waits(bell: SocketWakeUps) -> None:
    waiting = threading.Thread(target=bell.wait, args=(30.0,), daemon=True)
    waiting.start()
    bell.close()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_path_too_long_for_sockets_leaves_polling(tmp_path: Path) -> None:
    base = tmp_path / ("x" * 100)
    base.mkdir()
    bell = SocketWakeUps("db", base=base)
    assert not bell.wait(0.0)
    (folder,) = base.iterdir()
    (folder / "1-aa.sock").touch()
    bell.notify()
    bell.close()


def test_somebody_elses_folder_is_not_used(base: Path, bell: SocketWakeUps) -> None:
    """Here it is a link that somebody laid; it could lead anywhere."""
    (real,) = base.iterdir()
    (base / "other").mkdir()
    (base / "other" / real.name).symlink_to(real)
    other = SocketWakeUps("db", base=base / "other")
    other.notify()
    assert not other.wait(0.0)
    assert not bell.wait(0.0)
    other.close()


def test_no_descriptor_left_is_no_error(bell: SocketWakeUps) -> None:
    """Neither for who rings, nor for who begins to listen."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    late = SocketWakeUps("other")
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        bell.notify()
        rang = late.wait(0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not rang
    late.close()


@pytest.mark.parametrize(
    "error", [NoneLeft("QueuePool limit"), OperationalError("x", {}, Exception()), OSError(24, "")]
)
def test_a_database_that_is_away_is_no_error(error: Exception) -> None:
    """Nor is a pool whose connections are all in use."""

    def refuse() -> None:
        raise error

    bell = PostgresWakeUps(create_engine("postgresql+psycopg://127.0.0.1:1/x", creator=refuse))
    bell.notify()
    assert not bell.wait(0.0)
    bell.close()
    assert not bell.wait(0.0)
