"""The engine on diffusers: one device, one resident model at a time, whatever its family."""

import time
from collections.abc import Callable
from typing import Any, Final

import torch

from workers.engines import device
from workers.engines.config import LOADING, EngineConfig
from workers.engines.drawing import Drawing, Host, Resident, Say, judge
from workers.engines.faults import Cancelled, InvalidParameters
from workers.engines.loading import load_sdxl, load_wan
from workers.engines.messages import Alive, Generate, Loaded
from workers.engines.sdxl import SdxlDrawing
from workers.engines.wan import WanDrawing
from workers.errors import Misconfigured
from workers.models import DIGESTS, inspect_model
from workers.presets import KNOWN_VARIANTS, PRESETS, SDXL, WAN

_LOADERS: Final[dict[str, Callable[..., Any]]] = {SDXL: load_sdxl, WAN: load_wan}
_DRAWINGS: Final[dict[str, Callable[[Host, Resident, Generate, Say], Drawing]]] = {SDXL: SdxlDrawing, WAN: WanDrawing}


class DiffusersEngine:
    """Draws on one device. Not thread-safe: the device has one thread.

    What it returns from `draw` touches no device and belongs on another thread.
    """

    can_enhance = False

    def __init__(self, config: EngineConfig) -> None:
        """Set the device up. Raises Misconfigured when it is not there."""
        self.config = config
        device.prepare(config.device_key, config.threads)
        self.host = Host(
            engine="diffusers",
            device=config.device_key,
            device_name=device.device_name(config.device_key),
            threads=torch.get_num_threads(),
            versions=device.versions(),
            embed_prompt=config.embed_prompt,
        )
        self.families = sorted({KNOWN_VARIANTS[name] for name in config.models if name in KNOWN_VARIANTS})
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
        raise MemoryError(f"no memory on {self.host.device} for {request.num_images} x {request.frames} frames")

    def _draw(self, request: Generate, say: Say, cancelled: Callable[[], bool]) -> Callable[[], None]:
        judge(request)
        if request.job_type not in PRESETS:
            raise InvalidParameters(f"job type {request.job_type!r} is unknown; known: {', '.join(PRESETS)}")
        family = PRESETS[request.job_type].family
        resident = self._model(request, family, say)
        if cancelled():
            raise Cancelled
        drawing = _DRAWINGS[family](self.host, resident, request, say)
        if len(set(request.done)) < request.num_images:
            drawing.denoise(cancelled)
        return drawing.finish

    def _model(self, request: Generate, family: str, say: Say) -> Resident:
        """The model that the request names, loaded if it is not resident; another one makes room first."""
        if request.model not in self.config.models:
            known = ", ".join(sorted(self.config.models)) or "none"
            raise InvalidParameters(f"model {request.model!r} is not configured; known: {known}")
        asked = (request.model, family)
        if self._resident is not None and (self._resident.spec.name, self._resident.spec.family) == asked:
            return self._resident
        say(Alive(request_id=request.request_id, doing=f"{LOADING} {request.model}"))
        started = time.monotonic()
        if self._resident is not None:
            self._resident = None
            device.free()
        spec = inspect_model(
            request.model,
            family,
            self.config.models[request.model],
            cache=self.config.lock_dir / DIGESTS,
            compute_digest=True,
        )
        if spec.problem is not None:
            raise Misconfigured(spec.problem, error_type="ModelUnusable")
        dtype = device.dtype_of(self.config.dtype, self.host.device)
        self._resident = Resident(spec, _LOADERS[family](spec.path, dtype=dtype, device=self.host.device))
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
