"""What drawing a picture and drawing a video have in common: the host, the model, and one run of a pipeline."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from workers.engines import device
from workers.engines.faults import Cancelled, InvalidParameters
from workers.engines.messages import Alive, Generate, Generated, Message, Progress
from workers.models import ModelSpec

Say = Callable[[Message], None]

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


@dataclass(frozen=True)
class Resident:
    """A loaded model. `parts` are the pipeline's networks by the names of its components.

    `bring(*names)` has those parts on the device, which is the drawing's business before it uses them: a model may be
    larger than the room that there is. Without names it brings all. `add` takes in a network that was loaded later.
    `kept` is what drawings keep with the model for later requests; it is forgotten with the model.
    """

    spec: ModelSpec
    pipeline: Any
    bring: Callable[..., None]
    add: Callable[[str, Any], None]
    kept: dict[str, Any] = field(default_factory=dict)

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

    def denoise(self, cancelled: Callable[[], bool]) -> None:
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

    `adapters` are the digests of what drew beside the model, by name; they are told among the versions.
    """

    host: Host
    request: Generate
    say: Say
    seconds: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    reference_way: str | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    _measuring: bool = False

    def of(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any],
        cancelled: Callable[[], bool],
        adjust: Callable[[Any, int, Any], Any] | None = None,
    ) -> Any:
        """Call the pipeline and return its output. Raises Cancelled after the step during which that was asked.

        `adjust` makes of the pipeline, a step's index and the latents after it those with which the next one begins.
        Several runs of one request (a batch in parts) add up; memory is the most that any of them took, also one that
        found too little.
        """
        if not self._measuring:
            device.start_measuring(self.host.device)
            self._measuring = True
        started = last = time.monotonic()

        def after_step(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal last
            if adjust is not None:
                tensors["latents"] = adjust(pipeline, index, tensors["latents"])
            device.wait_for(self.host.device)
            now = time.monotonic()
            of = pipeline.num_timesteps
            self.say(Progress(request_id=self.request.request_id, step=index + 1, of=of, seconds=now - last))
            last = now
            if cancelled():
                raise Cancelled
            if index + 1 == of:
                self.say(Alive(request_id=self.request.request_id, doing="decoding"))
            return tensors

        output = pipeline(
            **arguments,
            output_type="np",
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["latents"],
        )
        self.seconds += time.monotonic() - started
        self.memory = device.memory(self.host.device)
        return output

    def generated(self, resident: Resident) -> Generated:
        """The last word of the request."""
        return Generated(
            request_id=self.request.request_id,
            device_seconds=self.seconds,
            engine=self.host.engine,
            model_digest=resident.digest,
            memory=self.memory or device.memory(self.host.device),
            versions={**self.host.versions, **self.adapters},
            threads=self.host.threads,
            batches=self.batches or [self.request.num_images],
            render_scale=str(resident.spec.render_scale),
            reference_way=self.reference_way,
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
