"""A tiny WAN text-to-video: every part is the real class, only small, and random where it may be.

As in `tiny_sdxl`, a part of the transformer is set by hand: the three colours of each latent pass through it beside
the random features, and the predicted velocity takes them away, so that the noise shrinks at a known rate. What the
random half says into the velocity, coloured by the text through amplified attention, becomes the video.

`tiny_wan_vace` builds on it: there a transformer is wider, and what lies beyond WIDTH is still here.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import ftfy  # noqa: F401 - diffusers cleans WAN's prompts with it, and without it says no more than NameError
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from workers.engines.analytic_vae import CONSTANT, clear
from workers.engines.analytic_wan_vae import set_wan_vae

WIDTH: Final = 64  # channels of the transformer that are carried or random
PLACES: Final = 4  # of latents in a patch: 2 x 2
CARRIED: Final = 3 * PLACES  # channels of the transformer that hold a patch's colours
KEPT: Final = CARRIED + 2  # the same, and the two constants

FINE: Final = 4.0  # how fast a patch's grain decays: e**-FINE of it is left at the end
BROAD: Final = 2.0  # the same of its mean: what is left of it gives every seed its own field
VOICE: Final = 0.15  # of the random half in the velocity
GUIDANCE: Final = 6.5  # at which the colours are balanced
HEARING: Final = 2.0  # deviation of the cross-attention's values
SHARPNESS: Final = 1.6  # of the attention to words: a word more or less is not averaged away
CLOCK: Final = 1.5  # how much faster than by initialisation the random half changes from step to step


def build(seed: int = 0) -> Any:
    """A `WanPipeline` on the CPU in fp32, some 0.5 M parameters. The same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        pipeline = WanPipeline(
            tokenizer=tokenizer,
            text_encoder=_text_encoder(len(tokenizer)),
            vae=_vae(),
            transformer=_transformer(),
            scheduler=UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
            ),
        )
        balance(pipeline, {})
    return pipeline


def deviation(width: int) -> float:
    """Of a token's channels, nearly all of it the two constants: by it LayerNorm divides."""
    return CONSTANT * math.sqrt(2 / width)


