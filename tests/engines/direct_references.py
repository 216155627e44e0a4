"""A program that knows nothing of this project: diffusers called directly, with references.

Prints, for each case, the sha256 of the decoder's input and of each picture's pixels.

usage: direct_references.py FOLDER ADAPTER THREADS CASES, where CASES is a JSON list of {kwargs, seeds} with
`image` and `strength` for image-to-image, or `image` and `scale` for the adapter; neither is text-to-image.
"""

import hashlib
import json
import os
import sys
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from PIL import Image

folder, adapter, threads, cases = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(threads)
for case in cases:
    over = "strength" in case
    kind = StableDiffusionXLImg2ImgPipeline if over else StableDiffusionXLPipeline
    pipeline = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    latents: list[Any] = []
    pipeline.vae.post_quant_conv.register_forward_pre_hook(lambda _, inputs, seen=latents: seen.append(inputs[0]))
    kwargs = case["kwargs"]
    if over:
        kwargs = {name: value for name, value in kwargs.items() if name not in ("width", "height")}
        kwargs |= {"image": Image.open(case["image"]), "strength": case["strength"]}
    elif "scale" in case:
        pipeline.load_ip_adapter(
            adapter, subfolder="", weight_name="tiny-ip-adapter.safetensors", local_files_only=True
        )
        pipeline.set_ip_adapter_scale(case["scale"])
        kwargs |= {"ip_adapter_image": Image.open(case["image"])}
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]]
    images = pipeline(**kwargs, num_images_per_prompt=len(generators), generator=generators).images
    seen = [latents[0].numpy().tobytes(), *(image.tobytes() for image in images)]
    print(json.dumps([hashlib.sha256(data).hexdigest() for data in seen]))
