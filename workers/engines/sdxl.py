"""Drawing with Stable Diffusion XL by diffusers' own pipelines: a batch per request, repeatable to the byte.

Without a reference it is text-to-image; with one an IP-Adapter where it is configured, and else image-to-image.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from PIL import Image

from workers.adapters import IMAGE_ENCODER
from workers.engines.config import LOADING
from workers.engines.drawing import Host, Resident, Run, Say, deliver, described, seed_of
from workers.engines.faults import Asked
from workers.engines.messages import Alive, Generate
from workers.engines.png import encode_png
from workers.engines.prompting import encode
from workers.engines.sdxl_adapter import NETWORK, adapter_digest, adapter_of
from workers.engines.sdxl_reference import adapter_scale, denoising_strength, framed, judge_reference, squared
from workers.models import render_size
from workers.presets import IP_ADAPTER


class SdxlDrawing:
    """One request's batch on its way through the pipeline."""

    def __init__(self, host: Host, resident: Resident, request: Generate, say: Say) -> None:
        """Raises InvalidParameters for what SDXL cannot do with a reference, Misconfigured for the adapter's files."""
        self._host = host
        self._resident = resident
        self._request = request
        self._say = say
        self._run = Run(host, resident, request, say)
        self._size = render_size(request.width, request.height, resident.spec.render_scale)
        self._batch = request.num_images
        self._pixels: dict[int, Any] = {}  # image → (height, width, 3) of 0..1
        self._scheduler = type(resident.pipeline.scheduler).__name__
        if judge_reference(request):
            self._run.reference_way = "img2img"
            if host.sdxl_ip_adapter is not None:
                self._run.reference_way = f"{NETWORK}:{request.reference_type}"
                # The first time every byte of it is read, which may take longer than a silence is allowed to be.
                say(Alive(request_id=request.request_id, doing=f"{LOADING} {IP_ADAPTER}"))
                self._run.adapters = {IP_ADAPTER: adapter_digest(host, resident)}

    def reduce(self) -> str | None:
        """See `Drawing`: the batch is halved, 6 to 3 to 1."""
        before, self._batch = self._batch, max(1, self._batch // 2)
        if before == self._batch:
            return None
        return f"no memory on {self._host.device} for {before} images at once; they are drawn {self._batch} at a time"

    def denoise(self, cancelled: Callable[[], Asked]) -> None:
        """See `Drawing`. Besides, it raises what reading the reference and loading the adapter raise."""
        request = self._request
        with self._way() as (pipeline, how):
            # diffusers brings it to float32 for a while, and leaves it there when that fails, as without memory.
            pipeline.vae.to(pipeline.unet.dtype)
            words = encode(pipeline, request.prompt, request.negative_prompt)
            for indexes in self._missing():
                # A scheduler holds the state of a run, so each gets one of its own.
                pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
                arguments = {
                    **words,
                    **how,
                    "num_inference_steps": request.steps,
                    "guidance_scale": request.guidance_scale,
                    "num_images_per_prompt": len(indexes),
                    "generator": [torch.Generator("cpu").manual_seed(seed_of(request, index)) for index in indexes],
                }
                images = self._run.of(pipeline, arguments, cancelled, part=f"{indexes[0]}-{indexes[-1]}").images
                self._pixels.update(zip(indexes, images, strict=True))
                self._run.batches.append(len(indexes))

    def _missing(self) -> Iterator[range]:
        """The parts of the batch in which an image is missing. A part is drawn whole, as it was composed."""
        for first in range(0, self._request.num_images, self._batch):
            indexes = range(first, min(first + self._batch, self._request.num_images))
            if not set(indexes) <= {*self._request.done, *self._pixels}:
                yield indexes

    @contextmanager
    def _way(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The pipeline that draws this request, and what it is told beside the words; all of it on the device."""
        request, pipeline = self._request, self._resident.pipeline
        parts = [name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)]
        width, height = self._size
        size = {"width": width, "height": height}
        if self._run.reference_way is None:
            self._resident.bring(*parts)
            yield pipeline, size
        elif self._host.sdxl_ip_adapter is None:
            picture = framed(request, width, height)
            self._resident.bring(*parts)
            # Never from_pipe: it would cast the shared networks to float32.
            over = StableDiffusionXLImg2ImgPipeline(**pipeline.components, add_watermarker=False)
            over.set_progress_bar_config(disable=True)
            yield over, {"image": picture, "strength": self._denoising}
        else:
            picture = squared(request)
            adapter = adapter_of(self._host, self._resident, self._say, request.request_id)
            self._resident.bring(IMAGE_ENCODER)
            seen = adapter.look(picture, self._host.device, guided=request.guidance_scale > 1)
            self._resident.bring(*parts, NETWORK)
            with adapter.worn(adapter_scale(request.reference_type, request.reference_strength)):
                yield pipeline, {**size, "ip_adapter_image_embeds": seen}

    @property
    def _denoising(self) -> float:
        return denoising_strength(self._request.reference_strength, self._request.steps)

    def finish(self) -> None:
        """See `Drawing`."""
        request = self._request
        for index in sorted(set(range(request.num_images)) - set(request.done)):
            started = time.monotonic()
            if not numpy.isfinite(self._pixels[index]).all():
                raise ArithmeticError(f"image {index} came out of the decoder as NaN")
            # Rounded as diffusers' numpy_to_pil does, so that the pixels are those of a direct call.
            image = Image.fromarray((self._pixels[index] * 255).round().astype("uint8"))
            data = encode_png(image, self._parameters(index))
            deliver(request, self._say, data, index=index, size=image.size, frames=1, started=started)
        self._say(self._run.generated())

    def _parameters(self, index: int) -> Mapping[str, str]:
        request = self._request
        words = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
        how = {
            "seed": str(seed_of(request, index)),
            "steps": str(request.steps),
            "guidance_scale": str(request.guidance_scale),
            "size": f"{self._size[0]}x{self._size[1]}",
            "batch": f"{index + 1} of {request.num_images}",
            "scheduler": self._scheduler,
            **self._reference(),
        }
        may = request.embed_prompt and self._host.embed_prompt
        return described(self._host, self._resident, words if may else {}, how)

    def _reference(self) -> Mapping[str, str]:
        """How the reference was used; never where it came from."""
        if self._run.reference_way is None:
            return {}
        return {
            "reference_way": self._run.reference_way,
            "reference_type": self._request.reference_type,
            "reference_strength": str(self._request.reference_strength),
            "reference_fit": self._request.reference_fit,
            **(self._run.adapters or {"denoising_strength": f"{self._denoising:.4g}"}),
        }
