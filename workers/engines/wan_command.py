"""How WAN's original code is called: its options and its environment. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from workers.engines.config import WanScript
from workers.engines.faults import InvalidParameters
from workers.engines.messages import Generate
from workers.errors import Misconfigured
from workers.presets import WAN_SHIFT, WAN_SOLVER, WAN_TASK

OPTIONS: Final[Mapping[str, str]] = {"single": "--image", "start": "--first_frame", "end": "--last_frame"}
"""A reference's role → the option that takes its file."""

LONGEST_PROMPT: Final = 128 * 1024 - 64
"""Bytes: the longest single argument that Linux takes (MAX_ARG_STRLEN), less the option's name."""

_NOT_FOR_IT: Final = frozenset({"TQDM_DISABLE"})  # its progress bars are how we know of its steps


def command(
    script: WanScript, checkpoint: Path, request: Generate, *, size: tuple[int, int], frames: int, output: Path
) -> list[str]:
    """The argument list, never a shell's line. `size` is (width, height) in pixels.

    The prompt is the option's value even where it begins with `--`. Raises InvalidParameters for a prompt that no
    argument can hold.
    """
    if (length := len(request.prompt.encode())) > LONGEST_PROMPT:
        raise InvalidParameters(f"a prompt of {length} bytes; as a program's argument it may have {LONGEST_PROMPT}")
    if "\0" in request.prompt:
        raise InvalidParameters("the prompt holds a NUL, which no program's argument can")
    line = [
        str(script.python), str(script.path),
        "--task", WAN_TASK,
        "--ckpt_dir", str(checkpoint),
        "--size", f"{size[0]}*{size[1]}",
        "--sample_steps", str(request.steps),
        "--sample_guide_scale", str(request.guidance_scale),
        "--sample_solver", WAN_SOLVER,
        "--sample_shift", str(WAN_SHIFT if request.shift is None else request.shift),
        "--frame_num", str(frames),
        "--offload_model", "True",
        "--save_file", str(output),
        "--base_seed", str(request.seed),
    ]  # fmt: skip
    for reference in request.references:
        line += [OPTIONS[reference.role], str(Path(request.spool) / reference.name)]
    return [*line, f"--prompt={request.prompt}"]


def environment(ours: Mapping[str, str], device: str) -> dict[str, str]:
    """What the program gets of the engine process's environment, which holds no secrets, and its device alone.

    Raises Misconfigured for a device that `CUDA_VISIBLE_DEVICES` does not show.
    """
    passed = {name: value for name, value in ours.items() if name not in _NOT_FOR_IT}
    return {
        **passed,
        "CUDA_VISIBLE_DEVICES": _visible(device, ours.get("CUDA_VISIBLE_DEVICES")),
        "TORCH_USE_CUDA_DSA": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def _visible(device: str, outer: str | None) -> str:
    """The one device under the name that CUDA gave it: cuda:1 of "2,3" is "3". The CPU is no device of CUDA's."""
    if not device.startswith("cuda"):
        return ""
    index = int(device.partition(":")[2] or 0)
    if outer is None:
        return str(index)
    names = [name.strip() for name in outer.split(",")]
    if index >= len(names):
        raise Misconfigured(f"device {device} was asked for, and CUDA_VISIBLE_DEVICES shows {outer!r}")
    return names[index]
