"""A tiny IP-Adapter for the tiny SDXL: the real classes and the real names, small, and every weight set by hand.

Its image encoder tells a picture's mean colour. In tiny SDXL's UNet the last three channels of every block are kept
free for it: nothing of the UNet writes into them, each attention of the adapter adds its share of the colour, and what
arrives at their end is taken for noise of the opposite colour, whose removal pulls the picture towards the reference.
"""

import math
from typing import Any, Final

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from workers.engines.analytic_vae import CONSTANT

TOKENS: Final = 4  # as the real adapters of this kind have
CARRIED: Final = 3
QUIET: Final = 0.05  # how far a full colour moves its channel: too little for the norms around it to notice
PULL: Final = 0.052  # how far a full colour moves the predicted noise: guided by 6, the picture nearly arrives there
STYLE: Final = ("up_blocks.0.attentions.1.", 0.5)
COMPOSITION: Final = ("down_blocks.2.attentions.1.", 0.4)
REST: Final = 0.1  # what all other attentions add together

_WIDTH: Final = 32
_SIDE: Final = 32


def carry_colours(unet: Any) -> None:
    """Keep the last three channels of every block but the first for colours, in place, from there to the noise.

    They are residual streams: what adds to a stream is silenced there, and what rewrites it (a shortcut, a projection,
    a resampling) is made to copy. The last resnet adds them to the latents that the UNet passes through itself.
    """
    last = unet.up_blocks[-1].resnets[-1]
    width = 0  # of what comes in; the first block has nothing to carry
    with torch.no_grad():
        for block in (*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks):
            for resnet in block.resnets:
                if resnet is last:
                    break
                _copy(resnet.conv2, 0)
                if resnet.conv_shortcut is not None:
                    _copy(resnet.conv_shortcut, width)
                width = resnet.conv2.weight.shape[0]
            for attention in getattr(block, "attentions", ()):
                _carry_through(attention)
            resamplers = (getattr(block, kind, None) or () for kind in ("downsamplers", "upsamplers"))
            for resampler in (one for several in resamplers for one in several):
                _copy(resampler.conv, width)
        for colour in range(CARRIED):
            carried = last.conv_shortcut.weight[:, width - CARRIED + colour]
            carried.zero_()
            carried[4 * colour] = -PULL / QUIET  # latents travel as pairs, see tiny_sdxl
            carried[4 * colour + 1] = PULL / QUIET


def _carry_through(attention: Any) -> None:
    inner = attention.proj_in.weight.shape[0]
    _copy(attention.proj_in, 0)
    for layer in attention.transformer_blocks:
        _copy(layer.attn1.to_out[0], 0)
        _copy(layer.attn2.to_v, 0)
        _copy(layer.attn2.to_out[0], inner)
        _copy(layer.ff.net[2], 0)
    _copy(attention.proj_out, inner)


def _copy(layer: Any, width: int) -> None:
    """Have a layer's last three outputs be the last three of its first `width` inputs; of none, nothing."""
    layer.weight[-CARRIED:] = 0
    if layer.bias is not None:
        layer.bias[-CARRIED:] = 0
    for place in range(CARRIED if width else 0):
        weight = layer.weight[place - CARRIED, width - CARRIED + place]
        weight[tuple(side // 2 for side in weight.shape)] = 1


def image_encoder() -> Any:
    """A `CLIPVisionModelWithProjection` whose first three outputs are the mean red, green and blue, -1..1."""
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=_WIDTH,
            projection_dim=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=_SIDE,
            patch_size=8,
            hidden_act="gelu",
        )
    ).eval()
    vision = getattr(encoder, "vision_model", encoder)
    patches = (_SIDE // 8) ** 2
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if not name.endswith("norm.weight") and "layernorm" not in name and "layrnorm" not in name:
                parameter.zero_()
        for norm in (module for module in encoder.modules() if isinstance(module, torch.nn.LayerNorm)):
            norm.weight.fill_(_deviation(_WIDTH))
            norm.bias.zero_()
        # Colours as (+x, -x) pairs in the first six channels, and constants beside them, see analytic_vae.
        for channel in range(6):
            vision.embeddings.patch_embedding.weight[channel, channel // 2] = (-1.0) ** channel / 64
        vision.embeddings.position_embedding.weight.copy_(_constants(_WIDTH))
        attention = vision.encoder.layers[0].self_attn  # queries of zero hear every place alike
        for channel in range(6):
            attention.v_proj.weight[channel, channel] = 1
            attention.out_proj.weight[channel, channel] = (patches + 1) / patches  # the class token's own is nothing
        for colour in range(3):
            encoder.visual_projection.weight[colour, 2 * colour] = 2 * OPENAI_CLIP_STD[colour]
            encoder.visual_projection.weight[colour, 6] = (2 * OPENAI_CLIP_MEAN[colour] - 1) / CONSTANT
    return encoder


def adapter_weights(unet: Any) -> dict[str, Any]:
    """The adapter's tensors under the names in which the real ones are shared, for the attentions of this UNet."""
    width = unet.config.cross_attention_dim
    projection, bias = torch.zeros(TOKENS, width, 16), _constants(width).repeat(TOKENS, 1)
    for channel in range(6):
        projection[:, channel, channel // 2] = (-1.0) ** channel
    weights = {
        "image_proj.proj.weight": projection.reshape(TOKENS * width, 16),
        "image_proj.proj.bias": bias.reshape(TOKENS * width),
        "image_proj.norm.weight": torch.full((width,), _deviation(width)),
        "image_proj.norm.bias": torch.zeros(width),
    }
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for place, name in enumerate(names):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        key = torch.zeros(attention.to_k.weight.shape[0], width)
        value = torch.zeros(attention.to_v.weight.shape[0], width)
        for colour in range(CARRIED):
            value[colour - CARRIED, 2 * colour] = QUIET * _share(name, names)
        weights[f"ip_adapter.{2 * place + 1}.to_k_ip.weight"] = key
        weights[f"ip_adapter.{2 * place + 1}.to_v_ip.weight"] = value
    return weights


def _share(name: str, names: list[str]) -> float:
    """Of the whole pull, in one attention layer; all together make 1."""
    for prefix, share in (STYLE, COMPOSITION):
        if name.startswith(prefix):
            return share / sum(other.startswith(prefix) for other in names)
    return REST / sum(not other.startswith((STYLE[0], COMPOSITION[0])) for other in names)


def _constants(width: int) -> Any:
    """What stands beside six channels of colours. Shape (width,), mean 0."""
    constants = torch.zeros(width)
    constants[6::2], constants[7::2] = CONSTANT, -CONSTANT
    return constants


def _deviation(width: int) -> float:
    """By which a norm divides, since the constants alone decide it; as its weight, what undoes that."""
    return CONSTANT * math.sqrt((width - 6) / width)
