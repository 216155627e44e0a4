"""Weights set by hand that make a tiny VAE a true one: encode is an exact 8x box average, decode a smooth upsample.

Nothing is trained. Two tricks carry a colour through layers that were built to be non-linear: every value travels
as a pair (+x, -x), since silu(x) - silu(-x) == x; and two constant channels (+30, -30) beside it make a group's
deviation, by which GroupNorm divides, nearly the same everywhere.
"""

from typing import Any, Final

import torch

CONSTANT: Final = 30.0
"""Far above any colour (-1..1), so that a group's deviation is CONSTANT / sqrt(2) within a part in a thousand."""


def clear(module: Any) -> None:
    """Set a layer's weight, and bias if it has one, to zero."""
    with torch.no_grad():
        module.weight.zero_()
        if module.bias is not None:
            module.bias.zero_()


def blur_kernel() -> Any:
    """3x3, [1, 2, 1] outer [1, 2, 1], sum 1: what makes an upsampled block smooth."""
    row = torch.tensor([1.0, 2.0, 1.0])
    return torch.outer(row, row) / 16


def box_kernel() -> Any:
    """3x3 with the mean of the 2x2 pixels that a stride of two covers."""
    kernel = torch.zeros(3, 3)
    kernel[:2, :2] = 0.25
    return kernel


def _pass_colours(resampler: Any, kernel: Any) -> None:
    """Let the channels (+x, -x, +constant, -constant) of three colours through one resampling convolution."""
    clear(resampler.conv)
    for channel in range(resampler.conv.weight.shape[0]):
        place = channel % 4
        if channel < 12 and place >= 2:
            resampler.conv.bias[channel] = CONSTANT if place == 2 else -CONSTANT
        else:
            resampler.conv.weight[channel, channel] = kernel


def set_sdxl_vae(vae: Any, *, gain: float) -> None:
    """Set the weights of an `AutoencoderKL` of 32 channels at all levels, in 8 groups, in place.

    Latent channels 0..2 hold red, green, blue times `gain` (before the pipeline's scaling factor), channel 3 is
    nothing. The posterior has no variance. Raises ValueError for another shape.
    """
    if any(width != 32 for width in vae.config.block_out_channels) or vae.config.norm_num_groups != 8:
        raise ValueError(
            "the VAE needs 32 channels in 8 groups, "
            f"got {vae.config.block_out_channels} in {vae.config.norm_num_groups}"
        )
    with torch.no_grad():
        for part in (vae.encoder, vae.decoder):
            for module in part.modules():
                kind = type(module).__name__
                if kind == "ResnetBlock2D":
                    clear(module.conv2)  # leaves its input as it is
                elif kind == "Attention":
                    clear(module.to_out[0])
                elif kind == "Downsample2D":
                    _pass_colours(module, box_kernel())
                elif kind == "Upsample2D":
                    _pass_colours(module, blur_kernel())
            clear(part.conv_in)
            clear(part.conv_out)
            part.conv_norm_out.weight.fill_(CONSTANT / 2**0.5)
            part.conv_norm_out.bias.zero_()
            for colour in range(3):
                first = 4 * colour
                part.conv_in.weight[first, colour, 1, 1] = 1
                part.conv_in.weight[first + 1, colour, 1, 1] = -1
                part.conv_in.bias[first + 2] = CONSTANT
                part.conv_in.bias[first + 3] = -CONSTANT
                part.conv_out.weight[colour, first, 1, 1] = 1
                part.conv_out.weight[colour, first + 1, 1, 1] = -1
        clear(vae.quant_conv)
        clear(vae.post_quant_conv)
        for colour in range(3):
            vae.quant_conv.weight[colour, colour] = gain
            vae.post_quant_conv.weight[colour, colour] = 1 / gain
        vae.quant_conv.bias[4:] = -30.0  # the log-variance: exp(-30) is none
