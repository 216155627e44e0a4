"""Every kind of fault: how it begins, how it ends, and by what one sees that the service has got over it."""

import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import psutil
from sqlalchemy import make_url

from tests.campaigns.chaos.proxy import FAIR, Weather
from tests.campaigns.chaos.town import LEASE_SECONDS, Database, House, Town

COMMIT: Final = re.compile(rb"COMMIT")
MOVES: Final = re.compile(rb"LMOVE|LREM|LPUSH")
POST: Final = re.compile(rb"POST ")
LIE: Final = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PAST_THE_LEASE: Final = (LEASE_SECONDS * 1.3, LEASE_SECONDS * 1.8)
"""So long a stopped worker is stopped."""

Undo = Callable[[], None]


@dataclass(frozen=True)
class Hit:
    """A fault that has begun: how it is ended, and whom it met."""

    end: Undo
    pids: tuple[int, ...] = ()


Begin = Callable[[Town, House, float], Hit | None]


@dataclass(frozen=True)
class Kind:
    """One way to break things.

    `begin` breaks it in a house, by a die from 0 to 1, or returns None where that cannot be done at the moment.
    `thing` is what is broken: two faults of one thing are never there together. The first event of the kinds `signs`
    after the fault's end shows that it is over; by `whom` it has to be: anybody, the victim, or a worker that has
    begun since. `line` is what the log says instead, where no event shows it.
    """

    name: str
    thing: str
    seconds: tuple[float, float]
    begin: Begin
    signs: tuple[str, ...]
    whom: Literal["anybody", "victim", "successor"] = "anybody"
    line: str | None = None

    @property
    def everywhere(self) -> bool:
        """All houses have this thing in common."""
        return self.thing in ("database", "valkey", "storage", "receiver")


def catalogue(database: Database, *, small_disks: bool) -> list[Kind]:
    """All kinds that can be had with that database."""
    kinds = [*_KILLS, *_STOPS, *_VALKEY, *_http("storage", "asset_uploaded"), *_http("receiver", "callback_sent")]
    kinds += _POSTGRES if database == "postgresql" else _SQLITE
    if small_disks:
        kinds.append(Kind("spool full", "disk", (2.0, 5.0), _fill, ("checkpointed", "asset_generated")))
    return kinds


def _nothing() -> None:
    """It is over when it has begun."""


def _kill(role: str) -> Begin:
    def begin(_town: Town, house: House, die: float) -> Hit | None:
        victim = house.find(role, die)
        if victim is None:
            return None
        pids = [victim.pid]
        with suppress(psutil.NoSuchProcess):
            pids += [child.pid for child in victim.children(recursive=True)]  # they die with it
            if role == "engine":
                pids.append(victim.ppid())  # its worker is met, and lives
            victim.kill()
        return Hit(_nothing, tuple(pids))

    return begin


def _stop(*, engine: bool) -> Begin:
    def begin(_town: Town, house: House, die: float) -> Hit | None:
        worker = house.find("worker", die)
        if worker is None:
            return None
        stopped = [worker]
        with suppress(psutil.NoSuchProcess):
            stopped += worker.children(recursive=True) if engine else []

        def signal_all(signum: signal.Signals) -> None:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):  # it was killed meanwhile
                    process.send_signal(signum)

        signal_all(signal.SIGSTOP)
        return Hit(lambda: signal_all(signal.SIGCONT), tuple(process.pid for process in stopped))

    return begin


def _weather(name: str, weather: Weather) -> Begin:
    def begin(town: Town, _house: House, _die: float) -> Hit | None:
        proxy = town.proxies[name]
        proxy.set(weather)
        return Hit(lambda: proxy.set(FAIR))

    return begin


def _refused_by(name: str, status: int) -> Begin:
    def begin(town: Town, house: House, die: float) -> Hit | None:
        return _weather(name, Weather(to=town.refusers[name, status]))(town, house, die)

    return begin


