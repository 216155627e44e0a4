"""All that runs: houses side by side on shared servers, with a proxy in front of each."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Literal
from urllib.parse import urlsplit

import psutil

from ourvidz.migrate import upgrade
from tests.campaigns.chaos.disk import NoDisk, SmallDisk
from tests.campaigns.chaos.proxy import Address, Proxy
from tests.campaigns.chaos.servers import Postgres, Valkey, refusing
from tests.campaigns.service import Service, SlowReceiver, Told, picture_server, told
from tests.supabase_server import KEY, OBJECTS, SupabaseServer
from workers.presets import BUCKETS
from workers.spool import sha256

LEASE_SECONDS: Final = 5
SPOOL_MEGABYTES: Final = 64
RETRY_AFTER: Final = 3
STOP_SECONDS: Final = 60.0

Database = Literal["postgresql", "sqlite"]


class House:
    """One service: an `up`, and more workers beside it. What is killed of these is started again by `keep`."""

    def __init__(self, name: str, service: Service, *, workers: int) -> None:
        self.name = name
        self.service = service
        self.workers = workers
        self._more: list[subprocess.Popen[bytes]] = []

    def keep(self) -> None:
        """Start what is not running. Call from the main thread."""
        if self.service.code() is not None or self.service.up is None:
            self.service.start()
        self._more = [worker for worker in self._more if worker.poll() is None]
        while len(self._more) < self.workers - 1:
            self._more.append(self.service.start_worker())

    def find(self, role: str, die: float) -> psutil.Process | None:
        """One of that role, by a die from 0 to 1; None while nobody has it."""
        found = sorted(self.service.processes()[role], key=lambda process: process.pid)
        return found[int(die * len(found))] if found else None

    def stop(self) -> list[str]:
        """Drain all; what is wrong with how they ended."""
        for worker in self._more:
            worker.terminate()
        self.service.signal()
        codes = [self.service.wait(STOP_SECONDS), *(worker.wait(STOP_SECONDS) for worker in self._more)]
        return [f"{self.name}: they ended with {codes}"] if any(codes) else []

    def close(self) -> None:
        """Leave nothing running."""
        for worker in self._more:
            worker.kill()
            worker.wait()
        self.service.close()


@dataclass
class Heard:
    """What came to those who refuse everything."""

    puts: list[tuple[str, str]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    def put(self, path: str, _headers: Mapping[str, str], body: bytes) -> None:
        """An upload."""
        self.puts.append((path.removeprefix(OBJECTS), sha256(body)))

    def tell(self, _path: str, headers: Mapping[str, str], body: bytes) -> None:
        """A callback."""
        self.told.append(told(headers.get("webhook-id", ""), body))


@dataclass(frozen=True, kw_only=True)
class Town:
    """The houses and their surroundings. `refusers`: ("storage" or "receiver", status) → who answers so."""

    houses: list[House]
    proxies: dict[str, Proxy]
    refusers: dict[tuple[str, int], Address]
    valkey: Valkey
    postgres: Postgres | None
    disks: dict[str, SmallDisk]
    storage: SupabaseServer
    receiver: SlowReceiver
    heard: Heard

    @property
    def told(self) -> list[Told]:
        """Every callback that came to anybody."""
        return self.receiver.heard + self.heard.told

    @property
    def puts(self) -> list[tuple[str, str]]:
        """Every upload that came to anybody: where, and the digest of what."""
        return self.storage.puts + self.heard.puts


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What is to be built: the engine, how many workers, and settings of its own."""

    name: str
    engine: str
    workers: int
    settings: Mapping[str, str]


@contextmanager
def built(folder: Path, database: Database, plots: list[Plot], dice: Random, *, slowest: float) -> Iterator[Town]:
    """A town in which nobody has been started yet."""
    with ExitStack() as stack:
        postgres = None
        if database == "postgresql":
            postgres = Postgres(folder)
            stack.callback(postgres.close)
        valkey = Valkey(folder / "valkey")
        stack.callback(valkey.kill)
        storage = stack.enter_context(SupabaseServer(*BUCKETS))
        receiver = SlowReceiver(Random(dice.random()), slowest=slowest)
        stack.enter_context(receiver)
        pictures = stack.enter_context(picture_server())
        heard = Heard()
        refusers: dict[tuple[str, int], Address] = {
            (name, status): stack.enter_context(refusing(status, headers, hear))
            for name, hear in (("storage", heard.put), ("receiver", heard.tell))
            for status, headers in ((500, {}), (503, {"Retry-After": str(RETRY_AFTER)}))
        }
        upstreams: dict[str, Address] = {
            "valkey": valkey.address,
            "storage": _address(storage.url),
            "receiver": _address(receiver.url),
            **({} if postgres is None else {"database": postgres.address}),
        }
        proxies = {name: stack.enter_context(Proxy(upstream)) for name, upstream in upstreams.items()}
        disks: dict[str, SmallDisk] = {}
        houses = []
        for number, plot in enumerate(plots):
            home = folder / plot.name
            home.mkdir()
            disk = _disk(home / "data" / "spool", stack)
            if disk is not None:
                disks[plot.name] = disk
            url = f"sqlite:///{home / 'chaos.sqlite'}" if postgres is None else postgres.create(plot.name)
            upgrade(url)
            settings = _settings(plot, {name: proxy.port for name, proxy in proxies.items()}, number)
            settings["OURVIDZ_ALLOWED_REFERENCE_HOSTS"] = ",".join(pictures.allowed)
            service = Service(
                home,
                url,
                valkey.url(number),
                settings,
                pictures=pictures.url,
                spool=None if disk is None else disk.seen,
                prefix=() if disk is None else disk.prefix,
            )
            house = House(plot.name, service, workers=plot.workers)
            stack.callback(house.close)
            houses.append(house)
        yield Town(
            houses=houses,
            proxies=proxies,
            refusers=refusers,
            valkey=valkey,
            postgres=postgres,
            disks=disks,
            storage=storage,
            receiver=receiver,
            heard=heard,
        )


def _settings(plot: Plot, ports: Mapping[str, int], number: int) -> dict[str, str]:
    """How the house `number` finds everybody: by proxies. A database without one is a file of its own."""
    settings = {
        "OURVIDZ_REDIS_URL": f"redis://127.0.0.1:{ports['valkey']}/{number}",
        "OURVIDZ_CALLBACK_URL": f"http://127.0.0.1:{ports['receiver']}/callback",
        "OURVIDZ_STORAGE_URL": "supabase:",
        "SUPABASE_URL": f"http://127.0.0.1:{ports['storage']}",
        "SUPABASE_SERVICE_KEY": KEY,
        "OURVIDZ_LEASE_SECONDS": str(LEASE_SECONDS),
        "OURVIDZ_ANCHOR_SECONDS": "1",
        "OURVIDZ_ENGINE": plot.engine,
        **plot.settings,
    }
    if "database" in ports:
        settings["OURVIDZ_DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{ports['database']}/{plot.name}"
    return settings


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def _disk(folder: Path, stack: ExitStack) -> SmallDisk | None:
    try:
        return stack.enter_context(SmallDisk(folder, megabytes=SPOOL_MEGABYTES))
    except NoDisk as why:
        print(f"no full disk in this campaign: {why}", flush=True)
        return None
