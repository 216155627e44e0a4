"""Drawing with WAN text-to-video by diffusers' own pipeline: one frame is a picture, more are a video."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image

from workers.engines.drawing import Host, Resident, Run, Say, described
from workers.engines.faults import InvalidParameters
from workers.engines.messages import AssetWritten, Generate
from workers.engines.mp4 import encode_mp4
from workers.engines.png import encode_png
from workers.models import render_size
from workers.presets import WAN_FPS, WAN_SHIFT, WAN_SOLVER
from workers.spool import sha256, write_durably

_MULTIPLE: Final = 16  # the VAE's 8 times the transformer's patch of 2


class WanDrawing:
    """One request's picture or video on its way through the pipeline. A negative prompt is never passed on."""

    def __init__(self, host: Host, resident: Resident, request: Generate, say: Say) -> None:
        """Raises InvalidParameters for what WAN does not do."""
        if request.num_images != 1:
            raise InvalidParameters(f"WAN makes 1 picture or video a job, got num_images {request.num_images}")
        if request.solver not in (None, WAN_SOLVER):
            raise InvalidParameters(f"the solver must be {WAN_SOLVER}, got {request.solver}")
        self._host = host
        self._resident = resident
        self._request = request
        self._say = say
        self._run = Run(host, request, say)
        self._size = render_size(request.width, request.height, resident.spec.render_scale, multiple=_MULTIPLE)
        self._frames = 4 * ((request.frames - 1) // 4) + 1  # what the VAE makes; diffusers would make 85 of 84
        self._shift = WAN_SHIFT if request.shift is None else request.shift
        self._pixels: Any = None  # (frames, height, width, 3) of uint8

    def reduce(self) -> str | None:
        """See `Drawing`: one picture or video is no batch."""
        return None

    def denoise(self, cancelled: Callable[[], bool]) -> None:
        """See `Drawing`."""
        request, pipeline = self._request, self._resident.pipeline
        self._resident.bring()
        # A scheduler holds the state of a run, so each gets one of its own.
        pipeline.scheduler = UniPCMultistepScheduler.from_config(
            pipeline.scheduler.config,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=self._shift,
        )
        width, height = self._size
        arguments = {
            "prompt": request.prompt,
            "width": width,
            "height": height,
            "num_frames": self._frames,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
        }
        self._pixels = _rounded(self._run.of(pipeline, arguments, cancelled).frames[0])

    def finish(self) -> None:
        """See `Drawing`."""
        if not self._request.done:
            self._write()
        self._say(self._run.generated(self._resident))

    def _write(self) -> None:
        started = time.monotonic()
        request, spool = self._request, Path(self._request.spool)
        if self._frames == 1:
            name, content_type = "asset_0.png", "image/png"
            data = encode_png(Image.fromarray(self._pixels[0]), self._parameters())
        else:
            name, content_type = "asset_0.mp4", "video/mp4"
            comment = json.dumps(self._parameters(), ensure_ascii=False)
            data = encode_mp4(self._pixels, fps=WAN_FPS, comment=comment, folder=spool)
        write_durably(spool / name, data)
        self._say(
            AssetWritten(
                request_id=request.request_id,
                index=0,
                seed=request.seed,
                name=name,
                digest=sha256(data),
                bytes=len(data),
                width=self._size[0],
                height=self._size[1],
                frames=self._frames,
                seconds=time.monotonic() - started,
                content_type=content_type,
            )
        )

    def _parameters(self) -> dict[str, str]:
        request = self._request
        how = {
            "seed": str(request.seed),
            "steps": str(request.steps),
            "guidance_scale": str(request.guidance_scale),
            "shift": str(self._shift),
            "size": f"{self._size[0]}x{self._size[1]}",
            "frames": str(self._frames),
            "scheduler": UniPCMultistepScheduler.__name__,
        }
        may = request.embed_prompt and self._host.embed_prompt
        return described(self._host, self._resident, {"prompt": request.prompt} if may else {}, how)


def _rounded(pixels: Any) -> Any:
    """0..1 as 0..255 of uint8, rounded as diffusers' numpy_to_pil does.

    In place and before the frames wait for the encoder: 81 of 480 x 832 are 390 MB as floats, and 97 MB as bytes.
    """
    if not numpy.isfinite(pixels).all():
        raise ArithmeticError("the frames came out of the decoder as NaN")
    pixels *= 255
    return numpy.rint(pixels, out=pixels).astype("uint8")
