"""What a checkpoint holds is enough: in another process nothing else is needed to go on to the same latents."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler

from workers.engines.checkpoints import Saved, put_back, taken

STEPS = 6
SHAPE = (2, 4, 8, 8)


class Denoising:
    """A pipeline's loop of a batch of two, with a network that costs nothing; `latents` are those after each step."""

    num_timesteps = STEPS

    def __init__(self, kind: Any) -> None:
        self.scheduler = kind(num_train_timesteps=1000)
        self.scheduler.set_timesteps(STEPS)
        self.generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
        self.draws = kind is EulerAncestralDiscreteScheduler

    def steps(self, latents: Any, first: int = 0) -> Iterator[Any]:
        for time in self.scheduler.timesteps[first:]:
            seen = self.scheduler.scale_model_input(latents, time)
            drawing = {"generator": self.generators} if self.draws else {}
            latents = self.scheduler.step(torch.tanh(seen), time, latents, **drawing).prev_sample
            yield latents


@pytest.mark.parametrize("kind", [EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler])
@pytest.mark.parametrize("stopped", [1, 3, STEPS - 1])
def test_a_denoising_goes_on_from_nothing_but_its_checkpoint(kind: Any, stopped: int) -> None:
    """Also where the scheduler draws noise in each step, from generators that by then stand elsewhere."""
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    run = Denoising(kind)
    for step, latents in enumerate(run.steps(noise), start=1):
        if step == stopped:
            kept = taken(run, latents, run.generators, identity={}, part="all", step=step, seconds=0.0, more={}).pack()
    again = Denoising(kind)
    begun = put_back(Saved.unpack(kept, {}), again, again.generators, torch.zeros(SHAPE))
    *_, resumed = again.steps(begun, first=stopped)
    assert torch.equal(resumed, latents), "what follows the checkpoint differs from an undisturbed run"
