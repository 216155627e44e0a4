"""How an engine process is started: what the worker decides and hands over as one JSON argument."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

EXIT_DEVICE_TAKEN = 71
"""Another engine process holds the device's lock."""

EXIT_MISCONFIGURED = 72
"""The engine cannot run here: a library is missing, a device is not there."""

EXIT_DEVICE_LOST = 73
"""The device's context is broken; a new process begins with a new one."""

LOADING = "loading"
"""How `Alive.doing` begins while a model is loaded, which may take minutes and has a limit of its own."""


@dataclass(frozen=True, slots=True)
class WanScript:
    """WAN's original code, run as a program for each job instead of the pipeline in this process.

    `python` is its own interpreter, `references` whether it honours --image, --first_frame and --last_frame, which
    upstream's t2v branch accepts and ignores. It has `seconds` for a job.
    """

    path: Path
    python: Path
    references: bool = False
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine process on one device.

    `models` maps variant names (`Generate.model`) to a diffusers folder or a `.safetensors` file. `wan_vace` draws
    WAN's jobs with references, `sdxl_ip_adapter` those of SDXL, `qwen` enhances prompts; each may be missing.
    `memory_bytes` is what weights may take on the device; None leaves a fifth of a GPU free, and is no limit on the
    CPU. `dtype` is "fp16", "fp32" or None: fp16 on CUDA, fp32 on the CPU. `threads` None leaves torch's own choice.
    The limits are in seconds: until Ready, for loading a model, and for a word from the process everywhere else, where
    None is 120 on CUDA and 900 on the CPU, on which one step of a real model takes minutes. `request_seconds` is for a
    whole request, whatever it says: less than the time for which a worker renews the lease of a job that is drawn.
    """

    engine: Literal["diffusers", "null"]
    device: str
    lock_dir: Path
    models: dict[str, Path] = field(default_factory=dict)
    wan_vace: Path | None = None
    wan_script: WanScript | None = None
    sdxl_ip_adapter: Path | None = None
    qwen: Path | None = None
    memory_bytes: int | None = None
    dtype: Literal["fp16", "fp32"] | None = None
    threads: int | None = None
    embed_prompt: bool = True
    step_seconds: float = 0.0
    start_seconds: float = 180.0
    load_seconds: float = 1800.0
    hang_seconds: float | None = None
    request_seconds: float = 14_000.0
    lock_seconds: float = 5.0

    @property
    def hang_limit(self) -> float:
        """`hang_seconds` with its default filled in."""
        if self.hang_seconds is not None:
            return self.hang_seconds
        return 120.0 if self.device.startswith("cuda") else 900.0

    @property
    def device_key(self) -> str:
        """The device by one name only: "cuda" is "cuda:0"."""
        return "cuda:0" if self.device == "cuda" else self.device


@dataclass(frozen=True, slots=True)
class Start:
    """The process's argument. `requests` and `answers` are inherited file descriptors."""

    config: EngineConfig
    parent: int
    requests: int
    answers: int

    def to_json(self) -> str:
        """For the command line; holds no secret."""
        return msgspec.json.encode(self, enc_hook=str).decode()

    @classmethod
    def from_json(cls, text: str) -> "Start":
        """Raises msgspec.ValidationError for anything else than what `to_json` wrote."""
        return msgspec.json.decode(text, type=cls, dec_hook=_path)


def _path(kind: type[Any], value: Any) -> Any:
    return kind(value)
