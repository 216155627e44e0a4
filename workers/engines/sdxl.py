"""Drawing with Stable Diffusion XL by diffusers' own pipeline: one batch per request, repeatable to the byte."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from PIL import Image

from workers.engines import device
from workers.engines.config import LOADING, EngineConfig
from workers.engines.faults import Cancelled, InvalidParameters
from workers.engines.loading import load_sdxl
from workers.engines.messages import Alive, AssetWritten, Generate, Generated, Loaded, Message, Progress
from workers.engines.png import encode_png
from workers.errors import Misconfigured
from workers.models import DIGESTS, ModelSpec, inspect_model, render_size
from workers.spool import sha256, write_durably

Say = Callable[[Message], None]

SEEDS: Final = 2**63
"""Image i of a batch is drawn with (seed + i) modulo this."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is on the device."""

    spec: ModelSpec
    pipeline: Any

    @property
    def digest(self) -> str:
        """Of its files as they were when it was loaded."""
        return self.spec.digest or ""


class SdxlEngine:
    """Draws on one device and keeps one model resident. Not thread-safe: the device has one thread.

    What it returns from `draw` touches no device and belongs on another thread.
    """

    name = "diffusers"
    families = ("sdxl",)
    can_enhance = False

    def __init__(self, config: EngineConfig) -> None:
        """Set the device up. Raises Misconfigured when it is not there."""
        self.config = config
        self.device = config.device_key
        device.prepare(self.device, config.threads)
        self.device_name = device.device_name(self.device)
        self.versions = device.versions()
        self.threads: int = torch.get_num_threads()
        self._resident: Resident | None = None

    def draw(self, request: Generate, say: Say, cancelled: Callable[[], bool]) -> Callable[[], None]:
        """Denoise and decode; return what is left to do: encode, write, and say AssetWritten and Generated.

        Raises Cancelled between steps, InvalidParameters, Misconfigured for the model's files, or what torch raises.
        """
        try:
            return self._draw(request, say, cancelled)
        except RuntimeError as error:
            out_of_memory = type(error).__name__ == "OutOfMemoryError"
            if not out_of_memory:
                raise
        # Outside the except block: the exception's frames held the tensors that are to be freed.
        device.free()
        raise MemoryError(f"no memory on {self.device} for {request.num_images} images")

    def _draw(self, request: Generate, say: Say, cancelled: Callable[[], bool]) -> Callable[[], None]:
        _judge(request)
        resident = self._model(request, say)
        if cancelled():
            raise Cancelled
        drawing = Drawing(self, resident, request, say)
        if set(request.done) >= set(range(request.num_images)):
            return drawing.finish
        drawing.denoise(cancelled)
        return drawing.finish

    def _model(self, request: Generate, say: Say) -> Resident:
        """The model that the request names, loaded if it is not resident; another one makes room first."""
        if request.model not in self.config.models:
            known = ", ".join(sorted(self.config.models)) or "none"
            raise InvalidParameters(f"model {request.model!r} is not configured; known: {known}")
        if self._resident is not None and self._resident.spec.name == request.model:
            return self._resident
        say(Alive(request_id=request.request_id, doing=f"{LOADING} {request.model}"))
        started = time.monotonic()
        if self._resident is not None:
            self._resident = None
            device.free()
        spec = inspect_model(
            request.model,
            "sdxl",
            self.config.models[request.model],
            cache=self.config.lock_dir / DIGESTS,
            compute_digest=True,
        )
        if spec.problem is not None:
            raise Misconfigured(spec.problem, error_type="ModelUnusable")
        dtype = device.dtype_of(self.config.dtype, self.device)
        self._resident = Resident(spec, load_sdxl(spec.path, dtype=dtype, device=self.device))
        say(
            Loaded(
                request_id=request.request_id,
                model=request.model,
                seconds=time.monotonic() - started,
                bytes=spec.bytes,
                digest=self._resident.digest,
            )
        )
        return self._resident


