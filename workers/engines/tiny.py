"""Build the tiny models in a folder, in seconds: `python -m workers.engines.tiny ROOT` prints their paths.

ROOT/tiny-sdxl/                  a diffusers folder
ROOT/tiny-sdxl.safetensors       the same weights as one file, under the original code's names
ROOT/tiny-sdxl.config/           its config folder, no weights
ROOT/tiny-wan/                   a diffusers folder
ROOT/tiny-wan-vace/              another, with the same text encoder and VAE
ROOT/tiny-ip-adapter/            an adapter for tiny SDXL, with its image encoder
ROOT/tiny-qwen/                  a language model that enhances prompts, in transformers' format
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from workers.models import PIPELINES, read_manifest
from workers.presets import QWEN, SDXL, SDXL_IP_ADAPTER, WAN, WAN_VACE
from workers.weights import MANIFEST, DigestCache, digest_of

VERSION: Final = "3"
"""Of the recipe. Another one in a manifest means: build again."""

_FOLDER: Final = "tiny-sdxl"
_FILE: Final = "tiny-sdxl.safetensors"
_CONFIG: Final = "tiny-sdxl.config"
_WAN: Final = "tiny-wan"
_WAN_VACE: Final = "tiny-wan-vace"
_IP_ADAPTER: Final = "tiny-ip-adapter"
_QWEN: Final = "tiny-qwen"


def make_tiny(root: Path) -> list[Path]:
    """Return tiny SDXL's folder and single file, and the folders of tiny WAN, IP-Adapter, VACE and Qwen.

    What is missing or of another version is built; the rest stays as it is.
    Everything is built under a temporary name and renamed, so a crash leaves nothing half-done under a real one.
    """
    folder, file, config, wan = root / _FOLDER, root / _FILE, root / _CONFIG, root / _WAN
    if not (_current(folder) and _current(config) and file.is_file()):
        _build(_build_sdxl, (file, config, folder))
    if not _current(wan):
        _build(_build_wan, (wan,))
    adapter = root / _IP_ADAPTER
    if not _current(adapter):
        _build(_build_ip_adapter, (adapter,))
    vace = root / _WAN_VACE
    if not _current(vace):
        _build(_build_wan_vace, (vace,))
    qwen = root / _QWEN
    if not _current(qwen):
        _build(_build_qwen, (qwen,))
    return [folder, file, wan, adapter, vace, qwen]


def _build(build: Callable[[Path], None], places: Sequence[Path]) -> None:
    """Let `build` make them all in another folder, and put each in its place."""
    root = places[0].parent
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=root) as name:
        build(Path(name))
        for weights in Path(name).rglob("*.safetensors"):
            weights.chmod(0o644)  # safetensors makes them 0600
        for place in places:
            _replace(Path(name) / place.name, place)


def _current(folder: Path) -> bool:
    with contextlib.suppress(ValueError):  # a manifest that cannot be read is of no version
        return read_manifest(folder).version == VERSION
    return False


def _replace(new: Path, old: Path) -> None:
    """Put `new` in `old`'s place; a folder cannot be renamed over one that has content."""
    if old.is_dir():
        away = new.with_name(new.name + ".old")
        old.rename(away)
    new.rename(old)


def _build_sdxl(root: Path) -> None:
    _prepare()
    from safetensors.torch import save_file

    from workers.engines.original_layout import single_file_weights
    from workers.engines.tiny_sdxl import build

    pipeline = build()
    folder, file, config = root / _FOLDER, root / _FILE, root / _CONFIG
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    save_file(single_file_weights(pipeline), str(file), metadata={"format": "pt"})
    shutil.copytree(folder, config, ignore=shutil.ignore_patterns("*.safetensors"))
    cache = DigestCache(None)
    _describe(folder, _FOLDER, SDXL, digest_of(folder, cache))
    _describe(config, _FOLDER, SDXL, digest_of(file, cache))


def _build_wan(root: Path) -> None:
    _prepare()
    from workers.engines.tiny_wan import build

    folder = root / _WAN
    build().save_pretrained(str(folder), safe_serialization=True)
    _describe(folder, _WAN, WAN, digest_of(folder, DigestCache(None)))


def _build_ip_adapter(root: Path) -> None:
    _prepare()
    from safetensors.torch import save_file

    from workers.engines.tiny_ip_adapter import adapter_weights, image_encoder
    from workers.engines.tiny_sdxl import build

    folder = root / _IP_ADAPTER
    image_encoder().save_pretrained(str(folder / "image_encoder"))
    save_file(adapter_weights(build().unet), str(folder / f"{_IP_ADAPTER}.safetensors"), metadata={"format": "pt"})
    _describe(folder, _IP_ADAPTER, SDXL_IP_ADAPTER, digest_of(folder, DigestCache(None)))


def _build_wan_vace(root: Path) -> None:
    _prepare()
    from workers.engines.tiny_wan_vace import build_vace

    folder = root / _WAN_VACE
    build_vace().save_pretrained(str(folder), safe_serialization=True)
    _describe(folder, _WAN_VACE, WAN_VACE, digest_of(folder, DigestCache(None)))


def _build_qwen(root: Path) -> None:
    _prepare()
    from workers.engines.tiny_qwen import save

    folder = root / _QWEN
    save(folder)
    _describe(folder, _QWEN, QWEN, digest_of(folder, DigestCache(None)))


def _prepare() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    torch.set_num_threads(1)  # threads that spin for each other take longer over such small weights than one


def _describe(folder: Path, name: str, family: str, digest: str) -> None:
    manifest: dict[str, Any] = {
        "name": name,
        "family": family,
        "version": VERSION,
        **({"render_scale": "1/8"} if family in PIPELINES else {}),
        "digest": digest,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Build under the folder given and print one path a line."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m workers.engines.tiny ROOT\n")
        raise SystemExit(2)
    sys.stdout.write("".join(f"{path}\n" for path in make_tiny(Path(sys.argv[1]).absolute())))


if __name__ == "__main__":
    main()
