"""The same by hand for WAN's video VAE: encode is an exact 8x box average, decode a smooth upsample, in causal time.

Here the norm divides by the length of all channels, so one constant channel far above any colour makes it nearly
linear; the three colours travel as (+x, -x) beside it. See `analytic_vae`. Of the frames behind the first, a latent
holds the last of its four, and decodes to four alike.
"""

from typing import Any, Final

import torch

from workers.engines.analytic_vae import CONSTANT, blur_kernel, box_kernel, clear

CHANNELS: Final = 16
_USED: Final = 7  # red, green, blue, the three negated, the constant
_UPSAMPLED: Final = CHANNELS // 2  # an upsampling halves the channels, the next block's shortcut doubles them again


def set_wan_vae(vae: Any) -> None:
    """Set the weights of an `AutoencoderKLWan` of 16 channels at all levels, in place.

    Latent channels 0..2 hold red, green, blue (before the latents' mean and deviation), the others are nothing.
    The posterior has no variance. Raises ValueError for another shape.
    """
    if vae.config.base_dim != CHANNELS or any(factor != 1 for factor in vae.config.dim_mult):
        raise ValueError(f"the VAE needs 16 channels at all levels, got {vae.config.base_dim} x {vae.config.dim_mult}")
    with torch.no_grad():
        for part in (vae.encoder, vae.decoder):
            for module in part.modules():
                kind = type(module).__name__
                if kind == "WanResidualBlock":
                    _leave_as_it_is(module)
                elif kind == "WanAttentionBlock":
                    clear(module.proj)
                elif kind == "WanResample" and module.mode != "none":
                    _resample(module)
            clear(part.conv_in)
            clear(part.conv_out)
            part.norm_out.gamma.fill_(CONSTANT / CHANNELS**0.5)
            for colour in range(3):  # of the three frames that a causal kernel covers, the last is the present
                part.conv_in.weight[colour, colour, 2, 1, 1] = 1
                part.conv_in.weight[colour + 3, colour, 2, 1, 1] = -1
                part.conv_out.weight[colour, colour, 2, 1, 1] = 1
                part.conv_out.weight[colour, colour + 3, 2, 1, 1] = -1
            part.conv_in.bias[6] = CONSTANT
        for convolution in (vae.quant_conv, vae.post_quant_conv):
            clear(convolution)
            for colour in range(3):
                convolution.weight[colour, colour] = 1
        vae.quant_conv.bias[vae.config.z_dim :] = -30.0  # the log-variance: exp(-30) is none


def _leave_as_it_is(block: Any) -> None:
    clear(block.conv2)
    if hasattr(block.conv_shortcut, "weight"):
        clear(block.conv_shortcut)
        for channel in range(_UPSAMPLED):
            block.conv_shortcut.weight[channel, channel] = 1


def _resample(module: Any) -> None:
    """Up, the constant is blurred too: at the padded edges it shrinks as the colours do, and their ratio stays."""
    down = module.mode.startswith("down")
    convolution = module.resample[1]
    clear(convolution)
    for channel in range(_USED):
        convolution.weight[channel, channel] = box_kernel() if down else blur_kernel()
    if down:
        convolution.weight[6, 6] = 0
        convolution.bias[6] = CONSTANT
    if hasattr(module, "time_conv"):
        clear(module.time_conv)
        for channel in range(_UPSAMPLED):
            module.time_conv.weight[channel, channel, 2] = 1
            if not down:  # the second half of its output becomes the second frame
                module.time_conv.weight[channel + CHANNELS, channel, 2] = 1
