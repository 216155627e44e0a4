"""Build the tiny models in a folder, in seconds: `python -m workers.engines.tiny ROOT` prints their paths.

ROOT/tiny-sdxl/                  a diffusers folder
ROOT/tiny-sdxl.safetensors       the same weights as one file, under the original code's names
ROOT/tiny-sdxl.config/           its config folder, no weights
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from workers.models import read_manifest
from workers.weights import MANIFEST, DigestCache, digest_of

VERSION: Final = "1"
"""Of the recipe. Another one in a manifest means: build again."""

_FAMILY: Final = "sdxl"
_FOLDER: Final = "tiny-sdxl"
_FILE: Final = "tiny-sdxl.safetensors"
_CONFIG: Final = "tiny-sdxl.config"


def make_tiny(root: Path) -> list[Path]:
    """Return the tiny SDXL model's diffusers folder and its single file, built if missing or of another version.

    Everything is built under a temporary name and renamed, so a crash leaves nothing half-done under a real one.
    """
    folder, file, config = root / _FOLDER, root / _FILE, root / _CONFIG
    if not (_current(folder) and _current(config) and file.is_file()):
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=root) as name:
            temporary = Path(name)
            _build(temporary)
            for place in (file, config, folder):
                _replace(temporary / place.name, place)
    return [folder, file]


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


def _build(root: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from safetensors.torch import save_file

    from workers.engines.original_layout import single_file_weights
    from workers.engines.tiny_sdxl import build

    torch.set_num_threads(1)  # threads that spin for each other take longer over such small weights than one
    pipeline = build()
    folder, file, config = root / _FOLDER, root / _FILE, root / _CONFIG
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    save_file(single_file_weights(pipeline), str(file), metadata={"format": "pt"})
    shutil.copytree(folder, config, ignore=shutil.ignore_patterns("*.safetensors"))
    for weights in root.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors makes them 0600
    cache = DigestCache(None)
    _describe(folder, digest_of(folder, cache))
    _describe(config, digest_of(file, cache))


def _describe(folder: Path, digest: str) -> None:
    manifest: dict[str, Any] = {
        "name": _FOLDER,
        "family": _FAMILY,
        "version": VERSION,
        "render_scale": "1/8",
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
