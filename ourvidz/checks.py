"""`config check`: the settings, really tried."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ourvidz.cli.face import explaining_url, sqlite_file
from ourvidz.configured_models import KINDS, Kind, configured
from ourvidz.layers import SettingsError
from ourvidz.masking import mask
from ourvidz.packages import foreign_packages
from ourvidz.settings import Settings
from ourvidz.wording import clause, size
from statemachine.errors import SchemaMismatch, StoreAway

NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs"})
LOW_BYTES: Final = 1_000_000_000
STORAGE_SECONDS: Final = 10.0
PROGRAM_SECONDS: Final = 10.0
WITHOUT: Final = {
    "sdxl_model": "no worker takes SDXL jobs",
    "sdxl_ip_adapter": "SDXL jobs with a reference are drawn over it (img2img)",
    "wan_model": "no worker takes WAN jobs",
    "wan_vace_model": "WAN jobs with references hold them in the latents",
    "qwen_model": "prompts are used as they are",
}
"""Setting → what it means not to have that model."""
LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Finding:
    """What one check found. `level` is ok, warning or wrong."""

    name: str
    level: str
    said: str
    unreachable: bool = False


def check_all(settings: Settings) -> list[Finding]:
    """Every check, in order; none of them stops the others, and none changes anything."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _packages,
        _database,
        _redis,
        lambda s: _folder("spool_dir", s.spool_dir),
        _storage,
        *(partial(_model, kind=kind) for kind in KINDS),
        _wan_script,
        _device,
        _callback,
    )
    return [check(settings) for check in checks]


def _packages(settings: Settings) -> Finding:
    mixed = foreign_packages()
    return (
        Finding("packages", "wrong", mixed) if mixed else Finding("packages", "ok", "statemachine and workers are ours")
    )


def _database(settings: Settings) -> Finding:
    name, url = "database_url", settings.database_url
    file = sqlite_file(url)
    if file is not None and not file.exists():
        folder = _folder(name, file.absolute().parent)
        said = f"no database at {file} yet: `ourvidz up` and `ourvidz db upgrade` make it"
        return folder if folder.level == "wrong" else Finding(name, "warning", said)
    from statemachine.store import open_store

    try:
        with explaining_url(url):
            store = open_store(url)
        try:
            store.check_schema()
        finally:
            store.close()
    except StoreAway as error:
        return Finding(name, "wrong", mask(str(error)), unreachable=True)
    except (SchemaMismatch, SettingsError) as error:
        return Finding(name, "wrong", mask(str(error)))
    if file is not None and (kind := _file_system(file)) in NETWORK_FILE_SYSTEMS:
        return Finding(name, "warning", f"{file} is on {kind}: SQLite's locks are not safe there, use PostgreSQL")
    one = "; for one host only" if file is not None else ""
    return Finding(name, "ok", f"{mask(url)} answers, its tables are current{one}")


def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding("redis_url", "ok", "not set: `ourvidz up` starts one of its own")
    import redis

    from workers.lists import address, connect, sentence

    try:
        client = connect(settings.redis_url, socket_timeout=5.0)
        version = str(client.info("server").get("redis_version", "?"))
        client.close()
    except redis.exceptions.RedisError as error:
        return Finding("redis_url", "wrong", sentence(error, address(settings.redis_url)), unreachable=True)
    except ValueError as error:
        return Finding("redis_url", "wrong", mask(str(error)))
    return Finding("redis_url", "ok", f"{address(settings.redis_url)} answers (version {version})")


def _storage(settings: Settings) -> Finding:
    """Asked whether it lets us in and has the buckets; nothing is written there."""
    name = "storage_url"
    if settings.storage_dir is not None:
        return _folder(name, settings.storage_dir)
    from ourvidz.wiring import job_types, storage
    from workers.errors import StageEnds, TryAgain
    from workers.presets import PRESETS
    from workers.storage import RemoteBucket

    try:
        opened = storage(settings)
        assert isinstance(opened, RemoteBucket)
        missing = opened.missing([PRESETS[each].bucket for each in job_types(settings)], seconds=STORAGE_SECONDS)
    except SettingsError as error:
        return Finding(name, "wrong", mask(str(error)))
    except StageEnds as end:
        return Finding(name, "wrong", mask(end.message), unreachable=isinstance(end, TryAgain))
    if missing:
        return Finding(name, "wrong", f"{settings.storage_url} has no bucket {', '.join(missing)}")
    parts = urlsplit(settings.supabase_url or "")
    if settings.storage_url == "supabase:" and parts.scheme == "http" and parts.hostname not in LOCAL:
        return Finding(name, "warning", "SUPABASE_URL is plain http: anyone on the way can read the service key")
    return Finding(name, "ok", f"{settings.storage_url} answers and lets us in")


