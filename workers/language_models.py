"""The enhancer's model on disk: a Qwen2.5 in transformers' format, and what is wrong with it. Imports no torch."""

import json
from pathlib import Path
from typing import Any, Final

from workers.weights import header

ARCHITECTURE: Final = "qwen2"
"""The `model_type` of Qwen2 and Qwen2.5, instruct and base."""

_INDEX: Final = "model.safetensors.index.json"
_TOKENIZERS: Final = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def language_problem(folder: Path) -> str | None:
    """One sentence on why prompts cannot be enhanced with this model, or None. Raises as `header` does."""
    if not folder.is_dir():
        return f"{folder} is a file; a language model is a folder with config.json, a tokenizer and .safetensors files"
    if (folder / "model_index.json").is_file():
        return (
            f"{folder} is a diffusers folder, which draws; the enhancer is a language model such as Qwen2.5-7B-Instruct"
        )
    config = _table(folder / "config.json")
    if config is None:
        return f"{folder} is no language model: it has no config.json"
    if config.get("model_type") != ARCHITECTURE:
        return f"{folder} holds a model of the type {config.get('model_type')!r}, expected {ARCHITECTURE!r} (Qwen2.5)"
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        return f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt"
    return _weights_problem(folder)


def _weights_problem(folder: Path) -> str | None:
    index = _table(folder / _INDEX)
    files = sorted(folder.glob("*.safetensors"))
    if not files and (pickled := sorted(file.name for file in folder.glob("*.bin"))):
        return (
            f"{folder} holds pickled weights ({pickled[0]}), and only safetensors is loaded: get the .safetensors files"
        )
    if index is not None:
        places = index.get("weight_map")
        if not isinstance(places, dict):
            return f"{folder / _INDEX} has no weight_map"
        names = sorted({str(place) for place in places.values()})
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            return f"{folder} lacks {len(missing)} of {len(names)} files of its weights, first {missing[0]}"
        for name in names:
            absent = {tensor for tensor, place in places.items() if place == name} - header(folder / name).keys()
            if absent:
                return f"{folder / name} lacks {len(absent)} weights that the index promises, first {min(absent)}"
        return None
    if not files:
        return f"{folder} has no .safetensors file"
    for file in files:
        header(file)
    return None


def _table(file: Path) -> dict[str, Any] | None:
    """A JSON table, or None where there is no file. Raises ValueError with one sentence for anything else."""
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is no table in JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is no table in JSON")
    return found
