"""A tiny SDXL: every part is the real class, only small, and random where it may be.

A random UNet draws noise and hardly hears its prompt. So a quarter of this one is set by hand: the latents pass
through it beside the random features and are subtracted again, their fine grain more than their broad strokes.
What is left of the noise is a smooth field, and what the random half adds to it, coloured by the text through
amplified attention, becomes the picture. Beside both halves there is a way for the colours of a reference, which an
IP-Adapter may use (`tiny_ip_adapter`) and nothing else does.
"""

from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from workers.engines.analytic_vae import CONSTANT, blur_kernel, clear, set_sdxl_vae
from workers.engines.tiny_ip_adapter import carry_colours
from workers.engines.tokenizers import byte_tokenizer

VAE_GAIN: Final = 6.5
FINE: Final = 1.6  # how much of the input's fine grain counts as noise to be removed, 1 = all that is there
BROAD: Final = 0.95  # the same of its broad strokes: what is left of them gives every seed its own field
VOICE: Final = 1.1  # of the random half in the predicted noise
CLOCK: Final = 3.5  # how much faster than by initialisation the random half changes from step to step
GUIDANCE: Final = 6.0  # at which the colours are balanced
HEARING: Final = 3.0  # deviation of the cross-attention's values; 0.1 is what initialisation gives


def build(seed: int = 0) -> Any:
    """A `StableDiffusionXLPipeline` of 4 M parameters on the CPU in fp32. The same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer, tokenizer_2 = byte_tokenizer(), byte_tokenizer(pad="!")
        pipeline = StableDiffusionXLPipeline(
            vae=_vae(),
            # The widths differ because from_single_file tells the encoders apart by them.
            text_encoder=_text_encoder(CLIPTextModel, tokenizer, width=32, act="quick_gelu"),
            text_encoder_2=_text_encoder(CLIPTextModelWithProjection, tokenizer_2, width=64, act="gelu"),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=_unet(),
            scheduler=scheduler(),
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )
        _balance(pipeline)
    return pipeline


def scheduler() -> Any:
    """The scheduler that SDXL's base model comes with."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type="epsilon",
        interpolation_type="linear",
        use_karras_sigmas=False,
    )


def _vae() -> Any:
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=128,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=2,
        norm_num_groups=8,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        scaling_factor=0.13025,
        force_upcast=True,
    ).eval()
    set_sdxl_vae(vae, gain=VAE_GAIN)
    return vae


def _text_encoder(kind: Any, tokenizer: Any, *, width: int, act: str) -> Any:
    encoder = kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_attention_heads=4,
            num_hidden_layers=2,
            max_position_embeddings=77,
            hidden_act=act,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,  # pooling looks for it
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name.endswith("token_embedding.weight"):
                weight.normal_(std=1.0)
            elif name.endswith("position_embedding.weight"):
                weight.normal_(std=0.3)
            elif name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.normal_(std=1.5 / width**0.5)  # sharp: a word more or less is not averaged away
            elif name.endswith(("v_proj.weight", "out_proj.weight", "text_projection.weight")):
                weight.normal_(std=1.5 / width**0.5)
    return encoder


def _unet() -> Any:
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        flip_sin_to_cos=True,
        freq_shift=0,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=32 + 64,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64 + 6 * 8,
    ).eval()
    with torch.no_grad():
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                module.to_q.weight.normal_(std=1.0 / module.to_q.weight.shape[1] ** 0.5)
                module.to_k.weight.normal_(std=1.0 / module.to_k.weight.shape[1] ** 0.5)
                module.to_v.weight.normal_(std=HEARING / module.to_v.weight.shape[1] ** 0.5)
                module.to_out[0].weight.normal_(std=1.0 / module.to_out[0].weight.shape[1] ** 0.5)
        unet.time_embedding.linear_1.weight.mul_(CLOCK)
        unet.time_embedding.linear_2.weight.mul_(CLOCK)
        unet.add_embedding.linear_1.weight.normal_(std=1.0 / 8)
        unet.add_embedding.linear_2.weight.normal_(std=1.0 / 8)
        _pass_latents(unet)
        carry_colours(unet)
    return unet


def _pass_latents(unet: Any) -> None:
    """Carry the four latents through channels 0..15 as (+x, -x, +constant, -constant) and predict them as noise."""
    conv_in, last = unet.conv_in, unet.up_blocks[-1].resnets[-1]
    conv_in.weight[:16] = 0
    conv_in.bias[:16] = 0
    for latent in range(4):
        first = 4 * latent
        conv_in.weight[first, latent, 1, 1] = 1
        conv_in.weight[first + 1, latent, 1, 1] = -1
        conv_in.bias[first + 2] = CONSTANT
        conv_in.bias[first + 3] = -CONSTANT
    # The last resnet's input ends with conv_in's output, by the UNet's outermost skip connection.
    skip = last.conv_shortcut.weight.shape[1] - 32
    last.conv2.weight[:16] = 0
    last.conv2.bias[:16] = 0
    last.conv_shortcut.weight[:16] = 0
    last.conv_shortcut.bias[:16] = 0
    for channel in range(16):
        last.conv_shortcut.weight[channel, skip + channel, 0, 0] = 1
    last.conv_shortcut.weight[16:, skip : skip + 16] = 0
    unet.conv_norm_out.weight[:16] = CONSTANT / 2**0.5
    clear(unet.conv_out)
    blur = blur_kernel()
    grain = -FINE * blur
    grain[1, 1] += FINE
    voice = torch.randn(4, 16) / 16**0.5
    voice -= voice.mean(dim=1, keepdim=True)  # the features are positive: their sum would be one colour
    for latent in range(4):
        unet.conv_out.weight[latent, 4 * latent] = grain + BROAD * blur
        unet.conv_out.weight[latent, 4 * latent + 1] = -(grain + BROAD * blur)
        unet.conv_out.weight[latent, 16:] = VOICE * voice[latent][:, None, None] * blur


def _balance(pipeline: Any) -> None:
    """Take the random half's mean over a few guided prompts and steps out of the predicted noise.

    A constant would add up over the steps and drown every picture in one colour. The mean is rounded, so that the
    last bits of one machine's arithmetic do not make another model.
    """
    unguided = _mean_voice(pipeline, "")
    prompts = ("a heron at dawn", "portrait of a woman in a red dress", "seven cars, city, night", "snow on a mountain")
    guided = [unguided + GUIDANCE * (_mean_voice(pipeline, prompt) - unguided) for prompt in prompts]
    with torch.no_grad():
        pipeline.unet.conv_out.bias.copy_(-(torch.stack(guided).mean(0) * 100).round() / 100)


def _mean_voice(pipeline: Any, prompt: str) -> Any:
    """What the random half adds to each predicted channel, averaged over one image's steps and places. Shape (4,)."""
    unet, heard = pipeline.unet, []
    voice = unet.conv_out.weight[:, 16:].sum((2, 3))
    hook = unet.conv_out.register_forward_hook(
        lambda _module, inputs, _output: heard.append(voice @ inputs[0][0, 16:].mean((1, 2)))
    )
    embeddings, _, pooled, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    sizes = torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]])
    with torch.no_grad():
        for time in range(1, 1000, 66):
            unet(
                torch.randn(1, 4, 16, 16),
                time,
                encoder_hidden_states=embeddings,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
            )
    hook.remove()
    return torch.stack(heard).mean(0).detach()
