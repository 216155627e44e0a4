"""Drawing with Stable Diffusion XL by diffusers' own pipeline: one batch per request, repeatable to the byte."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image

from workers.engines.drawing import SEEDS, Host, Resident, Run, Say, described
from workers.engines.messages import AssetWritten, Generate
from workers.engines.png import encode_png
from workers.models import render_size
from workers.spool import sha256, write_durably


class SdxlDrawing:
    """One request's batch on its way through the pipeline."""

    def __init__(self, host: Host, resident: Resident, request: Generate, say: Say) -> None:
        self._host = host
        self._resident = resident
        self._request = request
        self._say = say
        self._run = Run(host, request, say)
        self._size = render_size(request.width, request.height, resident.spec.render_scale)
        self._pixels: Any = None
        self._scheduler = type(resident.pipeline.scheduler).__name__

    def reduce(self) -> str | None:
        """See `Drawing`."""
        return None

    def denoise(self, cancelled: Callable[[], bool]) -> None:
        """See `Drawing`. The pixels are (n, height, width, 3), 0..1."""
        request, pipeline = self._request, self._resident.pipeline
        self._resident.bring()
        # A scheduler holds the state of a run, so each gets one of its own.
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        width, height = self._size
        arguments = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,  # "" is encoded as a text; None would be zeros
            "width": width,
            "height": height,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "num_images_per_prompt": request.num_images,
            "generator": [torch.Generator("cpu").manual_seed(self._seed(i)) for i in range(request.num_images)],
        }
        self._pixels = self._run.of(pipeline, arguments, cancelled).images

    def finish(self) -> None:
        """See `Drawing`."""
        request = self._request
        spool = Path(request.spool)
        for index in sorted(set(range(request.num_images)) - set(request.done)):
            started = time.monotonic()
            if not numpy.isfinite(self._pixels[index]).all():
                raise ArithmeticError(f"image {index} came out of the decoder as NaN")
            # Rounded as diffusers' numpy_to_pil does, so that the pixels are those of a direct call.
            image = Image.fromarray((self._pixels[index] * 255).round().astype("uint8"))
            data = encode_png(image, self._parameters(index))
            name = f"asset_{index}.png"
            write_durably(spool / name, data)
            self._say(
                AssetWritten(
                    request_id=request.request_id,
                    index=index,
                    seed=self._seed(index),
                    name=name,
                    digest=sha256(data),
                    bytes=len(data),
                    width=image.width,
                    height=image.height,
                    frames=1,
                    seconds=time.monotonic() - started,
                    content_type="image/png",
                )
            )
        self._say(self._run.generated(self._resident))

    def _seed(self, index: int) -> int:
        return (self._request.seed + index) % SEEDS

    def _parameters(self, index: int) -> Mapping[str, str]:
        request = self._request
        words = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
        how = {
            "seed": str(self._seed(index)),
            "steps": str(request.steps),
            "guidance_scale": str(request.guidance_scale),
            "size": f"{self._size[0]}x{self._size[1]}",
            "batch": f"{index + 1} of {request.num_images}",
            "scheduler": self._scheduler,
        }
        may = request.embed_prompt and self._host.embed_prompt
        return described(self._host, self._resident, words if may else {}, how)
