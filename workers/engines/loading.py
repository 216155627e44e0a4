"""Loading a pipeline, and saying in one sentence why it could not be loaded."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ftfy  # noqa: F401 - diffusers cleans WAN's prompts with it, and without it says no more than NameError
import torch
from diffusers import StableDiffusionXLPipeline, WanPipeline, WanVACEPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.utils.logging import disable_progress_bar

from workers.engines.faults import out_of_memory
from workers.engines.sdxl_config import write_config
from workers.errors import Misconfigured
from workers.models import config_folder
from workers.weights import header, weight_files


def load_sdxl(path: Path, *, dtype: Any, device: str) -> Any:
    """A `StableDiffusionXLPipeline` in the host's memory, from a diffusers folder or a single `.safetensors` file.

    It is set up for the device. Never asks the hub and never unpickles. Raises Misconfigured with one sentence for
    whatever is wrong with the files, and lets a lack of memory through.
    """
    with sentences(path):
        pipeline = _from_folder(path, dtype) if path.is_dir() else _from_file(path, dtype)
    if path.is_dir():
        check_whole(path, pipeline, ("unet", "vae", "text_encoder", "text_encoder_2"))
    pipeline.set_progress_bar_config(disable=True)  # one of its own: the pipeline's steps
    if device.startswith("cuda"):
        pipeline.vae.enable_slicing()  # six 1024-pixel images decoded at once want more than 40 GB
    return pipeline


def load_wan(path: Path, *, dtype: Any, device: str, **shared: Any) -> Any:
    """A `WanPipeline` in the host's memory, from a diffusers folder; otherwise as `load_sdxl`.

    In half precision it is bfloat16, in which WAN was trained: its text encoder leaves the range of float16. The VAE
    stays in float32. `shared` are networks that are loaded already, by the names of the pipeline's components.
    """
    return _wan(WanPipeline, path, dtype, shared)


def load_wan_vace(path: Path, *, dtype: Any, device: str, **shared: Any) -> Any:
    """A `WanVACEPipeline`, as `load_wan`."""
    return _wan(WanVACEPipeline, path, dtype, shared)


def _wan(kind: Any, path: Path, dtype: Any, shared: Mapping[str, Any]) -> Any:
    half = torch.bfloat16 if dtype == torch.float16 else dtype
    with sentences(path):
        pipeline = kind.from_pretrained(
            str(path),
            torch_dtype={"default": half, "vae": torch.float32},
            use_safetensors=True,
            local_files_only=True,
            **shared,
        )
    check_whole(path, pipeline, ("transformer", "vae", "text_encoder"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Whatever loading raises, as Misconfigured with one sentence."""
    disable_progress_bar()
    try:
        yield
    except SingleFileComponentError as error:
        first = str(error).strip().splitlines()[0]
        raise Misconfigured(f"{path} lacks a part: {first}", error_type="ModelIncomplete") from error
    except NotImplementedError as error:  # "Cannot copy out of meta tensor": a weight that no tensor filled
        raise Misconfigured(
            f"{path} lacks weights that its configuration asks for", error_type="ModelIncomplete"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"{path} does not fit its configuration: {_first_line(error)}", error_type="ModelMismatch"
        ) from error
    except OSError as error:
        raise Misconfigured(f"{path} cannot be loaded: {_first_line(error)}", error_type="ModelUnreadable") from error
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise Misconfigured(f"{path} cannot be loaded: {_first_line(error)}", error_type="ModelUnreadable") from error


def _from_folder(path: Path, dtype: Any) -> Any:
    return StableDiffusionXLPipeline.from_pretrained(
        str(path), torch_dtype=dtype, use_safetensors=True, local_files_only=True, add_watermarker=False
    )


def _from_file(path: Path, dtype: Any) -> Any:
    beside = config_folder(path)
    config = beside or write_config(path)
    try:
        return StableDiffusionXLPipeline.from_single_file(
            str(path), config=str(config), torch_dtype=dtype, local_files_only=True, add_watermarker=False
        )
    finally:
        if beside is None:
            shutil.rmtree(config)


def check_whole(path: Path, pipeline: Any, parts: Sequence[str]) -> None:
    """Raise Misconfigured when a folder's files lack a tensor of a network.

    The libraries would fill it with random numbers and say so in a log line only. A tensor that goes by two names is
    stored under one of them.
    """
    for part in parts:
        stored = {_plain(name) for file in weight_files(path / part) for name in header(file)}
        if any(".query." in name for name in stored):
            continue  # a VAE from before 2023, whose attention had other names; the library renames them
        held = {_plain(name): tensor.data_ptr() for name, tensor in getattr(pipeline, part).state_dict().items()}
        there = {place for name, place in held.items() if name in stored}
        missing = sorted(name for name, place in held.items() if name not in stored and place not in there)
        if missing:
            raise Misconfigured(f"{path} lacks {len(missing)} weights of its {part}, first {missing[0]}")


def _plain(name: str) -> str:
    """transformers 4 wraps a text model in `text_model.`, 5 does not."""
    return name.removeprefix("text_model.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
