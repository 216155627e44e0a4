"""Wake-ups: how a worker hears at once that something became claimable. Polling is the net below."""

import hashlib
import os
import secrets
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

CHANNEL = "ourvidz_work"


class WakeUps(Protocol):
    """A bell between processes. It may ring without cause, and a ring may be lost: who hears it looks for itself."""

    def notify(self) -> None:
        """Ring. Never raises: the net below catches what it misses."""

    def wait(self, seconds: float) -> bool:
        """Sleep until it rings or the time is over; True when it rang."""

    def close(self) -> None:
        """Stop listening."""


def open_wakeups(engine: Engine) -> WakeUps:
    """LISTEN/NOTIFY on PostgreSQL, datagram sockets of this host beside SQLite."""
    if engine.dialect.name == "postgresql":
        return PostgresWakeUps(engine)
    return SocketWakeUps(str(Path(str(engine.url.database)).absolute()))


class SocketWakeUps:
    """One datagram socket a listener, in a folder that follows from the database's path.

    SQLite has no NOTIFY; all its users are on one host, so a byte to each listener's socket does it in some 0.1 ms
    and costs nothing while nothing happens.
    """

    def __init__(self, database: str) -> None:
        # Not beside the database: the path of a socket may not be longer than 107 bytes.
        name = hashlib.sha256(database.encode()).hexdigest()[:16]
        self._folder = Path(tempfile.gettempdir()) / f"ourvidz-wake-{os.getuid()}-{name}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} belongs to another user")
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self._lock = threading.Lock()

    def notify(self) -> None:
        """See `WakeUps.notify`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for path in self._folder.glob("*.sock"):
                try:
                    sender.sendto(b"!", str(path))
                except BlockingIOError:
                    continue  # its ears are full: it is awake
                except (ConnectionRefusedError, FileNotFoundError):
                    path.unlink(missing_ok=True)  # its process is gone

    def wait(self, seconds: float) -> bool:
        """See `WakeUps.wait`."""
        listener = self._listener()
        listener.settimeout(max(seconds, 0.001))
        try:
            listener.recv(16)
        except TimeoutError:
            return False
        listener.setblocking(False)
        try:
            while listener.recv(16):
                continue  # many rings are one
        except BlockingIOError:
            return True
        return True

    def _listener(self) -> socket.socket:
        with self._lock:
            if self._socket is None:
                self._path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.bind(str(self._path))
            return self._socket

    def close(self) -> None:
        """See `WakeUps.close`."""
        with self._lock:
            if self._socket is not None and self._path is not None:
                self._path.unlink(missing_ok=True)
                self._socket.close()
                self._socket = None


class PostgresWakeUps:
    """LISTEN on a connection of its own, NOTIFY on any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: object | None = None

    def notify(self) -> None:
        """See `WakeUps.notify`. One for a whole group of commits."""
        try:
            with self._engine.connect() as connection:
                connection.execute(text(f"NOTIFY {CHANNEL}"))
                connection.commit()
        except DBAPIError:
            return  # the database is away; whoever waits will look for itself when it is back

    def wait(self, seconds: float) -> bool:
        """See `WakeUps.wait`."""
        import psycopg

        try:
            if self._connection is None:
                url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
                self._connection = psycopg.connect(url, autocommit=True, connect_timeout=5)
                self._connection.execute(f"LISTEN {CHANNEL}")
                return True  # what came before this is not heard: look once
            assert isinstance(self._connection, psycopg.Connection)
            return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
        except psycopg.Error:
            self.close()
            time.sleep(min(seconds, 1.0))
            return False

    def close(self) -> None:
        """See `WakeUps.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # type: ignore[attr-defined]  # psycopg's, imported only where it is used
