"""The one module that wires real things together."""

import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from ourvidz._version import __version__
from ourvidz.layers import SettingsError
from ourvidz.processes.lifelines import Stop
from ourvidz.settings import Settings
from statemachine.anchor import Key, keys_of
from statemachine.store import EventStore, open_store
from workers import policy
from workers.anchoring import Anchoring
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig, WanScript
from workers.ingress import Ingress, new_name
from workers.lists import RedisLists
from workers.metrics import HttpMetrics
from workers.ports import Bucket
from workers.presets import LUSTIFY, PRESETS, QUEUES, WAN_1_3B
from workers.receiver import HttpReceiver
from workers.references.pictures import PrivateBuckets, WebReferences
from workers.rolling import Rolling
from workers.spool import DiskSpool, named
from workers.stages import HANDLERS
from workers.storage import open_storage
from workers.supervisor import Supervisor
from workers.tools import StageSettings
from workers.worker import Identity, Ports, Worker

_NOBODY: Final = "http://localhost/"
_DTYPES: Final[dict[str, Literal["fp16", "fp32"] | None]] = {"auto": None, "float16": "fp16", "float32": "fp32"}


class HostClock:
    """The store's time, and this host's monotonic seconds."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def now(self) -> datetime:
        """See `workers.ports.Clock`."""
        return self._store.now()

    def monotonic(self) -> float:
        """See `workers.ports.Clock`."""
        return time.monotonic()


def checked_store(settings: Settings) -> EventStore:
    """The event store, its tables being of this program's version. Raises SchemaMismatch, StoreAway."""
    store = open_store(settings.database_url)
    store.check_schema()
    return store


def devices(settings: Settings) -> list[str]:
    """The devices of this host that `settings.device` means: one worker for each."""
    if settings.device != "auto":
        return [settings.device]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ["cpu"]
    count = sum(line.startswith("GPU ") for line in listed.splitlines())
    return [f"cuda:{index}" for index in range(count)] or ["cpu"]


def models(settings: Settings) -> dict[str, Path]:
    """Model variant → where its weights are, for what is configured."""
    places = {LUSTIFY: settings.sdxl_model, WAN_1_3B: settings.wan_model}
    return {name: place for name, place in places.items() if place is not None}


def wan_script(settings: Settings) -> WanScript | None:
    """How WAN's original code is run, where that is chosen. Raises SettingsError when it cannot be."""
    if settings.wan_engine != "script":
        return None
    if settings.wan_script is None:
        raise SettingsError("wan_engine is script: wanted OURVIDZ_WAN_SCRIPT, the path of wan_generate.py, got nothing")
    python = shutil.which(settings.wan_python or sys.executable)
    if python is None:
        raise SettingsError(f"wan_python ({settings.source('wan_python')}): {settings.wan_python} is no program here")
    return WanScript(
        path=settings.wan_script,
        python=Path(python),
        references=settings.wan_script_references,
        seconds=settings.wan_script_seconds,
    )


def job_types(settings: Settings) -> list[str]:
    """The job types that a worker with these settings can make. The null engine makes all, and says so in each."""
    if settings.engine == "null":
        return list(PRESETS)
    return [name for name, preset in PRESETS.items() if preset.model in models(settings)]


def engine_config(settings: Settings, device: str) -> EngineConfig:
    """What an engine process of one device is started with."""
    lock_dir = settings.data_dir / "locks"
    lock_dir.mkdir(parents=True, exist_ok=True)
    return EngineConfig(
        engine=settings.engine,
        device=device,
        lock_dir=lock_dir,
        models=models(settings),
        wan_vace=settings.wan_vace_model,
        wan_script=wan_script(settings),
        sdxl_ip_adapter=settings.sdxl_ip_adapter,
        qwen=settings.qwen_model,
        memory_bytes=None if settings.device_memory_gb is None else int(settings.device_memory_gb * 1024**3),
        dtype=_DTYPES[settings.dtype],
        embed_prompt=settings.embed_prompt,
        step_seconds=settings.null_step_seconds,
    )


def engine(settings: Settings, device: str) -> EngineProcess:
    """The engine process of one device; it starts when it is first needed."""
    return EngineProcess(engine_config(settings, device))


def storage(settings: Settings) -> Bucket:
    """Where pictures go. Raises SettingsError when that cannot even be tried."""
    key = settings.supabase_service_key
    try:
        return open_storage(
            settings.storage_url,
            supabase_url=settings.supabase_url,
            supabase_key=None if key is None else key.get_secret_value(),
        )
    except ValueError as error:
        raise SettingsError(f"storage_url ({settings.source('storage_url')}): {error}") from error


