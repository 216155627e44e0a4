"""References without a model for them: after each step the given frames are put back into the latents.

What is put back is the picture's own latent with as much noise as the next step expects. The model never sees these
frames otherwise, and draws the others to fit. Held through all steps, they are what the VAE makes of the pictures.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from PIL import Image

from workers.engines.wan_references import Given

REACH: Final = 0.6
"""Share of noise under which a picture is as good as forgotten: let go before that, a frame shows nothing of it."""

_STILL: Final = 9
"""Frames of a picture standing still, of which the last latent is the end's. One latent holds four frames and hears
those before it, so the picture alone would become the latent of a first frame."""


class LatentClamp:
    """Holds the given frames until the share of noise that is left in the latents is REACH * (1 - strength).

    So at 1.0 to the end. Let go, a frame is drawn on from where it was: the less noise is left, the less of it can
    change. In the step in which it is let go, what is put back is mixed in by the part of the step that was still to be
    held. A share of the steps would not do: with WAN's shift of 5, half of the steps leave 0.83 of the noise, and the
    frame is forgotten.

    `noise` are the latents from which the video is drawn, (1, channels, frames, height, width): a frame keeps its own
    throughout, so it moves as a model would move it that is sure of the picture.
    """

    def __init__(self, given: Given, pipeline: Any, noise: Any, *, strength: float) -> None:
        """Encode the pictures, with the VAE where it is."""
        self._noise = noise
        self._released = REACH * (1 - strength)
        self._pins = _encoded(given, pipeline, frames=noise.shape[2])

    def __call__(self, pipeline: Any, index: int, latents: Any) -> Any:
        """The latents after step `index` (0-based) of the pipeline, with the given frames in them."""
        before, after = (float(sigma) for sigma in pipeline.scheduler.sigmas[index : index + 2])  # the last one is 0
        share = min(1.0, max(0.0, (before - self._released) / (before - after)))
        for place, picture in self._pins.items():
            put_back = (1 - after) * picture + after * self._noise[:, :, place]
            latents[:, :, place] = (1 - share) * latents[:, :, place] + share * put_back
        return latents


def _encoded(given: Given, pipeline: Any, *, frames: int) -> Mapping[int, Any]:
    """Latent frame → (1, channels, height, width), as the transformer knows latents."""
    pins = {}
    if given.start is not None:
        pins[0] = _latents(pipeline, [given.start])[:, :, 0]
    if given.end is not None:
        pins[frames - 1] = _latents(pipeline, [given.end] * _STILL)[:, :, -1]
    return pins


def _latents(pipeline: Any, clip: list[Image.Image]) -> Any:
    vae = pipeline.vae
    pixels = pipeline.video_processor.preprocess_video(clip).to(vae.device, vae.dtype)
    with torch.no_grad():
        found = vae.encode(pixels).latent_dist.mode().float()
    mean, deviation = (
        torch.tensor(numbers, device=found.device).view(1, -1, 1, 1, 1)
        for numbers in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (found - mean) / deviation
