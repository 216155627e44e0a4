"""A program that knows nothing of this project: diffusers called directly. Prints the sha256 of each picture's pixels.

usage: direct_diffusers.py FOLDER THREADS CASES, where CASES is a JSON list of {kwargs, seeds, whole}; whole prompts are
read by compel, others cut by the pipeline.
"""

import hashlib
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from compel import CompelForSDXL
from diffusers import StableDiffusionXLPipeline

folder, threads, cases = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
torch.set_num_threads(threads)
pipeline = StableDiffusionXLPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
pipeline.set_progress_bar_config(disable=True)
for case in cases:
    kwargs = case["kwargs"]
    if case.get("whole"):
        read = CompelForSDXL(pipeline)(kwargs.pop("prompt"), negative_prompt=kwargs.pop("negative_prompt"))
        kwargs |= {
            "prompt_embeds": read.embeds,
            "pooled_prompt_embeds": read.pooled_embeds,
            "negative_prompt_embeds": read.negative_embeds,
            "negative_pooled_prompt_embeds": read.negative_pooled_embeds,
        }
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]]
    images = pipeline(**kwargs, num_images_per_prompt=len(generators), generator=generators).images
    print(json.dumps([hashlib.sha256(image.tobytes()).hexdigest() for image in images]))