def receiver(settings: Settings) -> HttpReceiver:
    """Who is told. Without a configured address the stages never ask it.

    The service key opens a whole Supabase project: where that has an address, no other host is given the key.
    """
    key, secret = settings.supabase_service_key, settings.callback_secret
    if settings.supabase_url is not None and _origin(settings.supabase_url) != _origin(
        settings.callback_url or _NOBODY
    ):
        key = None
    return HttpReceiver(
        settings.callback_url or _NOBODY,
        bearer=None if key is None else key.get_secret_value(),
        secret=None if secret is None else secret.get_secret_value(),
    )


def references(settings: Settings) -> WebReferences:
    """Where reference pictures come from. Raises SettingsError when a private one could not even be asked for."""
    url, key = settings.supabase_url, settings.supabase_service_key
    try:
        private = None if url is None or key is None else PrivateBuckets(url, key.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"supabase_url ({settings.source('supabase_url')}): {error}") from error
    return WebReferences(allowed=settings.reference_hosts, private=private)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def metrics(settings: Settings) -> HttpMetrics | None:
    """Who counts generations, if anybody does."""
    return None if settings.metrics_url is None else HttpMetrics(settings.metrics_url)


def worker(
    settings: Settings,
    store: EventStore,
    own_engine: EngineProcess,
    device: str,
    stop: Stop,
    counting: HttpMetrics | None = None,
) -> Worker:
    """One worker on one device. What it counts is told by whoever calls `counting.tick`."""
    host = socket.gethostname() or platform.node()
    identity = Identity(
        worker_id=f"{host}-{device}-{os.getpid()}-{secrets.token_hex(2)}",
        host=host,
        spool=named(settings.spool_dir, host),
        pid=os.getpid(),
        device=device,
        job_types=job_types(settings),
        models={name: str(path) for name, path in models(settings).items()},
        version=__version__,
        lease_seconds=settings.lease_seconds,
        spool_grace_seconds=settings.spool_grace_seconds,
    )
    ports = Ports(
        clock=HostClock(store),
        spool=DiskSpool(settings.spool_dir),
        bucket=storage(settings),
        receiver=receiver(settings),
        references=references(settings),
        engine=own_engine,
        metrics=counting,
    )
    stage_settings = StageSettings(
        callback_configured=settings.callback_url is not None,
        asset_urls=settings.asset_urls,
        signed_url_seconds=settings.signed_url_seconds,
        on_missing_reference=settings.on_missing_reference,
        reference_fit=settings.reference_fit,
        enhance_seconds=settings.enhance_seconds,
        enhance_tokens=settings.enhance_tokens,
        embed_prompt=settings.embed_prompt,
        checkpoint_seconds=settings.checkpoint_seconds,
    )
    return Worker(
        identity,
        store,
        ports,
        HANDLERS,
        stage_settings,
        pause=stop.pause,
        engine_up=lambda: own_engine.up,
        resident=lambda: own_engine.resident,
        affinity_seconds=settings.affinity_seconds,
        policy=policy.load(),
    )


def ingresses(settings: Settings, store: EventStore) -> list[Ingress]:
    """One way in for each list."""
    if settings.redis_url is None:
        raise ValueError("redis_url is not set: there is no list to take jobs from")
    return [
        Ingress(RedisLists(settings.redis_url, queue, new_name()), store, max_bytes=settings.max_payload_bytes)
        for queue in QUEUES
    ]


def supervisor(settings: Settings, store: EventStore) -> Supervisor:
    """A supervisor of this host."""
    return Supervisor(store, HostClock(store), name=_supervisor_name(), lease_seconds=settings.lease_seconds)


def anchoring(settings: Settings, store: EventStore) -> Anchoring:
    """What a supervisor of this host anchors with."""
    seconds, keys = settings.anchor_seconds, anchor_keys(settings)
    return Anchoring(store, HostClock(store), name=_supervisor_name(), seconds=seconds, keys=keys)


def rolling(store: EventStore) -> Rolling:
    """What a supervisor rolls days up with."""
    return Rolling(store, HostClock(store))


def anchor_keys(settings: Settings) -> list[Key]:
    """The keys of the anchors: the one that makes them, then those that are believed."""
    return [] if settings.anchor_key is None else keys_of(settings.anchor_key.get_secret_value())


def _supervisor_name() -> str:
    return f"supervisor-{socket.gethostname()}-{os.getpid()}"