def _folder(name: str, folder: Path) -> Finding:
    """Written to where it exists; where not, its nearest existing parent must allow to make it."""
    try:
        if folder.is_dir():
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"ourvidz")
        else:
            parent = next(part for part in folder.parents if part.exists())
            if folder.exists() or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                return Finding(name, "wrong", f"{folder} cannot be made: {parent} is no folder that may be written to")
            folder = parent
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(name, "wrong", f"{folder} cannot be written to: {error.strerror}")
    level = "warning" if free < LOW_BYTES else "ok"
    return Finding(name, level, f"{folder} can be written to, {size(free)} free")


def _model(settings: Settings, kind: Kind) -> Finding:
    name = kind.setting
    if settings.engine == "null":
        return Finding(name, "ok", "not needed: the null engine draws test pictures")
    model = next((each for each in configured(settings) if each.kind == kind), None)
    if model is None:
        said = f"not set: {WITHOUT[name]}"
        if name in ("sdxl_model", "wan_model") and settings.sdxl_model is None and settings.wan_model is None:
            return Finding(name, "warning", f"{said}; `ourvidz models make-tiny` builds one to try with")
        return Finding(name, "ok", said)
    from workers.models import inspect_model

    spec = inspect_model(kind.name, kind.family, model.path, original=model.original)
    if spec.problem is not None:
        return Finding(name, "wrong", spec.problem)
    if model.idle is not None:
        return Finding(name, "warning", model.idle)
    return Finding(name, "ok", f"{spec.path} ({size(spec.bytes)}) looks right")


def _wan_script(settings: Settings) -> Finding:
    """The program is there, and its interpreter really runs; what the program needs besides shows in `models check`."""
    name = "wan_script"
    if settings.engine == "null" or settings.wan_engine != "script":
        return Finding(name, "ok", f"not needed: wan_engine is {settings.wan_engine}")
    from ourvidz.wiring import wan_script

    try:
        script = wan_script(settings)
    except SettingsError as error:
        return Finding(name, "wrong", str(error))
    if script is None or not script.path.is_file():
        return Finding(name, "wrong", f"{settings.wan_script} is no file")
    asked = [str(script.python), "-c", "import sys; print(sys.version.split()[0])"]
    try:
        ran = subprocess.run(asked, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name, "wrong", f"{script.python} does not run: {error}")
    if settings.wan_model is None:
        return Finding(name, "warning", "wan_model is not set: the script has nothing to draw with")
    return Finding(name, "ok", f"{script.path}, by Python {ran.stdout.strip()} at {script.python}")


def _device(settings: Settings) -> Finding:
    seen = Path("/dev/nvidiactl").exists()
    if settings.device.startswith("cuda") and not seen:
        return Finding("device", "warning", f"{settings.device} is set, but this host shows no NVIDIA device")
    return Finding("device", "ok", f"{settings.device}; this host shows {'an' if seen else 'no'} NVIDIA device")


def _callback(settings: Settings) -> Finding:
    url = settings.callback_url
    if url is None:
        return Finding("callback_url", "ok", "not set: nobody is told of outcomes")
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in LOCAL:
        return Finding("callback_url", "warning", f"{mask(url)} is plain http: anyone on the way can read it")
    signed = "signed" if settings.callback_secret else "not signed, as callback_secret is not set"
    return Finding("callback_url", "ok", f"{clause(mask(url))}; {signed}")


def _file_system(file: Path) -> str | None:
    """The type of the file system that holds `file`, by the longest mount point; None where that cannot be told."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return None
    path = file.resolve()
    holding = [(len(Path(m[1]).parts), m[2]) for m in mounts if len(m) > 2 and path.is_relative_to(m[1])]
    return max(holding)[1] if holding else None
