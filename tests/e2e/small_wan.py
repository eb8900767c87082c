"""A checkpoint of Wan 2.1 for Forge Neo: small networks of random weights.

Its text encoder and VAE are smaller than the host believes them: probe_extension/scripts/small_parts.py tells it.
"""

from pathlib import Path

import torch
from fork_checkpoints import UNET, Contents, affine, noise, noisy, write

WIDTH, LAYERS, TEXT, LATENT = 512, 4, 4096, 16
VAE_WIDTH, TEXT_LAYERS, TEXT_HIDDEN, TEXT_VOCABULARY = 8, 2, 64, 8


def small_wan(path: Path) -> None:
    parts = {UNET: transformer(), "text_encoders.umt5xxl.transformer.": text_encoder(), "vae.": vae()}
    write(path, {prefix + name: value for prefix, part in parts.items() for name, value in part.items()})


def transformer() -> Contents:
    made: Contents = {
        **noisy("patch_embedding", WIDTH, LATENT, 1, 2, 2),
        **noisy("text_embedding.0", WIDTH, TEXT), **noisy("text_embedding.2", WIDTH, WIDTH),
        **noisy("time_embedding.0", WIDTH, 256), **noisy("time_embedding.2", WIDTH, WIDTH),
        **noisy("time_projection.1", 6 * WIDTH, WIDTH),
        **noisy("head.head", 4 * LATENT, WIDTH), "head.modulation": noise(1, 2, WIDTH),
    }  # fmt: skip
    for number in range(LAYERS):
        block = f"blocks.{number}."
        made |= {
            **affine(f"{block}norm3", WIDTH), f"{block}modulation": noise(1, 6, WIDTH),
            **noisy(f"{block}ffn.0", 4 * WIDTH, WIDTH), **noisy(f"{block}ffn.2", WIDTH, 4 * WIDTH),
        }  # fmt: skip
        for kind in ("self_attn", "cross_attn"):
            for name in "qkvo":
                made |= noisy(f"{block}{kind}.{name}", WIDTH, WIDTH)
            made |= {f"{block}{kind}.norm_{name}.weight": torch.ones(WIDTH) for name in "qk"}
    return made


def text_encoder() -> Contents:
    made: Contents = {
        "shared.weight": noise(TEXT_VOCABULARY, TEXT), "encoder.final_layer_norm.weight": torch.ones(TEXT)
    }  # fmt: skip
    for block in range(TEXT_LAYERS):
        attention, feed = (f"encoder.block.{block}.layer.{place}." for place in range(2))
        made |= {
            **{f"{attention}SelfAttention.{name}.weight": (TEXT, TEXT) for name in "qkvo"},
            f"{attention}SelfAttention.relative_attention_bias.weight": (32, 64),
            **{f"{layer}layer_norm.weight": torch.ones(TEXT) for layer in (attention, feed)},
            **{f"{feed}DenseReluDense.wi_{number}.weight": (TEXT_HIDDEN, TEXT) for number in range(2)},
            f"{feed}DenseReluDense.wo.weight": (TEXT, TEXT_HIDDEN),
        }
    return made


def vae() -> Contents:
    """Three halvings, of the time in the last two; two blocks in each stage of the encoder, three of the decoder."""
    one, two, four = VAE_WIDTH, 2 * VAE_WIDTH, 4 * VAE_WIDTH
    made: Contents = {
        **noisy("conv1", 2 * LATENT, 2 * LATENT, 1, 1, 1), **noisy("conv2", LATENT, LATENT, 1, 1, 1),
        **noisy("encoder.conv1", one, 3, 3, 3, 3), **noisy("decoder.conv1", four, LATENT, 3, 3, 3),
        **_last("encoder.head.", four, 2 * LATENT), **_last("decoder.head.", one, 3),
    }  # fmt: skip
    for half in ("encoder", "decoder"):
        middle = f"{half}.middle."
        made |= {**_block(f"{middle}0.", four, four), **_block(f"{middle}2.", four, four)}
        made |= {f"{middle}1.norm.gamma": torch.ones(four, 1, 1), **noisy(f"{middle}1.to_qkv", 3 * four, four, 1, 1)}
        made |= noisy(f"{middle}1.proj", four, four, 1, 1)
    place = 0
    for given, width, joins in ((one, one, False), (one, two, True), (two, four, True), (four, four, None)):
        for _ in range(2):
            made |= _block(f"encoder.downsamples.{place}.", given, width)
            given, place = width, place + 1
        if joins is not None:
            made |= noisy(f"encoder.downsamples.{place}.resample.1", width, width, 3, 3)
            made |= noisy(f"encoder.downsamples.{place}.time_conv", width, width, 3, 1, 1) if joins else {}
            place += 1
    place = 0
    for given, width, splits in ((four, four, True), (two, four, True), (two, two, False), (one, one, None)):
        for _ in range(3):
            made |= _block(f"decoder.upsamples.{place}.", given, width)
            given, place = width, place + 1
        if splits is not None:
            made |= noisy(f"decoder.upsamples.{place}.resample.1", width // 2, width, 3, 3)
            made |= noisy(f"decoder.upsamples.{place}.time_conv", 2 * width, width, 3, 1, 1) if splits else {}
            place += 1
    return made


def _block(name: str, given: int, width: int) -> Contents:
    made: Contents = {
        f"{name}residual.0.gamma": torch.ones(given, 1, 1, 1), f"{name}residual.3.gamma": torch.ones(width, 1, 1, 1),
        **noisy(f"{name}residual.2", width, given, 3, 3, 3), **noisy(f"{name}residual.6", width, width, 3, 3, 3),
    }  # fmt: skip
    return made | noisy(f"{name}shortcut", width, given, 1, 1, 1) if given != width else made


def _last(name: str, given: int, out: int) -> Contents:
    return {f"{name}0.gamma": torch.ones(given, 1, 1, 1), **noisy(f"{name}2", out, given, 3, 3, 3)}