def _cut(name: str) -> Begin:
    def begin(town: Town, _house: House, _die: float) -> Hit | None:
        town.proxies[name].cut()
        return Hit(_nothing)

    return begin


def _restart(mode: Literal["fast", "immediate"]) -> Begin:
    def begin(town: Town, _house: House, _die: float) -> Hit | None:
        assert town.postgres is not None
        town.postgres.stop(mode)
        return Hit(town.postgres.start)

    return begin


def _kill_valkey(town: Town, _house: House, _die: float) -> Hit | None:
    town.valkey.kill()
    return Hit(town.valkey.start)


def _lock(_town: Town, house: House, _die: float) -> Hit | None:
    connection = sqlite3.connect(str(make_url(house.service.database_url).database), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return Hit(connection.close)


def _fill(town: Town, house: House, _die: float) -> Hit | None:
    disk = town.disks[house.name]
    disk.fill()
    return Hit(disk.empty)


def _http(name: str, sign: str) -> list[Kind]:
    def kind(what: str, longest: float, begin: Begin) -> Kind:
        return Kind(f"{name} {what}", name, (longest / 2, longest), begin, (sign,))

    return [
        kind("answers 500", 4.0, _refused_by(name, 500)),
        kind("answers 503, Retry-After", 4.0, _refused_by(name, 503)),
        kind("refuses connections", 4.0, _weather(name, Weather(refuse=True))),
        kind("hangs", 6.0, _weather(name, STALL)),
        kind("accepts, says 500", 4.0, _weather(name, Weather(lose=POST, instead=LIE))),
        kind("accepts, hangs up", 4.0, _weather(name, Weather(lose=POST))),
    ]


NOW: Final = (0.0, 0.0)
JOB: Final = ("job_queued",)
CLAIM: Final = ("claimed",)
ANY: Final = ("claimed", "stage_started", "callback_sent", "asset_uploaded", "media_generated", "job_queued")
LONG_STALL: Final = (2.0, LEASE_SECONDS * 1.4)
STALL: Final = Weather(stall=True)

_KILLS: Final = [
    Kind("worker killed", "worker", NOW, _kill("worker"), CLAIM, "successor"),
    Kind("engine killed", "engine", NOW, _kill("engine"), ("model_loaded",), "victim"),
    Kind("ingress killed", "ingress", NOW, _kill("ingress"), JOB),
    Kind("supervisor killed", "supervisor", NOW, _kill("supervisor"), (), line="supervisor up"),
    Kind("up killed", "up", NOW, _kill("up"), CLAIM, "successor"),
]
_STOPS: Final = [
    Kind("worker stopped, its engine not", "stop", PAST_THE_LEASE, _stop(engine=False), CLAIM, "victim"),
    Kind("worker stopped with its engine", "stop", PAST_THE_LEASE, _stop(engine=True), CLAIM, "victim"),
]
_POSTGRES: Final = [
    Kind("database restarted", "database", (0.5, 1.5), _restart("fast"), ANY),
    Kind("database crashed", "database", (0.5, 3.0), _restart("immediate"), ANY),
    Kind("database: connections cut", "database", NOW, _cut("database"), ANY),
    Kind("database stalls", "database", LONG_STALL, _weather("database", STALL), ANY),
    Kind("database: commits unanswered", "database", (1.0, 3.0), _weather("database", Weather(lose=COMMIT)), ANY),
]
_SQLITE: Final = [Kind("database locked", "file", LONG_STALL, _lock, ANY)]
_VALKEY: Final = [
    Kind("Valkey killed", "valkey", (0.3, 3.0), _kill_valkey, JOB),
    Kind("Valkey: connections cut", "valkey", NOW, _cut("valkey"), JOB),
    Kind("Valkey stalls", "valkey", (2.0, 6.0), _weather("valkey", STALL), JOB),
    Kind("Valkey: moves unanswered", "valkey", (1.0, 3.0), _weather("valkey", Weather(lose=MOVES)), JOB),
]
