"""A program that draws as the engine does and tells what nobody else sees: the latents that went into the decoder.

Saves them as FOLDER/N.latents.npy; what is drawn lies in the requests' spool folders.

usage: watched_wan.py THREADS FOLDER CASES, where CASES is a JSON list of [model's folder, its family, request].
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import msgspec
import numpy
import torch

from workers.engines import device
from workers.engines.drawing import Host, Resident
from workers.engines.loading import load_wan, load_wan_vace
from workers.engines.messages import Generate
from workers.engines.wan import WanDrawing
from workers.models import inspect_model
from workers.presets import WAN

threads, folder = int(sys.argv[1]), Path(sys.argv[2])
cases = msgspec.json.decode(sys.argv[3], type=list[tuple[Path, str, Generate]], dec_hook=lambda kind, text: kind(text))
device.prepare("cpu", threads)
host = Host("diffusers", "cpu", "cpu", threads, device.versions("cpu"), embed_prompt=True)
pipelines: dict[Path, Any] = {}
decoded: list[Any] = []
for number, (model, family, request) in enumerate(cases):
    if model not in pipelines:
        pipelines[model] = (load_wan if family == WAN else load_wan_vace)(model, dtype=torch.float32, device="cpu")
        pipelines[model].vae.post_quant_conv.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0]))
    resident = Resident(
        spec=inspect_model(request.model, family, model),
        pipeline=pipelines[model],
        bring=lambda *names: None,
        add=lambda name, network: None,
    )
    drawing = WanDrawing(host, resident, request, lambda message: None)
    drawing.denoise(lambda: False)
    drawing.finish()
    numpy.save(folder / f"{number}.latents.npy", decoded[-1].numpy())