def _tokenizer() -> Any:
    """Every printable ASCII character is a token; whatever else is written is the unknown one."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(vocab=[*special, *((chr(code), -3.0) for code in range(33, 127))], extra_ids=0)


def _text_encoder(tokens: int) -> Any:
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=tokens,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=8,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            pad_token_id=0,
            eos_token_id=1,
        )
    ).eval()
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name == "shared.weight":
                weight.normal_(std=1.0)
            elif name.endswith(("q.weight", "k.weight")):
                weight.normal_(std=1.0 / 32**0.5)
            elif name.endswith(("v.weight", "o.weight")):
                weight.normal_(std=1.5 / 32**0.5)
    return encoder


def _vae() -> Any:
    vae = AutoencoderKLWan(
        base_dim=16,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 16,
        latents_std=[0.6] * 16,
    ).eval()
    set_wan_vae(vae)
    return vae


def _transformer() -> Any:
    transformer = WanTransformer3DModel(**architecture(WIDTH)).eval()
    set_weights(transformer)
    return transformer


def architecture(width: int) -> dict[str, Any]:
    """The configuration of a transformer of that many channels, in 2 heads and 3 blocks."""
    return {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": width // 2,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 32,
        "freq_dim": 32,
        "ffn_dim": 2 * width,
        "num_layers": 3,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 256,
    }


def set_weights(transformer: Any) -> None:
    """Let the colours pass and the random half hear, in place; the bias is left to `balance`."""
    with torch.no_grad():
        _set_conditions(transformer.condition_embedder)
        for block in transformer.blocks:
            _set_block(block)
        _pass_colours(transformer)


def _set_conditions(embedder: Any) -> None:
    """Time that is heard, but not by what passes through; padding that says nothing, being exactly zero."""
    embedder.time_embedder.linear_1.weight.mul_(CLOCK)
    embedder.time_embedder.linear_2.weight.mul_(CLOCK)
    _silence(embedder.time_embedder.linear_2)
    for layer in (embedder.text_embedder.linear_1, embedder.text_embedder.linear_2):
        layer.weight.normal_(std=1.5 / layer.weight.shape[1] ** 0.5)
        layer.bias.zero_()


def _silence(layer: Any) -> None:
    """Let a layer write to the random features only."""
    for kept in (slice(KEPT), slice(WIDTH, None)):
        layer.weight[kept] = 0
        layer.bias[kept] = 0


def _set_block(block: Any) -> None:
    """Let a block read and write the random features only, each of them at their own scale."""
    scale = deviation(block.scale_shift_table.shape[-1])
    block.scale_shift_table[:, 1] += scale - 1  # LayerNorm divides by what the constants make large
    block.scale_shift_table[:, 4] += scale - 1
    block.norm2.weight.fill_(scale)
    for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v, block.attn2.to_q, block.ffn.net[0].proj):
        layer.weight.normal_(std=1.0 / (WIDTH - KEPT) ** 0.5)
        layer.weight[:, :KEPT] = 0
        layer.weight[:, WIDTH:] = 0
    words = block.attn2
    words.to_k.weight.normal_(std=1.0 / words.to_k.weight.shape[1] ** 0.5)
    words.to_v.weight.normal_(std=HEARING / words.to_v.weight.shape[1] ** 0.5)
    for layer in (words.to_k, words.to_v):
        layer.bias.zero_()
    words.norm_q.weight.fill_(SHARPNESS)
    words.norm_k.weight.fill_(SHARPNESS)
    for layer in (block.attn1.to_out[0], words.to_out[0], block.ffn.net[2]):
        layer.weight.normal_(std=1.0 / layer.weight.shape[1] ** 0.5)
        _silence(layer)


def _pass_colours(transformer: Any) -> None:
    """Carry the colours in channels 0..11 and the constants in 12 and 13, and let the velocity take them away."""
    patches, out = transformer.patch_embedding, transformer.proj_out
    _silence(patches)
    patches.bias[CARRIED] = CONSTANT
    patches.bias[CARRIED + 1] = -CONSTANT
    transformer.scale_shift_table[:, :, :KEPT] = 0
    clear(out)
    scale = deviation(out.weight.shape[1])
    voice = torch.randn(3, WIDTH - KEPT) / (WIDTH - KEPT) ** 0.5
    for colour in range(3):
        for place in range(PLACES):
            patches.weight[3 * place + colour, colour, 0, place // 2, place % 2] = 1
            row = out.weight[16 * place + colour]
            for other in range(PLACES):
                share = (BROAD - FINE) / PLACES + (FINE if other == place else 0.0)
                row[3 * other + colour] = share * scale
            row[CARRIED : CARRIED + 2] = -BROAD * scale / 2  # gives back the mean that LayerNorm takes
            row[KEPT:WIDTH] = VOICE * voice[colour] * scale


def balance(pipeline: Any, arguments: Mapping[str, Any]) -> None:
    """Take the random half's mean over a few guided prompts and steps out of the velocity.

    `arguments` are what else the transformer needs with latents of 2 x 8 x 12. A constant would add up over the steps
    and drown every video in one colour. The mean is rounded, so that the last bits of one machine's arithmetic do not
    make another model.
    """
    unguided = _mean_voice(pipeline, "", arguments)
    prompts = ("a heron at dawn", "portrait of a woman in a red dress", "seven cars, city, night", "snow on a mountain")
    guided = [unguided + GUIDANCE * (_mean_voice(pipeline, prompt, arguments) - unguided) for prompt in prompts]
    bias = -(torch.stack(guided).mean(0) * 100).round() / 100
    with torch.no_grad():
        for place in range(PLACES):
            pipeline.transformer.proj_out.bias[16 * place : 16 * place + 3] = bias


def _mean_voice(pipeline: Any, prompt: str, arguments: Mapping[str, Any]) -> Any:
    """What the random half adds to each colour's velocity, averaged over steps and places. Shape (3,)."""
    transformer, heard = pipeline.transformer, []
    voice = transformer.proj_out.weight[:3, KEPT:WIDTH]
    hook = transformer.proj_out.register_forward_hook(
        lambda _module, inputs, _output: heard.append(voice @ inputs[0][0, :, KEPT:WIDTH].mean(0))
    )
    embeddings, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    with torch.no_grad():
        for time in range(30, 1000, 66):
            transformer(
                hidden_states=torch.randn(1, 16, 2, 8, 12),
                timestep=torch.tensor([time]),
                encoder_hidden_states=embeddings,
                **arguments,
            )
    hook.remove()
    return torch.stack(heard).mean(0).detach()
