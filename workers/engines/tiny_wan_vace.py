"""A tiny WAN VACE: tiny WAN's text encoder and VAE, and a VACE transformer whose references can be seen.

The main half is tiny WAN's with some channels more, in which it neither hears nor says anything. There the control
half keeps what it is shown, exactly, and with it decides what it adds to the last block's output:

- where a frame is given, its colours, which the velocity then leads to; and the latent's own colours and the
  constants once more, so that LayerNorm makes the random half's voice small there;
- everywhere else, the mean colours of a reference image, which it finds by attention.

What is given is told by the grey of the others: it is 128, which in the latents is a little above nothing.
"""

from typing import Any, Final

import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel

from workers.engines.analytic_vae import CONSTANT, clear
from workers.engines.tiny_wan import (
    CARRIED,
    KEPT,
    PLACES,
    WIDTH,
    architecture,
    balance,
    build,
    deviation,
    set_weights,
)

LAYERS: Final = (0, 2)  # the first control block only prepares the second one
LATENTS: Final = 16  # channels of a latent: of the given frames, and again of the others
MASK: Final = 64  # channels of the mask: the 8 x 8 pixels of a latent
GREY: Final = (128 / 127.5 - 1) / 0.6  # of frames that are not given, in latents of the deviation 0.6

GIVEN: Final = WIDTH  # 12 channels: the given frame's colours
MASKED: Final = GIVEN + CARRIED  # 1 where something is to be made, 0 in a reference image
OTHERS: Final = MASKED + 1  # 1 in frames that are not given, 0 in those that are
REFERENCE: Final = OTHERS + 1  # 3: a reference image's mean colours, there
HEARD: Final = REFERENCE + 3  # 3: the same, everywhere
PULL: Final = HEARD + 3  # 3: the same, save in the reference image
AGAIN: Final = PULL + 3  # 12: the latent's own colours, where a frame is given
STILL: Final = AGAIN + CARRIED  # 1: the constant, where a frame is given
ONE: Final = STILL + 1  # 1 everywhere, in the main half
WIDE: Final = 104

SOFTLY: Final = 0.5  # how loud the random half is beside tiny WAN's: a long prompt shouts a reference down
QUIET: Final = 3.0  # how much smaller, less one, the voice becomes in a frame that is given
PULLED: Final = 0.9  # share of a reference's mean colours in the whole clip
SHUT: Final = 20.0  # far below zero: GELU lets nothing through
SMALL: Final = 0.25  # of a key that is nowhere looked for, beside one that is


def build_vace(seed: int = 0) -> Any:
    """A `WanVACEPipeline` on the CPU in fp32, with the text encoder, the VAE and the scheduler of `build(seed)`."""
    pipeline = build(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanVACETransformer3DModel(
            **architecture(WIDE), vace_layers=list(LAYERS), vace_in_channels=2 * LATENTS + MASK
        ).eval()
        set_weights(transformer)
        with torch.no_grad():
            transformer.proj_out.weight[:, KEPT:WIDTH] *= SOFTLY
            _set_control(transformer)
        pipeline = WanVACEPipeline(
            tokenizer=pipeline.tokenizer,
            text_encoder=pipeline.text_encoder,
            vae=pipeline.vae,
            scheduler=pipeline.scheduler,
            transformer=transformer,
        )
        nothing = {
            "control_hidden_states": torch.zeros(1, 2 * LATENTS + MASK, 2, 8, 12),
            "control_hidden_states_scale": torch.zeros(len(LAYERS)),
        }
        balance(pipeline, nothing)
        with torch.no_grad():
            _carry_bias(transformer)
    return pipeline


def _set_control(transformer: Any) -> None:
    time = transformer.condition_embedder.time_proj  # speaks to all blocks alike: to these not where they are exact
    for kept in (slice(KEPT), slice(WIDTH, None)):
        time.weight.view(6, WIDE, WIDE)[:, kept] = 0
        time.bias.view(6, WIDE)[:, kept] = 0
    transformer.scale_shift_table[:, :, WIDTH:] = 0
    _show(transformer.vace_patch_embedding)
    first, second = transformer.vace_blocks
    clear(first.proj_in)
    first.proj_in.weight.fill_diagonal_(1)
    for block in (first, second):
        for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[0].proj, block.ffn.net[2]):
            clear(layer)
        clear(block.proj_out)
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, [1, 4]] = deviation(WIDE) - 1
        block.scale_shift_table[:, [2, 5]] = 1
    _keep_reference(first.ffn)
    _hear_reference(second.attn1)
    _tell_given(second.ffn)
    _hint(second.proj_out)


