"""The engine on diffusers: one device, and on it a pool of models of every family."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from workers.engines import device
from workers.engines.config import LOADING, EngineConfig, WanScript
from workers.engines.drawing import Drawing, Host, Resident, Say, judge
from workers.engines.enhancing import enhanced
from workers.engines.faults import Asked, Cancelled, InvalidParameters, out_of_memory
from workers.engines.loading import load_sdxl, load_wan, load_wan_vace
from workers.engines.messages import Alive, Enhance, Enhanced, Generate, Loaded, Reduced
from workers.engines.pool import Part, Place, Pool
from workers.engines.qwen import load_qwen
from workers.engines.sdxl import SdxlDrawing
from workers.engines.wan import WanDrawing
from workers.engines.wan_script import WanScriptDrawing
from workers.enhanced_text import too_long
from workers.errors import Misconfigured
from workers.models import DIGESTS, ModelSpec, inspect_model
from workers.presets import KNOWN_VARIANTS, PRESETS, QWEN, QWEN_7B, SDXL, WAN, WAN_VACE, WAN_VACE_1_3B
from workers.weights import DigestCache, digest_of

LEFT_FREE: Final = 0.2
"""Of a GPU's memory, for what is neither weights nor known before: activations, the decoder, fragments."""


class Source(NamedTuple):
    """A model that may be loaded: the name by which the history knows it, its family, where it lies."""

    name: str
    family: str
    path: Path


class Recipe(NamedTuple):
    """What is done with a family's models. `parked` are the parts that go to the host's memory first.

    `draw` is None for a family that draws nothing. `shared` are parts that a model of another family may hold as well:
    of equal files, one is loaded for both.
    """

    load: Callable[..., Any]
    draw: Callable[[Host, Resident, Generate, Say], Drawing] | None
    parked: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()


RECIPES: Final[Mapping[str, Recipe]] = {
    SDXL: Recipe(load_sdxl, SdxlDrawing, frozenset({"image_encoder"})),
    WAN: Recipe(load_wan, WanDrawing, frozenset({"text_encoder"}), frozenset({"text_encoder", "vae"})),
    WAN_VACE: Recipe(load_wan_vace, WanDrawing, frozenset({"text_encoder"}), frozenset({"text_encoder", "vae"})),
    QWEN: Recipe(load_qwen, None, frozenset({"model"})),
}


@dataclass(eq=False)
class ModulePart(Part):
    """A network of torch's. `digest` is of its files, where other models may have the same."""

    module: Any = None
    digest: str | None = None


