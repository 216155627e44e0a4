"""Opening the database, and telling its absence from its errors."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from statemachine.errors import NotAllowed, StoreAway

BUSY_SECONDS: Final = 30.0
"""How long a SQLite writer waits for another process's transaction."""
BUSY_POLL_SECONDS: Final = 0.001
LOG_WAIT_MS: Final = 1000
"""How long the log's emptying waits for readers."""

SILENCE: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
"""A server that falls silent without a word (a cable, a failover) is given up after 25 s, not after two hours."""

_READ: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {"read_only": True},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}
_AWAY: Final = frozenset({"25006", "57P01", "57P02", "57P03", "40001", "40P01"})
"""PostgreSQL's words for: read-only after a failover, shutting down, crashed, starting up, and try that again."""
_NOT_ALLOWED: Final = "42501"


def open_engine(url: str) -> Engine:
    """Open SQLite or PostgreSQL by its SQLAlchemy URL. Raises ValueError for any other.

    SQLite: WAL, `synchronous=FULL` (a commit that was told is on the disk), every write transaction immediate.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"database_url: wanted sqlite:///FILE or postgresql://…, got {url!r}") from error
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("database_url: a SQLite database must be a file, so that a restart finds it again")
            Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(
                parsed, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, hide_parameters=True
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        case "postgresql":
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                hide_parameters=True,  # prompts are parameters; messages of errors go into logs
                pool_size=8,
                max_overflow=8,
                connect_args=driver_options(parsed),
            )
        case other:
            raise ValueError(f"database_url: wanted sqlite:///FILE or postgresql://…, got {other}://…")
    return engine


def driver_options(url: URL) -> dict[str, str | int]:
    """What PostgreSQL's driver is told besides the URL, which may say otherwise."""
    options: dict[str, str | int] = {"connect_timeout": 5, "application_name": "ourvidz", **SILENCE}
    return {name: value for name, value in options.items() if name not in url.query}


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, so that a write is immediate
    # What is replaced or removed is overwritten, prompts that a later version of the row replaced included.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("read_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    # SQLite's own waiting sleeps longer and longer, up to 100 ms, while others pass by: p99 of a commit was 240 ms.
    until = time.monotonic() + BUSY_SECONDS
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if "locked" not in str(error.orig) or time.monotonic() > until:
                    raise
                time.sleep(BUSY_POLL_SECONDS)
            else:
                return
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def forget_older_bytes(engine: Engine) -> None:
    """Empty SQLite's log, in which every page stands as it was before, too. Whoever reads on longer than that keeps it.

    PostgreSQL keeps older rows until its next VACUUM, and its log as long as it is set up to.
    """
    if engine.dialect.name != "sqlite":
        return
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {LOG_WAIT_MS}")  # everybody's writes wait with it
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    finally:
        connection.close()


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One write transaction. Raises `StoreAway` where the database is away or cut the connection."""
    with _telling_away(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One read transaction on one snapshot, in which nothing can be written. Raises `StoreAway` likewise."""
    with _telling_away(), engine.connect().execution_options(**_READ[engine.dialect.name]) as connection:
        yield connection


@contextmanager
def _telling_away() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, DisconnectionError, PoolTimeout) as error:
        if isinstance(error, OperationalError) and _is_our_mistake(error):
            raise
        raise StoreAway(_sentence(error)) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if error.connection_invalidated or state in _AWAY:
            raise StoreAway(_sentence(error)) from error
        if state == _NOT_ALLOWED:
            raise NotAllowed(f"the database refuses: {_first_line(error)}") from error
        raise


def _is_our_mistake(error: OperationalError) -> bool:
    """SQLite reports a missing table or a syntax error by the same class as a locked or vanished file."""
    text = str(error.orig)
    return text.startswith(("no such table", "no such column", "near ", "no such index"))


def _sentence(error: Exception) -> str:
    return f"the database does not answer: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    """Of what the driver says; it names host and database, never the password."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else repr(cause)
