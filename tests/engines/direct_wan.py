"""A program that knows nothing of this project: diffusers called directly.

Saves each case's frames as FOLDER/N.npy, and the latents that went into the decoder as FOLDER/N.latents.npy.

usage: direct_wan.py THREADS FOLDER CASES, where CASES is a JSON list of {model, kwargs, seed, shift}, and of
{way, strength} and the files {start, end, single} where it has references, which are of the size that is drawn.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanVACEPipeline
from PIL import Image


def shown(case: dict[str, Any], frames: int) -> dict[str, Any]:
    """VACE's arguments."""
    video = [Image.new("RGB", size(case), (128, 128, 128)) for _ in range(frames)]
    mask = [Image.new("L", size(case), 255) for _ in range(frames)]
    for name, place in (("start", 0), ("end", frames - 1)):
        if name in case:
            video[place] = Image.open(case[name])
            mask[place] = Image.new("L", size(case), 0)
    found: dict[str, Any] = {"video": video, "mask": mask, "conditioning_scale": case["strength"]}
    if "single" in case:
        found["reference_images"] = [Image.open(case["single"])]
    return found


def size(case: dict[str, Any]) -> tuple[int, int]:
    return case["kwargs"]["width"], case["kwargs"]["height"]


def clamp(pipeline: Any, case: dict[str, Any], frames: int) -> Callable[..., dict[str, Any]]:
    """A callback that puts the given frames back after each step, under the video's own noise."""
    latent_frames, (width, height) = (frames + 3) // 4, size(case)
    generator = torch.Generator("cpu").manual_seed(case["seed"])
    noise = torch.randn(1, 16, latent_frames, height // 8, width // 8, generator=generator)
    mean = torch.tensor(pipeline.vae.config.latents_mean).reshape(1, 16, 1, 1)
    std = torch.tensor(pipeline.vae.config.latents_std).reshape(1, 16, 1, 1)
    pins = {}
    for name, still, place in (("start", 1, 0), ("single", 1, 0), ("end", 9, latent_frames - 1)):
        if name in case:
            pixels = torch.from_numpy(numpy.asarray(Image.open(case[name])).astype("float32") / 255) * 2 - 1
            clip = pixels.permute(2, 0, 1)[None, :, None].repeat(1, 1, still, 1, 1)
            with torch.no_grad():
                pins[place] = (pipeline.vae.encode(clip).latent_dist.mode()[:, :, -1] - mean) / std
    released = 0.6 * (1 - case["strength"])

    def put_back(pipe: Any, index: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        latents = tensors["latents"].clone()
        before, after = pipe.scheduler.sigmas[index].item(), pipe.scheduler.sigmas[index + 1].item()
        share = numpy.clip((before - released) / (before - after), 0, 1).item()
        for place, latent in pins.items():
            given = (1 - after) * latent + after * noise[:, :, place]
            latents[:, :, place] = (1 - share) * latents[:, :, place] + share * given
        return {"latents": latents}

    return put_back


threads, folder, cases = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
torch.set_num_threads(threads)
pipelines: dict[str, Any] = {}
decoded: list[Any] = []
for number, case in enumerate(cases):
    if case["model"] not in pipelines:
        kind = WanVACEPipeline if case.get("way") == "vace" else WanPipeline
        pipeline = kind.from_pretrained(case["model"], use_safetensors=True, local_files_only=True)
        pipeline.vae.post_quant_conv.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0]))
        pipelines[case["model"]] = pipeline
    pipeline = pipelines[case["model"]]
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=case["shift"])
    pipeline.set_progress_bar_config(disable=True)
    frames = case["kwargs"]["num_frames"]
    more = {}
    if case.get("way") == "vace":
        more = shown(case, frames)
    elif case.get("way") == "latent_clamp":
        more = {"callback_on_step_end": clamp(pipeline, case, frames)}
    generator = torch.Generator("cpu").manual_seed(case["seed"])
    images = pipeline(**case["kwargs"], **more, generator=generator, output_type="pil").frames[0]
    numpy.save(f"{folder}/{number}.npy", numpy.stack([numpy.asarray(image) for image in images]))
    numpy.save(f"{folder}/{number}.latents.npy", decoded[-1].numpy())