class DiffusersEngine:
    """Draws on one device. Not thread-safe: the device has one thread.

    What it returns from `draw` touches no device and belongs on another thread.
    """

    def __init__(self, config: EngineConfig) -> None:
        """Set the device up. Raises Misconfigured when it is not there."""
        self.config = config
        device.prepare(config.device_key, config.threads)
        self.host = Host(
            engine="diffusers",
            device=config.device_key,
            device_name=device.device_name(config.device_key),
            threads=torch.get_num_threads(),
            versions=device.versions(config.device_key),
            embed_prompt=config.embed_prompt,
            sdxl_ip_adapter=config.sdxl_ip_adapter,
            digests=config.lock_dir / DIGESTS,
        )
        self.families = sorted({KNOWN_VARIANTS[name] for name in config.models if name in KNOWN_VARIANTS})
        self.can_enhance = config.qwen is not None
        self.pool = Pool(self._budget(), device.free)
        self._loaded: dict[str, tuple[ModelSpec, Any, dict[str, Any]]] = {}

    def draw(self, request: Generate, say: Say, cancelled: Callable[[], Asked]) -> Callable[[], None]:
        """Denoise and decode; return what is left to do: encode, write, and say AssetWritten and Generated.

        Out of memory, the other models go first, then what lies idle of its own, then the batch is made smaller.
        Raises Cancelled between steps, InvalidParameters, Misconfigured for the model's files, MemoryError, or what
        torch raises.
        """
        judge(request)
        source = self._source(request)
        while (made := self._made(source, request, say)) is None:
            device.free()
            if not self.pool.release_others(source.name, say, request.request_id):
                raise MemoryError(f"no memory to load {source.name}")
        drawing, resident = made
        if cancelled():
            raise Cancelled
        if len(set(request.done)) == request.num_images:
            return drawing.finish
        spared = False
        while not self._fits(drawing, cancelled):
            # Outside the except block: the exception's frames held the tensors that are to be freed.
            device.free()
            if self.pool.release_others(source.name, say, request.request_id):
                continue
            if not spared and self.pool.spare(source.name, say, request.request_id):
                spared = True  # once: what is brought again is no room
                continue
            why = drawing.reduce()
            if why is None:
                what = f"{request.num_images} x {request.frames} frames"
                raise MemoryError(f"no memory on {self.host.device} for {what}")
            say(Reduced(request_id=request.request_id, what="batch", why=why))
        if resident is not None:
            resident.forget()
        return drawing.finish

    def enhance(self, request: Enhance, say: Say, cancelled: Callable[[], bool]) -> Enhanced:
        """Answer one prompt. Out of memory, the other models go first; where that is not enough, it is the reason.

        Raises Cancelled between tokens, Misconfigured for the model's files, or what torch raises.
        """
        if self.config.qwen is None:
            return _no_text(request, "no enhancer model is configured")
        reason = too_long(request.prompt)
        if reason is not None:
            return _no_text(request, reason)
        source = Source(QWEN_7B, QWEN, self.config.qwen)
        while (answer := self._enhanced(source, request, say, cancelled)) is None:
            device.free()  # as in draw
            if not self.pool.release_others(source.name, say, request.request_id):
                return _no_text(request, f"no memory on {self.host.device} for the enhancer")
        return answer

    def _enhanced(self, source: Source, request: Enhance, say: Say, cancelled: Callable[[], bool]) -> Enhanced | None:
        """None when there was no memory for it."""
        try:
            resident, _ = self._resident(source, say, request.request_id)
            if cancelled():
                raise Cancelled
            return enhanced(resident, request, say, cancelled)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return None

    def _made(self, source: Source, request: Generate, say: Say) -> tuple[Drawing, Resident | None] | None:
        """The drawing, its model loaded; None when there was no memory for that."""
        try:
            return self._drawing(source, request, say)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return None

    def _drawing(self, source: Source, request: Generate, say: Say) -> tuple[Drawing, Resident | None]:
        script = self.config.wan_script
        if script is not None and source.family == WAN:
            return self._scripted(script, source, request, say), None
        resident, recipe = self._resident(source, say, request.request_id)
        if recipe.draw is None:
            raise InvalidParameters(f"model {source.name!r} draws nothing")
        return recipe.draw(self.host, resident, request, say), resident

    def _scripted(self, script: WanScript, source: Source, request: Generate, say: Say) -> Drawing:
        """Drawn by another program, which loads the model itself: here it is only looked at, and room made for it."""
        say(Alive(request_id=request.request_id, doing=f"{LOADING} {source.name}"))
        cache = self.config.lock_dir / DIGESTS
        spec = inspect_model(source.name, WAN, source.path, cache=cache, compute_digest=True, original=True)
        if spec.problem is not None:
            raise Misconfigured(spec.problem, error_type="ModelUnusable")
        make_room = partial(self.pool.make_room, spec.bytes, say, request.request_id)
        return WanScriptDrawing(script, self.host, spec, request, say, make_room)

    def _fits(self, drawing: Drawing, cancelled: Callable[[], Asked]) -> bool:
        try:
            drawing.denoise(cancelled)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def _source(self, request: Generate) -> Source:
        """The model that draws the request."""
        if request.job_type not in PRESETS:
            raise InvalidParameters(f"job type {request.job_type!r} is unknown; known: {', '.join(PRESETS)}")
        if request.model not in self.config.models:
            known = ", ".join(sorted(self.config.models)) or "none"
            raise InvalidParameters(f"model {request.model!r} is not configured; known: {known}")
        family, vace, script = PRESETS[request.job_type].family, self.config.wan_vace, self.config.wan_script
        if family == WAN and request.references and vace is not None and not (script and script.references):
            return Source(WAN_VACE_1_3B, WAN_VACE, vace)
        return Source(request.model, family, self.config.models[request.model])

    def _resident(self, source: Source, say: Say, request_id: str) -> tuple[Resident, Recipe]:
        """The model, loaded into the host's memory if it is not held: its drawing brings it to the device."""
        recipe = RECIPES[source.family]
        if source.name not in self._loaded or self._loaded[source.name][0].family != source.family:
            self._load(source, recipe, say, request_id)
        spec, pipeline, kept = self._loaded[source.name]
        names = [part.name for part in self.pool.held[source.name].parts]

        def bring(*parts: str) -> None:
            self.pool.bring(source.name, parts or names, say, request_id)

        def add(name: str, module: Any) -> None:
            self.pool.held[source.name].parts.append(self._part(name, module, recipe))

        return Resident(spec=spec, pipeline=pipeline, bring=bring, add=add, kept=kept), recipe

    def _load(self, source: Source, recipe: Recipe, say: Say, request_id: str) -> None:
        say(Alive(request_id=request_id, doing=f"{LOADING} {source.name}"))
        started = time.monotonic()
        spec = inspect_model(source.name, source.family, source.path, cache=self.host.digests, compute_digest=True)
        if spec.problem is not None:
            raise Misconfigured(spec.problem, error_type="ModelUnusable")
        dtype = device.dtype_of(self.config.dtype, self.host.device)
        digests = self._digests(spec.path, recipe)
        pipeline = recipe.load(spec.path, dtype=dtype, device=self.host.device, **self._shared(digests))
        self._loaded[source.name] = spec, pipeline, {}
        modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
        parts = [self._part(name, module, recipe, digests.get(name)) for name, module in modules.items()]
        self.pool.hold(source.name, parts, partial(self._loaded.pop, source.name))
        say(
            Loaded(
                request_id=request_id,
                model=source.name,
                seconds=time.monotonic() - started,
                bytes=spec.bytes,
                digest=spec.digest or "",
            )
        )

    def _digests(self, path: Path, recipe: Recipe) -> dict[str, str]:
        """Of the folders of those parts that other models may hold as well."""
        cache = DigestCache(self.host.digests)
        return {name: digest_of(path / name, cache) for name in recipe.shared if (path / name).is_dir()}

    def _shared(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """The networks that another model has loaded from equal files, by their names."""
        held = (part for held in self.pool.held.values() for part in held.parts if isinstance(part, ModulePart))
        return {part.name: part.module for part in held if part.digest and part.digest == digests.get(part.name)}

    def _part(self, name: str, module: Any, recipe: Recipe, digest: str | None = None) -> Part:
        """The part that holds this network, which another model may have brought along."""
        for held in self.pool.held.values():
            for part in held.parts:
                if isinstance(part, ModulePart) and part.module is module:
                    return part

        def move(to: Place) -> None:
            module.to(self.host.device if to == "device" else "cpu")

        size = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
        parkable = name in recipe.parked
        return ModulePart(name=name, bytes=size, move=move, parkable=parkable, module=module, digest=digest)

    def _budget(self) -> int | None:
        if self.config.memory_bytes is not None:
            return self.config.memory_bytes
        total = device.total_memory(self.host.device)
        return None if total is None else int(total * (1 - LEFT_FREE))


def _no_text(request: Enhance, reason: str) -> Enhanced:
    return Enhanced(request_id=request.request_id, text=None, seconds=0.0, reason=reason)
