"""Wake-ups: how a worker hears at once that something became claimable. Polling is the net below."""

import hashlib
import os
import secrets
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from statemachine.store.database import driver_options

if TYPE_CHECKING:
    import psycopg

CHANNEL: Final = "ourvidz_work"
SLEEP_SECONDS: Final = 1.0
BASE: Final = Path("/tmp")  # noqa: S108  # whose the folder in it is, is looked at
"""Where the folders of sockets are: the same for every process of the host, whatever its TMPDIR or session, and short,
since a socket's path may not be longer than 107 bytes."""


class WakeUps(Protocol):
    """A bell between processes. It may ring without cause, and a ring may be lost: who hears it looks for itself."""

    def notify(self) -> None:
        """Ring. Never raises: the net below catches what it misses."""

    def wait(self, seconds: float) -> bool:
        """Sleep until it rings or the time is over; True when it rang. Sleeps less where it can not listen."""

    def close(self) -> None:
        """Stop listening, for good."""


def open_wakeups(engine: Engine) -> WakeUps:
    """LISTEN/NOTIFY on PostgreSQL, datagram sockets of this host beside SQLite."""
    if engine.dialect.name == "postgresql":
        return PostgresWakeUps(engine)
    return SocketWakeUps(str(Path(str(engine.url.database)).absolute()))


class SocketWakeUps:
    """One datagram socket a listener, in a folder that follows from the database's path.

    SQLite has no NOTIFY; all its users are on one host, so a byte to each listener's socket does it in some 0.1 ms
    and costs nothing while nothing happens. Where there can be no socket, polling is left.
    """

    def __init__(self, database: str, *, base: Path = BASE) -> None:
        name = hashlib.sha256(database.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._folder = base / f"ourvidz-wake-{os.getuid()}-{name}"
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self._closed = False
        self._lock = threading.Lock()

    def notify(self) -> None:
        """See `WakeUps.notify`."""
        with suppress(OSError):  # no descriptor left, no folder yet, a path too long: what is lost is polled
            if not self._ours():
                return
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                for path in self._folder.glob("*.sock"):
                    self._ring(sender, path)

    def wait(self, seconds: float) -> bool:
        """See `WakeUps.wait`."""
        try:
            listener = self._listener()
        except OSError:
            return _sleep(seconds)
        try:
            listener.settimeout(max(seconds, 0.001))
            listener.recv(16)
        except TimeoutError:
            return False
        except OSError:  # closed meanwhile
            return _sleep(seconds)
        with suppress(OSError):
            listener.setblocking(False)
            while listener.recv(16):
                continue  # many rings are one
        return True

    def close(self) -> None:
        """See `WakeUps.close`. The last one of a database takes the folder along."""
        with self._lock, suppress(OSError):
            self._closed = True
            if self._socket is None or self._path is None:
                return
            listener, self._socket = self._socket, None
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes up who waits
            listener.close()
            self._path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _ring(self, sender: socket.socket, path: Path) -> None:
        try:
            sender.sendto(b"!", str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(OSError):
                path.unlink(missing_ok=True)  # its process is gone
        except OSError:
            return  # its ears are full, so it is awake; or it is not for us

    def _listener(self) -> socket.socket:
        """The socket, made where there is none. Raises OSError where there can be none."""
        with self._lock:
            if self._closed:
                raise OSError("closed")
            if self._socket is None:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                if not self._ours():
                    raise PermissionError(f"{self._folder} is not a folder of this user")
                path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                try:
                    listener.bind(str(path))
                except OSError:
                    listener.close()
                    raise
                self._socket, self._path = listener, path
            return self._socket

    def _ours(self) -> bool:
        """Anybody can make a folder, or a link, of that name before us. Raises OSError where there is none."""
        found = self._folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


class PostgresWakeUps:
    """LISTEN on a connection of its own, NOTIFY on any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection[Any] | None = None
        self._closed = False

    def notify(self) -> None:
        """See `WakeUps.notify`. One for a whole group of commits."""
        # The database may be away, or every connection of the pool in use: who waits will look for itself.
        with suppress(SQLAlchemyError, OSError), self._engine.connect() as connection:
            connection.execute(text(f"NOTIFY {CHANNEL}"))
            connection.commit()

    def wait(self, seconds: float) -> bool:
        """See `WakeUps.wait`."""
        import psycopg
        from psycopg.conninfo import make_conninfo

        if self._closed:
            return _sleep(seconds)
        try:
            connection = self._connection
            if connection is None:
                url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
                whole = make_conninfo(url, **driver_options(self._engine.url))
                connection = psycopg.connect(whole, autocommit=True)
                self._connection = connection
                connection.execute(f"LISTEN {CHANNEL}")
                return True  # what came before this is not heard: look once
            return any(True for _ in connection.notifies(timeout=seconds, stop_after=1))
        except (psycopg.Error, OSError, ValueError):  # the two others when `close` takes the connection away
            self._hang_up()
            return _sleep(seconds)

    def close(self) -> None:
        """See `WakeUps.close`."""
        self._closed = True
        self._hang_up()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _sleep(seconds: float) -> bool:
    """Instead of waiting for a bell. Not long, since there may be one soon."""
    time.sleep(max(0.0, min(seconds, SLEEP_SECONDS)))
    return False
