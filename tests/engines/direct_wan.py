"""A program that knows nothing of this project: diffusers called directly. Saves each case's frames as FOLDER/N.npy.

usage: direct_wan.py MODEL THREADS FOLDER CASES, where CASES is a JSON list of {kwargs, seed, shift}.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline

model, threads, folder, cases = sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
torch.set_num_threads(threads)
for number, case in enumerate(cases):
    pipeline = WanPipeline.from_pretrained(model, use_safetensors=True, local_files_only=True)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=case["shift"])
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(case["seed"])
    images = pipeline(**case["kwargs"], generator=generator, output_type="pil").frames[0]
    numpy.save(f"{folder}/{number}.npy", numpy.stack([numpy.asarray(image) for image in images]))
