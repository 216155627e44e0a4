"""The config folder of Stable Diffusion XL base 1.0, for single files that come without one.

`from_single_file` needs it and would ask the hub. The numbers are public and the same for every checkpoint derived
from SDXL base; only CLIP's vocabulary is too long to stand here.
"""

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any, Final

from workers.engines.tokenizers import clip_tokenizer
from workers.errors import Misconfigured

VOCABULARY: Final = "bpe_simple_vocab_16e6.txt.gz"

_CLIP: Final[dict[str, Any]] = {
    "attention_dropout": 0.0,
    "bos_token_id": 49406,
    "dropout": 0.0,
    "eos_token_id": 49407,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "vocab_size": 49408,
}

CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "model_index.json": {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "add_watermarker": False,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
    "scheduler/scheduler_config.json": {
        "_class_name": "EulerDiscreteScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "interpolation_type": "linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "use_karras_sigmas": False,
    },
    "text_encoder/config.json": {
        **_CLIP,
        "architectures": ["CLIPTextModel"],
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "projection_dim": 768,
    },
    "text_encoder_2/config.json": {
        **_CLIP,
        "architectures": ["CLIPTextModelWithProjection"],
        "hidden_act": "gelu",
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_attention_heads": 20,
        "num_hidden_layers": 32,
        "pad_token_id": 1,
        "projection_dim": 1280,
    },
    "unet/config.json": {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 2048,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "projection_class_embeddings_input_dim": 2816,
        "resnet_time_scale_shift": "default",
        "sample_size": 128,
        "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "use_linear_projection": True,
    },
    "vae/config.json": {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "force_upcast": True,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
}


def vocabulary_for(file: Path) -> Path | None:
    """CLIP's vocabulary: beside the model file, or in the open_clip package, which is found but not imported."""
    beside = file.with_name(VOCABULARY)
    if beside.is_file():
        return beside
    package = importlib.util.find_spec("open_clip")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        if (Path(place) / VOCABULARY).is_file():
            return Path(place) / VOCABULARY
    return None


def write_config(file: Path) -> Path:
    """Write the folder for that single file under a temporary directory, and return it. The caller removes it.

    Raises Misconfigured when CLIP's vocabulary cannot be had.
    """
    vocabulary = vocabulary_for(file)
    if vocabulary is None:
        raise Misconfigured(
            f"{file} has no config folder: put the configuration and tokenizers of stable-diffusion-xl-base-1.0 (no "
            f"weights) into {file.with_name(file.stem + '.config')}, or CLIP's {VOCABULARY} beside the file, or "
            "install open_clip_torch, which brings it"
        )
    folder = Path(tempfile.mkdtemp(prefix="ourvidz-sdxl-config-"))
    for name, content in CONFIGS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    clip_tokenizer(vocabulary).save_pretrained(str(folder / "tokenizer"))
    clip_tokenizer(vocabulary, pad="!").save_pretrained(str(folder / "tokenizer_2"))
    return folder
