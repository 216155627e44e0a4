"""Drawing with tiny SDXL in the test's own process, where the latents can be seen."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.engines.asking import Answer, request
from tests.engines.conftest import THREADS
from workers.engines import device
from workers.engines.drawing import Host, Resident
from workers.engines.loading import load_sdxl
from workers.engines.messages import Message
from workers.engines.sdxl import SdxlDrawing
from workers.models import inspect_model


@dataclass
class Easel:
    """One loaded model; `adapter` is the folder of an IP-Adapter or None. `added` are the parts that came later."""

    model: Path
    spool: Path
    adapter: Path | None = None
    pipeline: Any = None
    kept: dict[str, Any] = field(default_factory=dict)
    added: dict[str, Any] = field(default_factory=dict)
    brought: list[tuple[str, ...]] = field(default_factory=list)
    latents: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.set_num_threads(THREADS)
        if self.pipeline is None:
            self.pipeline = load_sdxl(self.model, dtype=torch.float32, device="cpu")
            decoder = self.pipeline.vae.post_quant_conv
            decoder.register_forward_pre_hook(lambda _, inputs: self.latents.append(inputs[0]))

    def drawing(self, said: list[Message], **changes: Any) -> tuple[Any, SdxlDrawing]:
        """A request as `asking.request` makes it, and its drawing."""
        asked = request(self.spool, **changes)
        host = Host(
            *("diffusers", "cpu", "cpu", THREADS, device.versions("cpu"), True),
            sdxl_ip_adapter=self.adapter,
            digests=self.spool / "digests.json",
        )
        spec = inspect_model(asked.model, "sdxl", self.model, cache=host.digests, compute_digest=True)
        add = self.added.__setitem__
        bring = self._bring
        resident = Resident(spec=spec, pipeline=self.pipeline, bring=bring, add=add, kept=self.kept)
        return asked, SdxlDrawing(host, resident, asked, said.append)

    def draw(self, **changes: Any) -> Answer:
        """What an engine would answer."""
        said: list[Any] = []
        asked, drawing = self.drawing(said, **changes)
        drawing.denoise(lambda: False)
        drawing.finish()
        return Answer(asked, said)

    def seen(self, **changes: Any) -> list[str]:
        """The sha256 of the latents that the decoder got, and of each picture's pixels."""
        self.latents.clear()
        pixels = self.draw(**changes).pixels()
        data = [self.latents[0].numpy().tobytes(), *(each.tobytes() for each in pixels)]
        return [hashlib.sha256(each).hexdigest() for each in data]

    def _bring(self, *names: str) -> None:
        self.brought.append(names)