class Drawing:
    """One request's batch on its way through the pipeline."""

    def __init__(self, engine: SdxlEngine, resident: Resident, request: Generate, say: Say) -> None:
        self._engine = engine
        self._resident = resident
        self._request = request
        self._say = say
        self._size = render_size(request.width, request.height, resident.spec.render_scale)
        self._pixels: Any = None
        self._scheduler = type(resident.pipeline.scheduler).__name__
        self._seconds = 0.0
        self._memory: dict[str, float] = {}

    def denoise(self, cancelled: Callable[[], bool]) -> None:
        """Run the pipeline on this thread; afterwards the pixels are in host memory, (n, height, width, 3), 0..1."""
        request, pipeline = self._request, self._resident.pipeline
        # A scheduler holds the state of a run, so each gets one of its own.
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        device.start_measuring(self._engine.device)
        started = last = time.monotonic()

        def after_step(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal last
            device.wait_for(self._engine.device)
            now = time.monotonic()
            of = pipeline.num_timesteps
            self._say(Progress(request_id=request.request_id, step=index + 1, of=of, seconds=now - last))
            last = now
            if cancelled():
                raise Cancelled
            if index + 1 == of:
                self._say(Alive(request_id=request.request_id, doing="decoding"))
            return tensors

        width, height = self._size
        self._pixels = pipeline(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,  # "" is encoded as a text; None would be zeros
            width=width,
            height=height,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            num_images_per_prompt=request.num_images,
            generator=[torch.Generator("cpu").manual_seed(self._seed(i)) for i in range(request.num_images)],
            output_type="np",
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["latents"],
        ).images
        self._seconds = time.monotonic() - started
        self._memory = device.memory(self._engine.device)

    def finish(self) -> None:
        """Encode and write the images that are not done yet, in order, and say so. Needs no device."""
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
        self._say(
            Generated(
                request_id=request.request_id,
                device_seconds=self._seconds,
                engine=self._engine.name,
                model_digest=self._resident.digest,
                memory=self._memory or device.memory(self._engine.device),
                versions=self._engine.versions,
                threads=self._engine.threads,
                batches=[request.num_images],
                render_scale=str(self._resident.spec.render_scale),
            )
        )

    def _seed(self, index: int) -> int:
        return (self._request.seed + index) % SEEDS

    def _parameters(self, index: int) -> Mapping[str, str]:
        """What the file tells of its making: no host, no user, and no words of the user's where a setting says so."""
        request, engine = self._request, self._engine
        words = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
        return {
            "Software": f"ourvidz {engine.versions['ourvidz']}",
            **(words if request.embed_prompt and engine.config.embed_prompt else {}),
            "seed": str(self._seed(index)),
            "steps": str(request.steps),
            "guidance_scale": str(request.guidance_scale),
            "size": f"{self._size[0]}x{self._size[1]}",
            "batch": f"{index + 1} of {request.num_images}",
            "model": request.model,
            "model_digest": self._resident.digest,
            "scheduler": self._scheduler,
            "versions": " ".join(f"{name}={version}" for name, version in sorted(engine.versions.items())),
        }


def _judge(request: Generate) -> None:
    """Refuse what no model could draw, before one is loaded for it. Raises InvalidParameters."""
    if not request.job_type.startswith("sdxl_"):
        raise InvalidParameters(f"job type {request.job_type!r} is not drawn by SDXL")
    for name in ("width", "height", "steps", "num_images"):
        if getattr(request, name) < 1:
            raise InvalidParameters(f"{name} must be at least 1, got {getattr(request, name)}")
    if not 0 <= request.seed < SEEDS:
        raise InvalidParameters(f"seed must be in 0..2**63-1, got {request.seed}")
    if not set(request.done) <= set(range(request.num_images)):
        raise InvalidParameters(f"done names images {request.done} of a batch of {request.num_images}")
