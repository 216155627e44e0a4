"""A program that knows nothing of this project: transformers called directly. Prints what the model said as JSON.

usage: direct_transformers.py FOLDER THREADS CASES, where CASES is a JSON list of {messages or text, seed, sampling}.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, threads, cases = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, local_files_only=True)
said = []
for case in cases:
    text = case.get("text") or tokenizer.apply_chat_template(
        case["messages"], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(text, return_tensors="pt")
    torch.manual_seed(case["seed"])
    output = model.generate(**inputs, **case["sampling"])
    said.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :]))
print(json.dumps(said))
