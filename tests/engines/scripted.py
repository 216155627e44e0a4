"""WAN's original code as tests have it: a folder in its layout, and the program that stands in for it."""

import json
import sys
from pathlib import Path

from workers.engines.config import WanScript

PROGRAM = Path(__file__).parents[1] / "programs" / "wan_generate.py"
SCRIPT = WanScript(path=PROGRAM, python=Path(sys.executable), seconds=60.0)


def original_folder(folder: Path, *, scale: str = "1/8") -> Path:
    """A model as its own code wants it, of a few bytes; what it says of itself is its render scale."""
    (folder / "google" / "umt5-xxl").mkdir(parents=True)
    (folder / "google" / "umt5-xxl" / "spiece.model").write_bytes(b"pieces")
    (folder / "config.json").write_text('{"model_type": "t2v"}')
    (folder / "ourvidz-model.json").write_text(json.dumps({"family": "wan", "render_scale": scale}))
    header = b'{"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    tensors = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(tensors)
    (folder / "models_t5_umt5-xxl-enc-bf16.pth").write_bytes(b"PK\x03\x04 text encoder")
    (folder / "Wan2.1_VAE.pth").write_bytes(b"PK\x03\x04 vae")
    return folder
