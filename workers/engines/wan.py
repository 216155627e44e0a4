"""Drawing with WAN by diffusers' own pipelines: one frame is a picture, more are a video.

In two phases, since the text encoder is larger than all the rest: first the prompt, then the frames, while the text
encoder may lie in the host's memory.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image

from workers.engines import device, wan_references
from workers.engines.drawing import Host, Resident, Run, Say, deliver, described
from workers.engines.faults import Asked, Cancelled, InvalidParameters
from workers.engines.messages import Alive, Generate, Reduced
from workers.engines.mp4 import encode_mp4
from workers.engines.png import encode_png
from workers.engines.wan_clamp import LatentClamp
from workers.engines.wan_references import Given, Way, mode_of
from workers.engines.wan_vace import conditioned
from workers.models import render_size
from workers.presets import WAN_FPS, WAN_SHIFT, WAN_SOLVER, WAN_VACE

TOKENS: Final = 512
"""To which diffusers' WAN pipelines bring a prompt; longer ones are cut."""

_MULTIPLE: Final = 16  # the VAE's 8 times the transformer's patch of 2
_OPTIONS: Final = ("boundary_ratio", "expand_timesteps")  # of a pipeline, beside its parts


class WanDrawing:
    """One request's picture or video on its way through the pipeline. A negative prompt is never passed on."""

    def __init__(self, host: Host, resident: Resident, request: Generate, say: Say) -> None:
        """Raises InvalidParameters for what WAN does not do."""
        if request.num_images != 1:
            raise InvalidParameters(f"WAN makes 1 picture or video a job, got num_images {request.num_images}")
        if request.solver not in (None, WAN_SOLVER):
            raise InvalidParameters(f"the solver must be {WAN_SOLVER}, got {request.solver}")
        if request.references and not 0 < request.reference_strength <= 1:
            raise InvalidParameters(f"reference_strength must be in 0..1, got {request.reference_strength}")
        self._host = host
        self._resident = resident
        self._request = request
        self._say = say
        self._mode = mode_of([reference.role for reference in request.references])
        self._way: Way = "vace" if resident.spec.family == WAN_VACE else "latent_clamp"
        self._run = Run(host, resident, request, say, reference_way=self._way if request.references else None)
        self._size = render_size(request.width, request.height, resident.spec.render_scale, multiple=_MULTIPLE)
        self._frames = 4 * ((request.frames - 1) // 4) + 1  # what the VAE makes; diffusers would make 85 of 84
        self._shift = WAN_SHIFT if request.shift is None else request.shift
        self._prompt: dict[str, Any] | None = None
        self._pixels: Any = None  # (frames, height, width, 3) of uint8

    def reduce(self) -> str | None:
        """See `Drawing`: one picture or video is no batch."""
        return None

    def denoise(self, cancelled: Callable[[], Asked]) -> None:
        """See `Drawing`. Raises what `reference_files.read` does for a reference that is not as it was told."""
        request = self._request
        given, less = wan_references.read(request, self._size, frames=self._frames, way=self._way)
        if self._prompt is None:
            if less is not None:
                self._say(Reduced(request_id=request.request_id, what="references", why=less))
            saved = self._run.saved()  # with it the text encoder, larger than all the rest, need not be brought
            known = {} if saved is None else saved.more
            self._prompt = {name: part.to(self._host.device) for name, part in known.items()} or self._encoded()
        if cancelled():
            raise Cancelled
        pipeline = self._denoiser()
        self._resident.bring(*(name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)))
        width, height = self._size
        arguments = {
            **self._prompt,
            "width": width,
            "height": height,
            "num_frames": self._frames,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
        }
        clamp = None
        if self._way == "vace":
            arguments |= conditioned(given, self._size, frames=self._frames, strength=request.reference_strength)
        elif request.references:
            clamp = self._clamp(given, pipeline, arguments)
        self._pixels = _rounded(self._run.of(pipeline, arguments, cancelled, clamp, more=self._prompt).frames[0])

    def _encoded(self) -> dict[str, Any]:
        """The prompt for the transformer, and the empty one beside it as the pipelines have it; never a negative."""
        request, pipeline = self._request, self._resident.pipeline
        self._resident.bring("text_encoder")
        started = time.monotonic()
        self._say(Alive(request_id=request.request_id, doing="encoding the prompt"))
        with torch.no_grad():
            prompt, nothing = pipeline.encode_prompt(
                request.prompt,
                do_classifier_free_guidance=request.guidance_scale > 1,
                max_sequence_length=TOKENS,
                device=self._host.device,
            )
        device.wait_for(self._host.device)
        self._run.seconds += time.monotonic() - started
        return {"prompt_embeds": prompt, "negative_prompt_embeds": nothing}

    def _denoiser(self) -> Any:
        """The pipeline with the same networks, save the text encoder: where that lies, it would put the latents.

        A scheduler holds the state of a run, so each gets one of its own.
        """
        pipeline = self._resident.pipeline
        scheduler = UniPCMultistepScheduler.from_config(
            pipeline.scheduler.config,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=self._shift,
        )
        parts = {**pipeline.components, "tokenizer": None, "text_encoder": None, "scheduler": scheduler}
        options = {name: pipeline.config[name] for name in _OPTIONS if name in pipeline.config}
        denoiser = type(pipeline)(**parts, **options)
        denoiser.set_progress_bar_config(disable=True)
        return denoiser

    def _clamp(self, given: Given, pipeline: Any, arguments: dict[str, Any]) -> LatentClamp:
        """Draws the latents that the pipeline would have drawn: the clamp has to know them."""
        request, (width, height) = self._request, self._size
        arguments["latents"] = pipeline.prepare_latents(
            1,
            pipeline.transformer.config.in_channels,
            height,
            width,
            self._frames,
            torch.float32,
            torch.device(self._host.device),
            arguments["generator"],
        )
        return LatentClamp(given, pipeline, arguments["latents"], strength=request.reference_strength)

    def finish(self) -> None:
        """See `Drawing`."""
        if not self._request.done:
            self._write()
        self._say(self._run.generated())

    def _write(self) -> None:
        started = time.monotonic()
        request, spool = self._request, Path(self._request.spool)
        if self._frames == 1:
            data = encode_png(Image.fromarray(self._pixels[0]), self._parameters())
        else:
            comment = json.dumps(self._parameters(), ensure_ascii=False)
            data = encode_mp4(self._pixels, fps=WAN_FPS, comment=comment, folder=spool)
        deliver(request, self._say, data, size=self._size, frames=self._frames, started=started)

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
        if request.references:
            how |= {
                "reference_mode": self._mode,
                "reference_way": self._way,
                "reference_strength": str(request.reference_strength),
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
