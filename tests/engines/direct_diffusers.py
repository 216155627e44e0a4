"""A program that knows nothing of this project: diffusers called directly. Prints the sha256 of each picture's pixels.

usage: direct_diffusers.py FOLDER THREADS CASES, where CASES is a JSON list of {kwargs, seeds}.
"""

import hashlib
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import StableDiffusionXLPipeline

folder, threads, cases = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
torch.set_num_threads(threads)
pipeline = StableDiffusionXLPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
pipeline.set_progress_bar_config(disable=True)
for case in cases:
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]]
    images = pipeline(**case["kwargs"], num_images_per_prompt=len(generators), generator=generators).images
    print(json.dumps([hashlib.sha256(image.tobytes()).hexdigest() for image in images]))
