"""An SDXL pipeline's weights under the names of the original code: what a single-file checkpoint holds.

The inverse of what `from_single_file` does. Real checkpoints come in this layout; the tiny one is written in it,
so that the path a real file takes is the path that the tests walk.
"""

import re
from typing import Any, Final

import torch

Weights = dict[str, Any]

_UNET_TOP: Final = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION: Final = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP: Final = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def single_file_weights(pipeline: Any) -> Weights:
    """All weights of a `StableDiffusionXLPipeline`, fresh and contiguous, ready for `safetensors.save_file`."""
    parts = {
        "model.diffusion_model.": _unet(pipeline.unet),
        "first_stage_model.": _vae(pipeline.vae),
        "conditioner.embedders.0.transformer.text_model.": _without_wrapper(pipeline.text_encoder.state_dict()),
        "conditioner.embedders.1.model.": _open_clip(pipeline.text_encoder_2),
    }
    return {
        prefix + name: tensor.detach().clone().contiguous()
        for prefix, weights in parts.items()
        for name, tensor in weights.items()
    }


def _renamed(name: str, table: dict[str, str]) -> str:
    """`name` with its beginning replaced by the table, unchanged when no row fits."""
    for ours, theirs in table.items():
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    return name


def _unet_block(name: str, layers: int) -> str:
    """One name inside a UNet's down, mid or up block. `layers` is layers_per_block."""
    side, _, rest = name.partition(".")
    if side == "mid_block":
        kind, index, inner = rest.split(".", 2)
        place = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{_renamed(inner, _UNET_RESNET) if kind == 'resnets' else inner}"
    block, kind, index, inner = rest.split(".", 3)
    if side == "down_blocks":
        first = int(block) * (layers + 1) + 1
        if kind == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{inner.removeprefix('conv.')}"
        top = f"input_blocks.{first + int(index)}"
    else:
        first = int(block) * (layers + 1)
        if kind == "upsamplers":
            return f"output_blocks.{first + layers}.{{upsampler}}.{inner}"
        top = f"output_blocks.{first + int(index)}"
    return f"{top}.0.{_renamed(inner, _UNET_RESNET)}" if kind == "resnets" else f"{top}.1.{inner}"


def _unet(unet: Any) -> Weights:
    layers = unet.config.layers_per_block
    weights: Weights = {}
    for name, tensor in unet.state_dict().items():
        if name.startswith(("down_blocks.", "mid_block.", "up_blocks.")):
            block = re.match(r"up_blocks\.(\d+)\.upsamplers", name)
            attends = block is not None and hasattr(unet.up_blocks[int(block[1])], "attentions")
            weights[_unet_block(name, layers).replace("{upsampler}", "2" if attends else "1")] = tensor
        else:
            weights[_renamed(name, _UNET_TOP)] = tensor
    return weights


def _vae(vae: Any) -> Weights:
    last = len(vae.config.block_out_channels) - 1
    weights: Weights = {}
    for name, tensor in vae.state_dict().items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{last - int(m[1])}.block.{m[2]}", new)
        new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        side, _, inner = new.partition(".mid_block.attentions.0.")
        if inner:
            renamed = _renamed(inner, _VAE_ATTENTION)
            new = f"{side}.mid.attn_1.{renamed}"
            if renamed.endswith("weight") and not renamed.startswith("norm"):
                tensor = tensor[:, :, None, None]  # the original's attention is made of 1x1 convolutions
        weights[new] = tensor
    return weights


def _without_wrapper(weights: Weights) -> Weights:
    """transformers 4 wraps a text model in `text_model.`, 5 does not."""
    return {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}


def _open_clip(encoder: Any) -> Weights:
    weights: Weights = {}
    whole = _without_wrapper(encoder.state_dict())
    for name, tensor in whole.items():
        layer = re.match(r"encoder\.layers\.(\d+)\.(.*)", name)
        if name == "text_projection.weight":
            weights["text_projection"] = tensor.T
        elif name.startswith("embeddings.token_embedding"):
            weights["token_embedding.weight"] = tensor
        elif name.startswith("embeddings.position_embedding"):
            weights["positional_embedding"] = tensor
        elif name.startswith("final_layer_norm."):
            weights["ln_final." + name.removeprefix("final_layer_norm.")] = tensor
        elif layer is not None:
            top = f"transformer.resblocks.{layer[1]}."
            joined = re.fullmatch(r"self_attn\.q_proj\.(weight|bias)", layer[2])
            if joined is not None:  # q, k and v are one matrix there
                rows = [whole[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
                weights[f"{top}attn.in_proj_{joined[1]}"] = torch.cat(rows)
            elif not re.match(r"self_attn\.[kv]_proj", layer[2]):
                weights[top + _renamed(layer[2], {**_OPEN_CLIP, "self_attn": "attn"})] = tensor
    return weights
