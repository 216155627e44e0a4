"""The settings of the service, checked by pydantic-settings. Every value knows where it came from.

`load()` reads the world (flags, environment, file); `Settings(...)` reads nothing and is what tests make.
Importing this costs 0.2 s: commands that only need the database's address ask `layers` instead.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ourvidz import layers
from ourvidz.layers import Found, SettingsError
from ourvidz.masking import STARS, mask


def _setting(default: Any, about: str, wanted: str, **constraints: Any) -> Any:
    """A field that says what it is for and what it allows."""
    return Field(default, description=about, json_schema_extra={"wanted": wanted}, **constraints)


def _folder(path: Path) -> Path:
    return path.expanduser().absolute()


def _http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) URL with a host")
    return url


def _redis(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix") or not (parts.hostname or parts.path):
        raise ValueError("not a Redis URL")
    return url


def _database(url: str) -> str:
    if not re.match(r"(sqlite|postgresql)(\+[a-z0-9_]+)?://", url):
        raise ValueError("not a database URL")
    return url


def _storage(url: str) -> str:
    if url.startswith("s3:"):
        from workers.storage import split_s3

        split_s3(url)
    elif url != "supabase:" and not url.startswith("file:///"):
        raise ValueError("not a storage URL")
    return url


def _hosts(hosts: str) -> str:
    from workers.references.urls import parse  # as references' own URLs are read, or an entry would match none

    entries = [part.strip() for part in hosts.split(",") if part.strip()]
    if not all(re.fullmatch(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]+):[0-9]+", entry) for entry in entries):
        raise ValueError("not host:port")
    return ",".join(parse(f"http://{entry}").host_port for entry in entries)


def _address(address: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+):[0-9]{1,5}", address) or not port_of(address) < 65_536:
        raise ValueError("not host:port")
    return address


def port_of(address: str) -> int:
    """The port of host:port."""
    return int(address.rpartition(":")[2])


def _device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError("not a device")
    return device


def _keys(keys: SecretStr) -> SecretStr:
    words = keys.get_secret_value().split()
    if not words or any(len(word) < 16 for word in words):
        raise ValueError("too short to be a secret")
    return keys


def _retention(ages: str) -> str:
    from ourvidz.archive.ages import parse

    parse(ages)
    return ages


Folder = Annotated[Path, AfterValidator(_folder)]
HttpUrl = Annotated[str, AfterValidator(_http)]
_DATABASES = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"


class Settings(BaseSettings):
    """All settings, valid and complete. Frozen; secrets are `SecretStr`."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    database_url: Annotated[str, AfterValidator(_database)] = _setting(
        "", "Where the history lives. SQLite serves one host, PostgreSQL many.", _DATABASES, validate_default=False
    )
    data_dir: Folder = _setting(Path("ourvidz-data"), "Holds whatever has no place of its own.", "a folder")
    redis_url: Annotated[str, AfterValidator(_redis)] | None = _setting(
        None,
        "Where producers push jobs.",
        "redis://HOST:PORT or rediss://…",
    )
    storage_url: Annotated[str, AfterValidator(_storage)] = _setting(
        "",
        "Where pictures go, as {bucket}/{user_id}/{file}.",
        "file:///FOLDER, supabase: or s3://BUCKET[/PREFIX]",
        validate_default=False,
    )
    callback_url: HttpUrl | None = _setting(
        None, "Who is told of every outcome. Without it, nobody is.", "an http:// or https:// address"
    )
    callback_secret: SecretStr | None = _setting(
        None, "Signs callbacks as Standard Webhooks do.", "a secret, best as whsec_ and base64"
    )
    spool_dir: Folder = _setting(
        Path(), "Files of jobs in work. Must be a disk of this host.", "a folder", validate_default=False
    )
    sdxl_model: Folder | None = _setting(None, "The SDXL model.", "a .safetensors file or a diffusers folder")
    sdxl_ip_adapter: Folder | None = _setting(
        None,
        "Draws SDXL jobs with references. Without it they are drawn over the reference (img2img).",
        "a folder with an IP-Adapter's .safetensors file and its image_encoder folder",
    )
    wan_model: Folder | None = _setting(
        None,
        "The WAN text-to-video model.",
        "a diffusers folder; with wan_engine script a folder in the original format",
    )
    wan_vace_model: Folder | None = _setting(
        None,
        "Draws WAN jobs with references. Without it their frames are held in the latents.",
        "a diffusers folder of WAN VACE",
    )
    wan_engine: Literal["diffusers", "script"] = _setting(
        "diffusers", "script runs WAN's original code as a program for each job.", "diffusers or script"
    )
    wan_script: Folder | None = _setting(None, "That program.", "a Python file that takes wan_generate.py's options")
    wan_python: str | None = _setting(None, "Its interpreter. Not set, the worker's own.", "a path or a name on PATH")
    wan_script_references: bool = _setting(
        False, "Whether it honours --image, --first_frame and --last_frame. Upstream's does not.", "true or false"
    )
    wan_script_seconds: float = _setting(
        3600.0, "Its time limit for a job.", "a number from 1 to 14000", ge=1, le=14_000, allow_inf_nan=False
    )
    qwen_model: Folder | None = _setting(
        None, "Enhances prompts. Without it they are used as they are.", "a transformers folder of Qwen2.5"
    )
    enhance_seconds: float = _setting(
        60.0, "What an enhancement may take.", "a number from 1 to 300", ge=1, le=300, allow_inf_nan=False
    )
    enhance_tokens: int = _setting(
        200, "The longest answer of the enhancer.", "a whole number from 16 to 1024", ge=16, le=1024
    )
    device: Annotated[str, AfterValidator(_device)] = _setting(
        "auto", "What generates. auto takes CUDA where it is.", "auto, cpu, cuda or cuda:N"
    )
    device_memory_gb: float | None = _setting(
        None,
        "What weights may take of the device, in GiB. Not set, a fifth of it is left free; no limit on the CPU.",
        "a number above 0", gt=0, allow_inf_nan=False,
    )  # fmt: skip
    affinity_seconds: float = _setting(
        120.0, "How long a job may be passed over by jobs of the model that is loaded. 0 keeps the order.",
        "a number from 0 to 3600", ge=0, le=3600, allow_inf_nan=False,
    )  # fmt: skip
    dtype: Literal["auto", "float32", "float16"] = _setting(
        "auto",
        "Precision of the weights. auto is float16 on CUDA, float32 on the CPU.",
        "auto, float32 or float16",
    )
    engine: Literal["diffusers", "null"] = _setting(
        "diffusers", "null draws test pictures without a model.", "diffusers or null"
    )
    null_step_seconds: float = _setting(
        0.0, "How long the null engine takes for a step. Real ones take what they take.",
        "a number from 0 to 3600", ge=0, le=3600, allow_inf_nan=False,
    )  # fmt: skip
    lease_seconds: float = _setting(
        30.0, "A worker unheard of for so long has lost its jobs. It is heard three times as often.",
        "a number from 3 to 3600", ge=3, le=3600, allow_inf_nan=False,
    )  # fmt: skip
    spool_grace_seconds: float = _setting(
        layers.SPOOL_GRACE_SECONDS,
        "How long a job is left to the host that has its files, while that one is heard of.",
        "a number from 3 to 86400", ge=3, le=86_400, allow_inf_nan=False,
    )  # fmt: skip
    checkpoint_seconds: float = _setting(
        15.0, "How much device time may lie between two checkpoints of a generation. 0 keeps every step.",
        "a number from 0 to 3600", ge=0, le=3600, allow_inf_nan=False,
    )  # fmt: skip
    anchor_key: Annotated[SecretStr, AfterValidator(_keys)] | None = _setting(
        None,
        "Makes anchors that nobody without it can make. To change it, put the new key before the old ones: the first "
        "one makes them, all are believed.",
        "secrets of at least 16 characters, spaces between them",
    )
    anchor_seconds: float = _setting(
        60.0, "How long what is written to the history may wait for its anchor.",
        "a number from 1 to 86400", ge=1, le=86_400, allow_inf_nan=False,
    )  # fmt: skip
    drain_seconds: float = _setting(
        30.0, "How long what is in work may go on after SIGTERM, if it ends by then. 0 hands back at once.",
        "a number from 0 to 3600", ge=0, le=3600, allow_inf_nan=False,
    )  # fmt: skip
    retention: Annotated[str, AfterValidator(_retention)] = _setting(
        "",
        "What `ourvidz history archive` takes out of the database, by state and age: it must be called for that. "
        "Without it, nothing.",
        "days for any of completed, failed, cancelled, workers, dead_letters, as completed=365d, workers=30d",
    )
    allowed_reference_hosts: Annotated[str, AfterValidator(_hosts)] = _setting(
        "", "Where references may be although the address is not public.", "host:port, comma-separated"
    )
    on_missing_reference: Literal["fail", "generate_without"] = _setting(
        "fail", "What a reference that cannot be fetched does to its job.", "fail or generate_without"
    )
    reference_fit: Literal["letterbox", "crop"] = _setting(
        "crop",
        "How a reference of another shape is brought to the job's. letterbox puts white bars around it.",
        "letterbox or crop",
    )
    asset_urls: Literal["path", "public", "signed"] = _setting(
        "path", "How callbacks name assets: as paths inside the bucket, or as URLs.", "path, public or signed"
    )
    signed_url_seconds: int = _setting(
        86_400, "How long signed URLs hold.", "a whole number from 60 to 604800", ge=60, le=604_800
    )
    metrics_url: HttpUrl | None = _setting(
        None, "Gets one JSON for each generation, best effort.", "an http:// or https:// address"
    )
    embed_prompt: bool = _setting(True, "Whether the metadata of files holds the prompt.", "true or false")
    max_payload_bytes: int = _setting(
        1_048_576, "Larger payloads are refused.", "a whole number from 1024 to 16777216", ge=1024, le=16_777_216
    )
    health_address: Annotated[str, AfterValidator(_address)] | None = _setting(
        None, "Where /live and /ready are answered over HTTP. Without it, nowhere.", "host:port"
    )
    log_format: Literal["auto", "console", "json"] = _setting(
        "auto", "auto is console on a terminal and json elsewhere.", "auto, console or json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "What is logged at all.", "debug, info, warning or error"
    )
    supabase_url: HttpUrl | None = _setting(
        None,
        "The project whose Storage supabase: means. Gives callback_url where none is set.",
        "an http:// or https:// address",
    )
    supabase_service_key: SecretStr | None = _setting(None, "Opens that Storage; bearer token of callbacks.", "a key")
    upstash_redis_rest_url: HttpUrl | None = _setting(
        None, "With the token, gives redis_url where none is set.", "an https:// address"
    )
    upstash_redis_rest_token: SecretStr | None = _setting(None, "Password of that Redis.", "a token")

    _found: dict[str, Found] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` gathered: it alone knows which layer a value came from."""
        return (init_settings,)

    @model_validator(mode="after")
    def _follow_the_data_dir(self) -> Self:
        defaults = {
            "database_url": layers.default_database_url(self.data_dir),
            "storage_url": f"file://{quote(str(self.data_dir / 'storage'))}",
            "spool_dir": self.data_dir / "spool",
        }
        for name, value in defaults.items():
            if name not in self.model_fields_set:
                self.__dict__[name] = value  # frozen for users, not for its own defaults
        return self

    @property
    def reference_hosts(self) -> frozenset[str]:
        """host:port of `allowed_reference_hosts`."""
        return frozenset(filter(None, self.allowed_reference_hosts.split(",")))

    @property
    def storage_dir(self) -> Path | None:
        """The folder of `storage_url`. None where that is not on this host."""
        if not self.storage_url.startswith("file:"):
            return None
        return Path(unquote(urlsplit(self.storage_url).path))

    def source(self, name: str) -> str:
        """Where the value of `name` came from: flag, environment …, file …, derived …, default."""
        return self._found[name].source if name in self._found else "default"

    def shown(self, name: str) -> str:
        """The value of `name` for people: secrets and passwords masked."""
        value = getattr(self, name)
        if value is None:
            return "-"
        if isinstance(value, SecretStr):
            return STARS
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else mask(str(value))


def load(
    flags: Mapping[str, Any] | None = None, *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Gather, check and return the settings. Raises SettingsError with one sentence for each that is wrong."""
    found = layers.gather(flags, config=config, environ=environ)
    try:
        settings = Settings(**{name: entry.value for name, entry in found.items()})
    except ValidationError as error:
        raise SettingsError(*_sentences(error, found)) from None
    settings._found.update(found)
    if lacking := _lacking(settings):
        raise SettingsError(f"storage_url ({settings.source('storage_url')}): {lacking}")
    return settings


def _lacking(settings: Settings) -> str | None:
    """What the storage needs and has not."""
    url = settings.storage_url
    needs = [] if url != "supabase:" else ["supabase_url", "supabase_service_key"]
    missing = [layers.variable(name) for name in needs if getattr(settings, name) is None]
    if missing:
        return f"supabase: needs SUPABASE_URL and SUPABASE_SERVICE_KEY, got no {' and no '.join(missing)}"
    if url.startswith("s3:") and find_spec("boto3") is None:
        return "s3:// needs boto3, which is not installed: pip install 'ourvidz[s3]'"
    return None


def wanted(field: FieldInfo) -> str:
    """What a field allows, in words."""
    extra = field.json_schema_extra
    return str(extra["wanted"]) if isinstance(extra, dict) else ""


def _sentences(error: ValidationError, found: Mapping[str, Found]) -> list[str]:
    """One sentence for each bad value: where it stands, wanted, got. A secret is never repeated."""
    sentences: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        got = STARS if name in layers.SECRETS else mask(repr(found[name].value))
        sentences[name] = f"{name} ({found[name].source}): wanted {wanted(Settings.model_fields[name])}, got {got}"
    return list(sentences.values())
