"""Where settings come from: flag, environment, file, derived, default, in that order of precedence.

Standard library only: commands that need nothing but the database's address start without pydantic, which costs
0.15 s of the half second that `jobs inspect` may take.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

PREFIX: Final = "OURVIDZ_"
SPOOL_GRACE_SECONDS: Final = 30.0
"""What `spool_grace_seconds` is where nothing is set."""
CONFIG: Final = "OURVIDZ_CONFIG"
FILE_NAME: Final = "ourvidz.toml"

FOREIGN: Final[Mapping[str, str]] = {
    "supabase_url": "SUPABASE_URL",
    "supabase_service_key": "SUPABASE_SERVICE_KEY",
    "upstash_redis_rest_url": "UPSTASH_REDIS_REST_URL",
    "upstash_redis_rest_token": "UPSTASH_REDIS_REST_TOKEN",
}
"""Settings that keep the variable names of the service this one replaces."""

NAMES: Final = (
    "database_url",
    "data_dir",
    "redis_url",
    "storage_url",
    "callback_url",
    "callback_secret",
    "spool_dir",
    "sdxl_model",
    "sdxl_ip_adapter",
    "wan_model",
    "wan_vace_model",
    "wan_engine",
    "wan_script",
    "wan_python",
    "wan_script_references",
    "wan_script_seconds",
    "qwen_model",
    "enhance_seconds",
    "enhance_tokens",
    "device",
    "device_memory_gb",
    "affinity_seconds",
    "dtype",
    "engine",
    "null_step_seconds",
    "lease_seconds",
    "spool_grace_seconds",
    "checkpoint_seconds",
    "anchor_key",
    "anchor_seconds",
    "drain_seconds",
    "retention",
    "allowed_reference_hosts",
    "on_missing_reference",
    "reference_fit",
    "asset_urls",
    "signed_url_seconds",
    "metrics_url",
    "embed_prompt",
    "max_payload_bytes",
    "health_address",
    "log_format",
    "log_level",
    *FOREIGN,
)
"""Every setting, in the order in which they are shown."""

SECRETS: Final = frozenset({"anchor_key", "callback_secret", "supabase_service_key", "upstash_redis_rest_token"})
"""Shown as stars, never logged."""

WITH_PASSWORD: Final = frozenset({"database_url", "redis_url"})
"""Addresses that may hold a password."""

FROM_FILES: Final = SECRETS | WITH_PASSWORD
"""What `<VARIABLE>_FILE=path` can give as well."""

PATHS: Final = frozenset(
    {
        "data_dir",
        "spool_dir",
        "sdxl_model",
        "sdxl_ip_adapter",
        "wan_model",
        "wan_vace_model",
        "wan_script",
        "qwen_model",
    }
)
"""In the file these are relative to the file's own folder."""


class SettingsError(Exception):
    """Settings that cannot be used; `sentences` holds one for each: wanted, got, allowed."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True)
class Found:
    """A value as it was written, and where."""

    value: Any
    source: str


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return FOREIGN.get(name) or PREFIX + name.upper()


VARIABLES: Final[Mapping[str, str]] = {variable(name): name for name in NAMES}
"""Environment variable → setting."""


def gather(
    flags: Mapping[str, Any] | None = None, *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> dict[str, Found]:
    """What was set, each name with the value that wins and its source. Defaults are not in it.

    Raises SettingsError for unknown names, an unreadable file and a setting that is given twice in one layer.
    """
    environ = os.environ if environ is None else environ
    found = _file(config, environ) | _environment(environ)
    for name, value in (flags or {}).items():
        if name not in NAMES:
            raise SettingsError(f"--set {name}: no such setting{nearest(name, NAMES)}")
        found[name] = Found(value, "flag")
    return _derived(found) | found


def database_url(found: Mapping[str, Found]) -> str:
    """The database's address alone, for commands that need no other setting."""
    if "database_url" in found:
        return str(found["database_url"].value)
    data_dir = found["data_dir"].value if "data_dir" in found else "ourvidz-data"
    return default_database_url(Path(data_dir))


def spool_grace(found: Mapping[str, Found]) -> float:
    """How long a job is left to the host that has its files. Raises SettingsError."""
    if "spool_grace_seconds" not in found:
        return SPOOL_GRACE_SECONDS
    given = found["spool_grace_seconds"]
    try:
        return float(given.value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"spool_grace_seconds ({given.source}): wanted a number, got {given.value!r}") from error


def default_database_url(data_dir: Path) -> str:
    """SQLite in the data folder."""
    return f"sqlite:///{data_dir.expanduser().absolute() / 'ourvidz.sqlite'}"


def nearest(name: str, known: "tuple[str, ...] | list[str]") -> str:
    """`; did you mean …?`, or nothing when no known name is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else "; `ourvidz config show` lists what there is"


def _environment(environ: Mapping[str, str]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    wrong: list[str] = []
    file_variables = {variable(name) + "_FILE": name for name in FROM_FILES}
    for key, value in environ.items():
        if not value:
            continue  # set to nothing means not set, as in compose files with ${NAME:-}
        if key in VARIABLES:
            if environ.get(f"{key}_FILE") and VARIABLES[key] in FROM_FILES:
                wrong.append(f"{key} and {key}_FILE are both set: keep one of them")
            found[VARIABLES[key]] = Found(value, f"environment {key}")
        elif key in file_variables:
            try:
                text = Path(value).expanduser().read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                wrong.append(f"{key}: wanted a readable file with the secret in it, got {value} ({_why(error)})")
                continue
            found.setdefault(file_variables[key], Found(text, f"file {value}, named by {key}"))
        elif key.startswith(PREFIX) and key != CONFIG and not key.startswith("OURVIDZ_TEST_"):
            wrong.append(f"{key}: no such setting{nearest(key, [*VARIABLES, *file_variables])}")
    if wrong:
        raise SettingsError(*sorted(wrong))
    return found


def _file(config: Path | None, environ: Mapping[str, str]) -> dict[str, Found]:
    named = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    path = (named or Path(FILE_NAME)).expanduser()
    if named is None and not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: wanted a readable settings file ({_why(error)})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: wanted TOML ({error})") from error
    unknown = [f"{path}: {key}: no such setting{nearest(key, NAMES)}" for key in table if key not in NAMES]
    if unknown:
        raise SettingsError(*unknown)
    base = path.absolute().parent
    return {
        name: Found(
            str(base / Path(value).expanduser()) if name in PATHS and isinstance(value, str) else value,
            f"file {path}",
        )
        for name, value in table.items()
    }


def _derived(found: Mapping[str, Found]) -> dict[str, Found]:
    """What follows from the names of the replaced service. The database never does: it is another one."""
    derived: dict[str, Found] = {}
    if "supabase_url" in found:
        base = str(found["supabase_url"].value).rstrip("/")
        derived["callback_url"] = Found(f"{base}/functions/v1/job-callback", "derived from SUPABASE_URL")
    if "upstash_redis_rest_url" in found and "upstash_redis_rest_token" in found:
        given = str(found["upstash_redis_rest_url"].value)
        host = urlsplit(given if "://" in given else f"https://{given}").hostname
        if host:
            token = quote(str(found["upstash_redis_rest_token"].value), safe="")
            source = "derived from UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN"
            derived["redis_url"] = Found(f"rediss://default:{token}@{host}:6379", source)
    return derived


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8"