def _show(patches: Any) -> None:
    """Of a latent's patch, what the control half is shown: 12 colours, and two marks."""
    clear(patches)
    for place in range(PLACES):
        for colour in range(3):
            down, across = divmod(place, 2)
            patches.weight[GIVEN + 3 * place + colour, colour, 0, down, across] = 1
            patches.weight[OTHERS, LATENTS + colour, 0, down, across] = 1 / (3 * PLACES * GREY)
    patches.weight[MASKED, 2 * LATENTS :] = 1 / (MASK * PLACES)


def _read(layer: Any, row: int, weights: dict[int, float]) -> None:
    """Let a row read these channels as they were before LayerNorm: the constants tell the mean that it took."""
    for channel, weight in weights.items():
        layer.weight[row, channel] = weight
    layer.weight[row, CARRIED : CARRIED + 2] -= sum(weights.values()) / 2


def _gate(ffn: Any, neuron: int, channel: int, weights: dict[int, float], shut: dict[int, float], bias: float) -> None:
    """Let two neurons write `weights` to a channel where `shut` and `bias` add up to nothing, and nothing elsewhere.

    Exactly: gelu(x) - gelu(-x) == x.
    """
    into, out = ffn.net[0].proj, ffn.net[2]
    for place, sign in ((neuron, 1.0), (neuron + 1, -1.0)):
        _read(into, place, {name: sign * weight for name, weight in weights.items()} | shut)
        into.bias[place] = bias
        out.weight[channel, place] = sign


def _keep_reference(ffn: Any) -> None:
    for colour in range(3):
        mean = {GIVEN + 3 * place + colour: 1 / PLACES for place in range(PLACES)}
        _gate(ffn, 2 * colour, REFERENCE + colour, mean, {MASKED: -SHUT}, 0.0)


def _hear_reference(attention: Any) -> None:
    """Let each place of the clip look for a reference image.

    Where time and width turn slowest in the rotary embedding, a place's position hardly matters. Keys are brought to
    one length, so each has a part that is not looked for, or else any trace of the other would become large.
    """
    head = WIDE // 2
    side = 2 * (head // 6)
    looked, other = head - 2 * side - 2, head - 2
    for layer in (attention.to_q, attention.to_k, attention.to_v):
        clear(layer)
    attention.to_q.bias[looked] = 1
    attention.to_k.bias[looked] = 1
    attention.to_k.bias[other] = SMALL
    _read(attention.to_k, looked, {MASKED: -1.0})
    for colour in range(3):
        _read(attention.to_v, colour, {REFERENCE + colour: 1.0})
        attention.to_out[0].weight[HEARD + colour, colour] = 1


def _tell_given(ffn: Any) -> None:
    for channel in range(CARRIED):
        _gate(ffn, 2 * channel, AGAIN + channel, {channel: 1.0}, {OTHERS: -SHUT}, 0.0)
    for colour in range(3):
        _gate(ffn, 2 * (CARRIED + colour), PULL + colour, {HEARD + colour: 1.0}, {MASKED: SHUT}, -SHUT)
    last = 2 * (CARRIED + 3)
    _read(ffn.net[0].proj, last, {OTHERS: -2 * CONSTANT})
    ffn.net[0].proj.bias[last] = CONSTANT
    ffn.net[2].weight[STILL, last] = 1


def _hint(out: Any) -> None:
    """What is added to the last block's output: its colours' negatives are what the velocity leads to."""
    for channel in range(CARRIED):
        out.weight[channel, GIVEN + channel] = -(1 + QUIET)
        out.weight[channel, AGAIN + channel] = QUIET
        out.weight[channel, PULL + channel % 3] = -PULLED
    out.weight[CARRIED, STILL] = QUIET
    out.weight[CARRIED + 1, STILL] = -QUIET


def _carry_bias(transformer: Any) -> None:
    """Let the bias that balances the random half become as small as that does, by going through LayerNorm too.

    What the output layer adds behind LayerNorm stays as large as it was, and so does what balances it.
    """
    out, embedder = transformer.proj_out, transformer.condition_embedder
    times = embedder.time_embedder(embedder.timesteps_proj(torch.arange(30, 1000, 66)))
    behind = out.weight @ (transformer.scale_shift_table[0, 0] + times).mean(0)
    transformer.patch_embedding.bias[ONE] = 1
    for row, bias in enumerate(out.bias + behind):
        _read(out, row, {ONE: float(bias) * deviation(WIDE)})
    out.bias.copy_(-behind)
