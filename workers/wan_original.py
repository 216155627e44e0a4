"""WAN's text-to-video model as its own code wants it: the folder that Wan2.1-T2V-1.3B is published as.

Two of its three parts are pickled. They are loaded by WAN's code in a process of its own and never by this project,
which only looks at them from outside and digests them.
"""

import json
from pathlib import Path
from typing import Final

from workers.weights import configuration_files, header

TEXT_ENCODER: Final = "models_t5_umt5-xxl-enc-bf16.pth"
VAE: Final = "Wan2.1_VAE.pth"
TOKENIZER: Final = "google/umt5-xxl"
_TRANSFORMER: Final = "diffusion_pytorch_model*.safetensors"
_PICKLES: Final = (b"PK\x03\x04", b"\x80")  # torch's files since 1.6, and before


def problem(path: Path) -> str | None:
    """One sentence on what is missing or wrong, or None."""
    if not path.is_dir():
        return f"{path} {'is a single file' if path.exists() else 'does not exist'}; wan_engine script wants a folder"
    try:
        if missing := _missing(path):
            also = " (it is a diffusers folder)" if (path / "model_index.json").is_file() else ""
            return f"{path} is no folder for WAN's original code{also}: it has no {', no '.join(missing)}"
        for file in weights(path):
            if file.suffix == ".safetensors":
                header(file)
            elif not _begins_as_a_pickle(file):
                return f"{file} is no file of torch's: was its download answered by a web page?"
        if not isinstance(json.loads((path / "config.json").read_bytes()), dict):
            return f"{path / 'config.json'} is no table in JSON"
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None


def weights(path: Path) -> list[Path]:
    """The files of its three parts."""
    return sorted([*path.glob(_TRANSFORMER), *(path / name for name in (TEXT_ENCODER, VAE) if (path / name).is_file())])


def digested(path: Path) -> list[Path]:
    """What its digest is of: all weights, pickled ones too, and the configuration."""
    return sorted({*weights(path), *configuration_files(path)})


def _missing(path: Path) -> list[str]:
    found = {
        "config.json": (path / "config.json").is_file(),
        _TRANSFORMER: any(path.glob(_TRANSFORMER)),
        TEXT_ENCODER: (path / TEXT_ENCODER).is_file(),
        VAE: (path / VAE).is_file(),
        TOKENIZER: any((path / TOKENIZER).glob("*")),
    }
    return [name for name, there in found.items() if not there]


def _begins_as_a_pickle(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4).startswith(_PICKLES)
