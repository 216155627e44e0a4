"""What drawing a picture and drawing a video have in common: the host, the model, and one run of a pipeline."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from workers.engines import device
from workers.engines.checkpoints import Saved, Unstorable, put_back, skipping, taken
from workers.engines.faults import Asked, Cancelled, InvalidParameters
from workers.engines.keeping import Keeper
from workers.engines.messages import Alive, AssetWritten, Generate, Generated, Message, Progress
from workers.models import ModelSpec
from workers.spool import sha256, write_durably

Say = Callable[[Message], None]

_DECIDING: Final = (
    "job_type", "model", "width", "height", "steps", "guidance_scale", "seed", "num_images", "frames", "solver",
    "shift", "reference_strength", "reference_type", "reference_fit",
)  # fmt: skip
"""Fields of a request that decide about its bytes as they stand."""

SEEDS: Final = 2**63
"""Image i of a batch is drawn with (seed + i) modulo this."""


@dataclass(frozen=True, slots=True)
class Host:
    """What everything here is drawn on and with.

    `sdxl_ip_adapter` is the folder of the adapter that draws SDXL's references, `digests` the file that remembers
    digests of weights.
    """

    engine: str
    device: str
    device_name: str
    threads: int
    versions: dict[str, str]
    embed_prompt: bool
    sdxl_ip_adapter: Path | None = None
    digests: Path | None = None


@dataclass
class Resident:
    """A loaded model. `parts` are the pipeline's networks by the names of its components.

    `bring(*names)` has those parts on the device, which is the drawing's business before it uses them: a model may be
    larger than the room that there is. Without names it brings all. `add` takes in a network that was loaded later.
    `kept` is what drawings keep with the model for later requests; it is forgotten with the model. Without its networks
    it still tells what drew.
    """

    spec: ModelSpec
    pipeline: Any
    bring: Callable[..., None]
    add: Callable[[str, Any], None]
    kept: dict[str, Any] = field(default_factory=dict)

    def forget(self) -> None:
        """Let go of the networks: what was drawn with them may still wait for the encoder, and must not hold them."""
        self.pipeline = None
        self.kept = {}

    @property
    def name(self) -> str:
        """By which the history knows it."""
        return self.spec.name

    @property
    def digest(self) -> str:
        """Of its files as they were when it was loaded."""
        return self.spec.digest or ""


class Drawing(Protocol):
    """One request on its way through a pipeline."""

    def denoise(self, cancelled: Callable[[], Asked]) -> None:
        """Run the pipeline on this thread; afterwards the pixels are in host memory. Raises Cancelled.

        Called again after the device was out of memory; what was drawn by then is not drawn again.
        """

    def reduce(self) -> str | None:
        """Want less memory from the next `denoise`: how, in a sentence; or None where nothing is left to reduce."""

    def finish(self) -> None:
        """Encode and write what is not done yet, and say so, and Generated last. Needs no device."""


@dataclass
class Run:
    """A run of a pipeline: tells each step, stops between two of them, and measures. Of no run all is zero.

    `adapters` are the digests of what drew beside the model, by name; they are told among the versions. `keeper`
    keeps the run's checkpoints, and knows the one to go on from.
    """

    host: Host
    resident: Resident
    request: Generate
    say: Say
    seconds: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    reference_way: str | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    _measuring: bool = False
    keeper: Keeper = field(init=False)
    _precision: str = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.request, self.say)
        self._precision = str(_denoiser(self.resident.pipeline).dtype).removeprefix("torch.")

    def of(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any],
        cancelled: Callable[[], Asked],
        adjust: Callable[[Any, int, Any], Any] | None = None,
        *,
        part: str = "all",
        more: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the pipeline and return its output. Raises Cancelled after the step during which that was asked,
        and after a checkpoint of it where that is to be kept.

        `adjust` makes of the pipeline, a step's index and the latents after it those with which the next one begins.
        Where there is a checkpoint of this `part`, the steps before it are skipped. `more` is kept with checkpoints.
        Several runs of one request (a batch in parts) add up; memory is the most that any of them took, also one that
        found too little.
        """
        if not self._measuring:
            device.start_measuring(self.host.device)
            self._measuring = True
        started = last = time.monotonic()
        generators = arguments["generator"] if isinstance(arguments["generator"], list) else [arguments["generator"]]
        saved = self.saved(part)
        skipped = ExitStack()
        if saved is not None:
            skipped.enter_context(skipping(_denoiser(pipeline)))

        def after_step(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal last
            if saved is not None and index + 1 <= saved.step:
                if cancelled():
                    raise Cancelled
                if index + 1 == saved.step:
                    skipped.close()
                    tensors["latents"] = put_back(saved, pipeline, generators, tensors["latents"])
                    last = time.monotonic()
                    if saved.step == pipeline.num_timesteps:
                        self.say(Alive(request_id=self.request.request_id, doing="decoding"))
                return tensors
            if adjust is not None:
                tensors["latents"] = adjust(pipeline, index, tensors["latents"])
            device.wait_for(self.host.device)
            now = time.monotonic()
            of = pipeline.num_timesteps
            self.say(Progress(request_id=self.request.request_id, step=index + 1, of=of, seconds=now - last))
            last = now
            asked = cancelled()
            if asked is True:
                raise Cancelled
            if self.keeper.due(at_once=asked == "keep"):
                try:
                    state = taken(
                        pipeline,
                        tensors["latents"],
                        generators,
                        identity=self.identity,
                        part=part,
                        step=index + 1,
                        seconds=self.seconds + now - started,
                        more=more or {},
                    )
                except Unstorable as error:
                    self.keeper.stop(str(error))
                else:
                    self.keeper.keep(state)
            if asked:
                raise Cancelled  # it is written before anybody hears of this
            if index + 1 == of:
                self.say(Alive(request_id=self.request.request_id, doing="decoding"))
            return tensors

        try:
            with skipped:
                output = pipeline(
                    **arguments,
                    output_type="np",
                    callback_on_step_end=after_step,
                    callback_on_step_end_tensor_inputs=["latents"],
                )
        finally:
            self.keeper.wait()
        self.seconds += time.monotonic() - started
        self.memory = device.memory(self.host.device)
        return output

    def saved(self, part: str = "all") -> Saved | None:
        """The checkpoint from which that part of the batch goes on; its tensors are in host memory."""
        return self.keeper.find(self.identity, part)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides about the bytes, each by its name. Words by their digest: a checkpoint needs no prompt."""
        request, pipeline = self.request, self.resident.pipeline
        config = {name: value for name, value in pipeline.scheduler.config.items() if not name.startswith("_")}
        return {
            **{name: getattr(request, name) for name in _DECIDING},
            "prompt": sha256(request.prompt.encode()),
            "negative prompt": sha256(request.negative_prompt.encode()),
            "references": [[reference.role, reference.digest] for reference in request.references],
            "model digest": self.resident.digest,
            "render scale": str(self.resident.spec.render_scale),
            "versions": {**self.host.versions, **self.adapters},
            "device": [self.host.device_name, self.host.threads],
            "precision": self._precision,
            "scheduler": [
                type(pipeline.scheduler).__name__,
                sha256(json.dumps(config, sort_keys=True, default=str).encode()),
            ],
        }

    def generated(self) -> Generated:
        """The last word of the request."""
        self.keeper.end()
        return Generated(
            request_id=self.request.request_id,
            device_seconds=self.seconds,
            engine=self.host.engine,
            model_digest=self.resident.digest,
            memory=self.memory or device.memory(self.host.device),
            versions={**self.host.versions, **self.adapters, "precision": self._precision},
            threads=self.host.threads,
            batches=self.batches or [self.request.num_images],
            render_scale=str(self.resident.spec.render_scale),
            reference_way=self.reference_way,
        )


def _denoiser(pipeline: Any) -> Any:
    """The network that is run in each step."""
    return pipeline.unet if "unet" in pipeline.components else pipeline.transformer


def seed_of(request: Generate, index: int) -> int:
    """Of that image of the batch."""
    return (request.seed + index) % SEEDS


def deliver(
    request: Generate, say: Say, data: bytes, *, size: tuple[int, int], frames: int, started: float, index: int = 0
) -> None:
    """Write one asset, an MP4 where it has more than one frame and else a PNG, into the spool and say so.

    `size` is width and height in pixels, `started` the monotonic time at which its encoding began.
    """
    extension, content_type = ("png", "image/png") if frames == 1 else ("mp4", "video/mp4")
    name = f"asset_{index}.{extension}"
    write_durably(Path(request.spool) / name, data)
    say(
        AssetWritten(
            request_id=request.request_id,
            index=index,
            seed=seed_of(request, index),
            name=name,
            digest=sha256(data),
            bytes=len(data),
            width=size[0],
            height=size[1],
            frames=frames,
            seconds=time.monotonic() - started,
            content_type=content_type,
        )
    )


def described(host: Host, resident: Resident, words: Mapping[str, str], how: Mapping[str, str]) -> dict[str, str]:
    """What a file tells of its making: no host, no user, and none of the user's words where a setting says so.

    `words` are the user's; `how` is what its family adds.
    """
    return {
        "Software": f"ourvidz {host.versions['ourvidz']}",
        **words,
        **how,
        "model": resident.spec.name,
        "model_digest": resident.digest,
        "versions": " ".join(f"{name}={version}" for name, version in sorted(host.versions.items())),
    }


def judge(request: Generate) -> None:
    """Refuse what no model could draw, before one is loaded for it. Raises InvalidParameters."""
    for name in ("width", "height", "steps", "num_images", "frames"):
        if getattr(request, name) < 1:
            raise InvalidParameters(f"{name} must be at least 1, got {getattr(request, name)}")
    if not 0 <= request.seed < SEEDS:
        raise InvalidParameters(f"seed must be in 0..2**63-1, got {request.seed}")
    if not set(request.done) <= set(range(request.num_images)):
        raise InvalidParameters(f"done names images {request.done} of a batch of {request.num_images}")
