"""The models that a worker has: where they lie, what they are, and what is wrong with them. Imports no torch."""

import json
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from workers import wan_original
from workers.adapters import adapter_problem
from workers.errors import Misconfigured
from workers.language_models import language_problem
from workers.presets import QWEN, SDXL, SDXL_IP_ADAPTER, WAN, WAN_VACE
from workers.weights import MANIFEST, DigestCache, digest_of, digested_files, header, size_of, weight_files

SDXL_PARTS: Final = {
    "model.diffusion_model.": "UNet",
    "first_stage_model.": "VAE",
    "conditioner.embedders.0.": "first text encoder",
    "conditioner.embedders.1.": "second text encoder",
}
PIPELINES: Final = {SDXL: "StableDiffusionXLPipeline", WAN: "WanPipeline", WAN_VACE: "WanVACEPipeline"}
"""Family → diffusers' class that draws with it."""

_PICKLED: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")

DIGESTS: Final = "model-digests.json"
"""The file in the folder of locks that remembers digests: a large model is hashed once."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's own description, from `ourvidz-model.json`. What it does not say has the default."""

    name: str | None = None
    family: str | None = None
    version: str | None = None
    digest: str | None = None
    render_scale: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One configured model. `problem` is a sentence when it cannot be used; `digest` is None until computed."""

    name: str
    family: str
    path: Path
    exists: bool
    render_scale: Fraction
    digest: str | None
    bytes: int
    problem: str | None


def config_folder(file: Path) -> Path | None:
    """The folder with `model_index.json` that belongs to a single file, or None.

    It is `<stem>.config`, `<stem>` or `config` beside it, or the file's own folder.
    """
    places = (file.with_name(f"{file.stem}.config"), file.with_suffix(""), file.with_name("config"), file.parent)
    return next((place for place in places if (place / "model_index.json").is_file()), None)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a folder, or of the config folder beside a single file; all defaults when there is none.

    Raises ValueError with one sentence when it cannot be read.
    """
    folder: Path | None = path if path.is_dir() else config_folder(path)
    if folder is None or not (folder / MANIFEST).is_file():
        return Manifest()
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
        if Fraction(found.get("render_scale", "1")) <= 0:
            raise ValueError(f"render_scale must be above 0, got {found['render_scale']}")
        return Manifest(
            name=found.get("name"),
            family=found.get("family"),
            version=found.get("version"),
            digest=found.get("digest"),
            render_scale=Fraction(found.get("render_scale", "1")),
        )
    except (ValueError, AttributeError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{folder / MANIFEST} cannot be read: {error}") from error


def render_size(width: int, height: int, scale: Fraction, *, multiple: int = 8) -> tuple[int, int]:
    """Pixels a model really draws for a resolved size: times its scale, to the nearest multiple, never below one."""
    return (
        max(multiple, round(width * scale / multiple) * multiple),
        max(multiple, round(height * scale / multiple) * multiple),
    )


def inspect_model(
    name: str,
    family: str,
    path: Path,
    *,
    cache: Path | None = None,
    compute_digest: bool = False,
    original: bool = False,
) -> ModelSpec:
    """Look at a model without loading it.

    `cache` is the file that remembers digests. Without `compute_digest` the digest is told only when it is
    remembered there; with it every byte may have to be read. `original` is WAN's model for WAN's own code.
    """
    problem = wan_original.problem(path) if original else _problem(family, path)
    manifest = Manifest()
    if path.exists():
        try:
            manifest = read_manifest(path)
        except ValueError as error:
            problem = problem or str(error)
    if problem is None and manifest.family not in (None, family):
        problem = f"{path} is of the family {manifest.family!r}, expected {family!r}"
    digest = None
    digests = DigestCache(cache)
    files = wan_original.digested(path) if original else digested_files(path)
    if problem is None and (compute_digest or digests.known(files)):
        digest = digest_of(path, digests, files)
        if manifest.digest not in (None, digest):
            problem = f"{path} was changed: its manifest names digest {manifest.digest[:12]}…, found {digest[:12]}…"
    return ModelSpec(
        name=name,
        family=family,
        path=path,
        exists=path.exists(),
        render_scale=manifest.render_scale,
        digest=digest,
        bytes=size_of(path, wan_original.weights(path) if original else None) if path.exists() else 0,
        problem=problem,
    )


def _problem(family: str, path: Path) -> str | None:
    """One sentence on what is wrong with the form of the files, or None."""
    if not path.exists():
        return f"{path} does not exist"
    try:
        if family == SDXL_IP_ADAPTER:
            return adapter_problem(path)
        if family == QWEN:
            return language_problem(path)
        return _folder_problem(family, path) if path.is_dir() else _file_problem(family, path)
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"


def _file_problem(family: str, path: Path) -> str | None:
    if path.suffix in _PICKLED:
        return (
            f"{path} is a pickled checkpoint, and only safetensors is loaded: convert it, or get the .safetensors file"
        )
    names = header(path)
    if family != "sdxl":
        return f"{path} is a single file; a {family} model is a diffusers folder"
    missing = [part for prefix, part in SDXL_PARTS.items() if not any(name.startswith(prefix) for name in names)]
    return f"{path} is no whole SDXL checkpoint: it has no {', no '.join(missing)}" if missing else None


def _folder_problem(family: str, path: Path) -> str | None:
    weights = weight_files(path)
    pickled = sorted(file.name for file in path.rglob("*") if file.suffix in _PICKLED)
    index = path / "model_index.json"
    if pickled and not (index.is_file() and weights):
        return (
            f"{path} is in the original or a pickled format ({pickled[0]}), and only safetensors is loaded: "
            "get the diffusers version of the model, or convert it with save_pretrained(safe_serialization=True)"
        )
    if not index.is_file():
        return f"{path} is no diffusers folder: it has no model_index.json"
    if not weights:
        return f"{path} has no .safetensors file"
    for file in weights:
        header(file)
    try:
        held = json.loads(index.read_bytes()).get("_class_name")
    except (ValueError, AttributeError):
        return f"{index} is no table in JSON"
    if held not in (None, PIPELINES[family]):
        return f"{path} holds a {held}, and a model of the family {family!r} is a {PIPELINES[family]}"
    return None


def make_tiny(root: Path) -> list[Path]:
    """Build the tiny models under `root` in a process of their own and return what a worker can be pointed at.

    A second call builds nothing. Raises Misconfigured with the last line of that process when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "workers.engines.tiny", str(root)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Misconfigured(f"the tiny models could not be built: {lines[-1]}")
    return [Path(line) for line in done.stdout.splitlines()]
