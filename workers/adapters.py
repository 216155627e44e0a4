"""IP-Adapters on disk: which of the kinds they are, and what is wrong with them. Imports no torch."""

import json
from pathlib import Path
from typing import Any, Final

from workers.weights import header

IMAGE_ENCODER: Final = "image_encoder"
"""The folder, inside the adapter's, of the network that looks at the reference."""

_SIDES: Final = {
    "image_proj.proj.weight": ("image_proj.proj.weight", "projection_dim"),
    "image_proj.latents": ("image_proj.proj_in.weight", "hidden_size"),
}
"""What tells a kind of adapter (plain, plus) → the tensor that reads the encoder, and what of the encoder it reads."""


def adapter_file(folder: Path) -> Path:
    """The one `.safetensors` file of an adapter's folder. Raises ValueError with one sentence otherwise."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; an IP-Adapter is one, with a .safetensors file and {IMAGE_ENCODER}/")
    files = sorted(folder.glob("*.safetensors"))
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if not files and pickled:
        raise ValueError(
            f"{folder} holds a pickled adapter ({pickled[0]}); only safetensors is loaded, so get that file"
        )
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ValueError(f"{folder} must hold exactly one adapter as .safetensors, found {names}")
    return files[0]


def adapter_problem(folder: Path) -> str | None:
    """One sentence on why SDXL cannot draw with this adapter, or None. Raises ValueError and OSError as `header` does.

    Two kinds are known, as h94/IP-Adapter shares them: the plain one (ip-adapter_sdxl, ip-adapter_sdxl_vit-h), which
    reads the encoder's embedding, and plus (ip-adapter-plus_sdxl_vit-h), which reads its last layer but one.
    """
    file = adapter_file(folder)
    encoder = folder / IMAGE_ENCODER
    if not (encoder / "config.json").is_file():
        return f"{folder} has no {IMAGE_ENCODER}/config.json; the adapter's image encoder belongs there"
    weights = sorted(encoder.glob("*.safetensors"))
    if not weights:
        return f"{encoder} has no .safetensors file, and only safetensors is loaded"
    for part in weights:
        header(part)
    tensors = header(file)
    sides = [side for kind, side in _SIDES.items() if kind in tensors and side[0] in tensors]
    if not sides or not any(name.startswith("ip_adapter.") for name in tensors):
        return f"{file} is no IP-Adapter of the kinds plain and plus, which need {' or '.join(_SIDES)} and ip_adapter.*"
    reader, field = sides[0]
    return _mismatch(file, tensors[reader]["shape"][1], encoder / "config.json", field)


def _mismatch(file: Path, wanted: Any, config: Path, field: str) -> str | None:
    """Whether the adapter was trained with another image encoder; the library would fail in the middle of a picture."""
    try:
        found = json.loads(config.read_bytes()).get(field)
    except (ValueError, AttributeError):
        return f"{config} is no table in JSON"
    if found != wanted:
        return f"{file} reads an image encoder with {field} {wanted}, and that of {config} is {found}"
    return None
