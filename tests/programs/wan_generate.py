"""A program with the options of WAN's original code, for tests: real files, a moving gradient, no model.

What it does besides is chosen by words in the prompt, `!crash` for one; see `_trouble` and `_save`. Unknown options
are refused. usage: wan_generate.py --task t2v-1.3B --ckpt_dir FOLDER --save_file FILE --prompt=TEXT ...
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy

FRAMES_MORE = 4


def main() -> None:
    """Draw what is asked."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--task", choices=["t2v-1.3B"], required=True)
    parser.add_argument("--ckpt_dir", type=Path, required=True)
    parser.add_argument("--size", choices=["480*832", "832*480", "64*96"], required=True)
    parser.add_argument("--sample_steps", type=int, required=True)
    parser.add_argument("--sample_guide_scale", type=float, required=True)
    parser.add_argument("--sample_solver", choices=["unipc"], required=True)
    parser.add_argument("--sample_shift", type=float, required=True)
    parser.add_argument("--frame_num", type=int, required=True)
    parser.add_argument("--offload_model", choices=["True"], required=True)
    parser.add_argument("--save_file", type=Path, required=True)
    parser.add_argument("--base_seed", type=int, required=True)
    parser.add_argument("--prompt", required=True)
    for option in ("--image", "--first_frame", "--last_frame"):
        parser.add_argument(option, type=Path)
    arguments = parser.parse_args()
    print(f"Input prompt: {arguments.prompt}")
    print(f"Generation job args: {arguments}")
    if not arguments.ckpt_dir.is_dir():
        raise SystemExit("no checkpoint folder")
    prompt = arguments.prompt
    if "!told" in prompt:  # how it was called, for a test to read
        told = {"argv": sys.argv, "environment": dict(os.environ)}
        arguments.ckpt_dir.parent.joinpath("told.json").write_text(json.dumps(told), encoding="utf-8")
    if "!memory_once" in prompt and not (once := arguments.ckpt_dir.parent / "once").exists():
        once.touch()
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    _trouble(prompt)
    for step in range(arguments.sample_steps + 1):
        _bar(step, arguments.sample_steps)
        if "!hang" in prompt and step == 2:
            _hang(arguments)
        if "!crash" in prompt and step == 2:
            raise RuntimeError(f"the sampler fell over while it drew {prompt}")
        if "!killed" in prompt and step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.stderr.write("\n")
    _save(arguments, prompt)


def _trouble(prompt: str) -> None:
    """What goes wrong before the first step."""
    if "!memory" in prompt and "!memory_once" not in prompt:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    if "!unsupported" in prompt:
        raise AssertionError("Unsupport size 64*96 for task t2v-1.3B")
    if "!module" in prompt:
        raise ModuleNotFoundError("No module named 'wan'")


def _hang(arguments: argparse.Namespace) -> None:
    """With a child in the same group and one in a session of its own; none of the three hears SIGTERM.

    The step after tells that the file with their pids is there.
    """
    pids = arguments.ckpt_dir.parent / "pids"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    children = [
        subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"], start_new_session=own)
        for own in (False, True)
    ]
    pids.with_suffix(".part").write_text(" ".join(str(pid) for pid in (os.getpid(), *(c.pid for c in children))))
    pids.with_suffix(".part").rename(pids)
    _bar(3, arguments.sample_steps)
    while True:
        time.sleep(1000)


def _bar(step: int, steps: int) -> None:
    """As tqdm draws it: after a carriage return, without an end of line."""
    share = step / steps
    blocks = f"{'#' * int(10 * share):10}"
    sys.stderr.write(f"\r{int(100 * share):3}%|{blocks}| {step}/{steps} [00:{step:02}<00:{steps - step:02},  1.00it/s]")
    sys.stderr.flush()


def _save(arguments: argparse.Namespace, prompt: str) -> None:
    width, height = (int(part) for part in arguments.size.split("*"))
    path, frames = arguments.save_file, arguments.frame_num
    if "!nothing" in prompt:
        print("cache_video failed, error: no space left")
        return
    if "!text" in prompt:
        path.write_text("Error: the server has refused the request\n")
        return
    if "!picture" in prompt:
        from PIL import Image

        Image.fromarray(_frame(arguments.base_seed, 0, width, height)).save(path, "PNG")
        return
    if "!more" in prompt:
        frames += FRAMES_MORE
    if "!small" in prompt:
        width, height = width // 2, height // 2
    codec = "mpeg4" if "!mpeg4" in prompt else "libx264"
    write_video(path, arguments.base_seed, frames, width, height, codec=codec, rate=24 if "!fast" in prompt else 16,
                blank="!blank" in prompt)  # fmt: skip
    if "!truncated" in prompt:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])


def write_video(
    path: Path, seed: int, frames: int, width: int, height: int,
    *, codec: str = "libx264", rate: int = 16, blank: bool = False, options: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Write an MP4 as WAN's code does, its index behind its pictures unless `options` say otherwise."""
    with av.open(str(path), "w", format="mp4", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            pixels = numpy.full((height, width, 3), 90, "uint8") if blank else _frame(seed, number, width, height)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def _frame(seed: int, number: int, width: int, height: int) -> Any:
    """A gradient that has moved a little further than in the frame before; the seed turns its colours."""
    across = numpy.linspace(0, 1, width)[None, :] + numpy.linspace(0, 1, height)[:, None] + number / 16
    waves = [0.5 + 0.4 * numpy.sin(2 * numpy.pi * (across + (seed % 997) / 997 + shift)) for shift in (0, 0.33, 0.66)]
    return numpy.rint(255 * numpy.stack(waves, axis=-1)).astype("uint8")


if __name__ == "__main__":
    main()
