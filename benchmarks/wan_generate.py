"""A stand-in for WAN's original code: its options, and a real pipeline that is loaded anew by every call.

The checkpoint folder is a diffusers folder here. What it costs to start is what the original costs in kind: a Python
that imports torch, and a model that is read from disk.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline

from workers.engines.mp4 import encode_mp4


def main() -> int:
    """Draw one video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["t2v-1.3B"], required=True)
    parser.add_argument("--ckpt_dir", type=Path, required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--sample_steps", type=int, required=True)
    parser.add_argument("--sample_guide_scale", type=float, required=True)
    parser.add_argument("--sample_solver", choices=["unipc"], required=True)
    parser.add_argument("--sample_shift", type=float, required=True)
    parser.add_argument("--frame_num", type=int, required=True)
    parser.add_argument("--offload_model", choices=["True", "False"], default="True")
    parser.add_argument("--save_file", type=Path, required=True)
    parser.add_argument("--base_seed", type=int, required=True)
    parser.add_argument("--prompt", required=True)
    arguments = parser.parse_args()
    pipeline: Any = WanPipeline.from_pretrained(arguments.ckpt_dir, use_safetensors=True, local_files_only=True)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=arguments.sample_shift
    )
    width, height = (int(part) for part in arguments.size.split("*"))
    frames = pipeline(
        prompt=arguments.prompt,
        width=width,
        height=height,
        num_frames=arguments.frame_num,
        num_inference_steps=arguments.sample_steps,
        guidance_scale=arguments.sample_guide_scale,
        generator=torch.Generator("cpu").manual_seed(arguments.base_seed),
        output_type="np",
    ).frames[0]
    pixels = (frames * 255).round().astype("uint8")
    arguments.save_file.write_bytes(encode_mp4(pixels, fps=16, comment="", folder=arguments.save_file.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
