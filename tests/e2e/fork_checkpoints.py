"""Checkpoints of more model kinds for the forks, out of small_sd15: small networks of random weights.

The forks recognise a model by the width and depth of its network and build the rest by what the file holds. Text
encoders are of their true size and zeros but for the positions, since the hosts divide by the mean of what comes out:
the files are sparse, and take little room on the disk.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

UNET = "model.diffusion_model."
VAE = "first_stage_model."
WIDTH, TIME, CONTEXT = 320, 1280, 2048
"""Of SDXL's network: base width, time embedding, text context."""

Shape = tuple[int, ...]
Contents = dict[str, Tensor | Shape]
"""A tensor as it is; a shape stands for zeros."""


def write(path: Path, contents: Contents) -> None:
    """A safetensors file in half precision whose zeros, at its end, take no room."""
    ordered = sorted(contents.items(), key=lambda item: not torch.is_tensor(item[1]))
    header, offset = {}, 0
    for name, value in ordered:
        shape = list(value.shape) if torch.is_tensor(value) else list(value)
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, value in ordered:
            if torch.is_tensor(value):
                file.write(value.half().contiguous().numpy().tobytes())
        file.truncate(8 + len(text) + offset)


def small_sdxl(base: Path, path: Path) -> None:
    """SDXL with 4 channels."""
    write(path, {**sdxl_unet(4), **sdxl_text_encoders(base), **vae_of(base, 4)})


def small_sdxl_flux2(base: Path, path: Path) -> None:
    """SDXL with the 32 channels of FLUX.2's VAE, as reForge knows it."""
    write(path, {**sdxl_unet(32), **sdxl_text_encoders(base), **vae_of(base, 32)})


def small_sd3(base: Path, path: Path) -> None:
    """SD3 with 16 channels; its T5 is a mere stub, as the hosts use it on request only."""
    write(path, {**sd3_transformer(2), **sd3_text_encoders(base), **vae_of(base, 16)})


CHECKPOINTS = {"small_sdxl": small_sdxl, "small_sdxl_flux2": small_sdxl_flux2, "small_sd_three": small_sd3}


# Parts of small_sd15


def read(base: Path, prefix: str) -> dict[str, Tensor]:
    with safe_open(base, "pt") as file:
        return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def vae_of(base: Path, channels: int) -> Contents:
    """The same VAE for latents of another number of channels."""
    made: Contents = {}
    for name, value in read(base, VAE).items():
        if channels != 4 and name.startswith(("quant_conv", "post_quant_conv")):
            continue
        if channels != 4 and name == "decoder.conv_in.weight":
            value = noise(value.shape[0], channels, 3, 3)
        elif channels != 4 and name.startswith("encoder.conv_out"):
            value = torch.zeros(2 * channels, *value.shape[1:])
        made[VAE + name] = value
    return made


def clip_l(base: Path) -> Contents:
    made: Contents = {name: tuple(t.shape) for name, t in read(base, "cond_stage_model.transformer.").items()}
    return made | {"text_model.embeddings.position_embedding.weight": noise(77, 768)}


def sdxl_text_encoders(base: Path) -> Contents:
    made: Contents = {f"conditioner.embedders.0.transformer.{name}": value for name, value in clip_l(base).items()}
    clip_g: Contents = {
        "positional_embedding": noise(77, 1280), "token_embedding.weight": (49408, 1280),
        "text_projection": (1280, 1280), "ln_final.weight": (1280,), "ln_final.bias": (1280,),
    }  # fmt: skip
    for layer in range(32):
        block = f"transformer.resblocks.{layer}."
        clip_g |= {
            **affine(f"{block}ln_1", 1280), **affine(f"{block}ln_2", 1280),
            f"{block}attn.in_proj_weight": (3 * 1280, 1280), f"{block}attn.in_proj_bias": (3 * 1280,),
            **linear(f"{block}attn.out_proj", 1280, 1280),
            **linear(f"{block}mlp.c_fc", 5120, 1280), **linear(f"{block}mlp.c_proj", 1280, 5120),
        }  # fmt: skip
    return made | {f"conditioner.embedders.1.model.{name}": shape for name, shape in clip_g.items()}


def sd3_text_encoders(base: Path) -> Contents:
    model = "text_model."
    clip_g: Contents = {
        f"{model}embeddings.position_embedding.weight": noise(77, 1280),
        f"{model}embeddings.token_embedding.weight": (49408, 1280),
        **affine(f"{model}final_layer_norm", 1280), "text_projection.weight": (1280, 1280),
    }  # fmt: skip
    for layer in range(32):
        block = f"{model}encoder.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            clip_g |= linear(f"{block}self_attn.{part}", 1280, 1280)
        clip_g |= {
            **affine(f"{block}layer_norm1", 1280), **affine(f"{block}layer_norm2", 1280),
            **linear(f"{block}mlp.fc1", 5120, 1280), **linear(f"{block}mlp.fc2", 1280, 5120),
        }  # fmt: skip
    t5: Contents = {"encoder.final_layer_norm.weight": (4096,)}
    for block in range(24):
        t5[f"encoder.block.{block}.layer.0.layer_norm.weight"] = (4096,)
    encoders = {"clip_l": {**clip_l(base), "text_projection.weight": (768, 768)}, "clip_g": clip_g, "t5xxl": t5}
    return {
        f"text_encoders.{encoder}.transformer.{name}": shape
        for encoder, shapes in encoders.items()
        for name, shape in shapes.items()
    }


# Networks


_generator = torch.Generator().manual_seed(0)


def noise(*shape: int, gain: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=_generator) * gain / math.prod(shape[1:]) ** 0.5


def affine(name: str, width: int) -> Contents:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": (width,)}


def linear(name: str, out: int, given: int) -> Contents:
    return {f"{name}.weight": (out, given), f"{name}.bias": (out,)}


def noisy(name: str, *shape: int, gain: float = 1.0) -> Contents:
    return {f"{name}.weight": noise(*shape, gain=gain), f"{name}.bias": (shape[0],)}


def sdxl_unet(channels: int) -> Contents:
    """SDXL's network with one width throughout, and attention that adds nothing."""
    made: Contents = {
        **noisy("time_embed.0", TIME, WIDTH), **noisy("time_embed.2", TIME, TIME),
        **linear("label_emb.0.0", TIME, 2816), **linear("label_emb.0.2", TIME, TIME),
        **noisy("input_blocks.0.0", WIDTH, channels, 3, 3),
        **affine("out.0", WIDTH), **noisy("out.2", channels, WIDTH, 3, 3),
    }  # fmt: skip
    depths = {1: 0, 2: 0, 4: 2, 5: 2, 7: 10, 8: 10}
    for block in range(1, 9):
        name = f"input_blocks.{block}."
        made |= dict(layer(name, WIDTH, depths[block])) if block in depths else noisy(f"{name}0.op", *[WIDTH] * 2, 3, 3)
    made |= {
        **residual("middle_block.0.", WIDTH), **attention("middle_block.1.", 10), **residual("middle_block.2.", WIDTH),
    }  # fmt: skip
    for block, depth in enumerate((10, 10, 10, 2, 2, 2, 0, 0, 0)):
        name = f"output_blocks.{block}."
        made |= dict(layer(name, 2 * WIDTH, depth))
        if block in (2, 5):
            made |= noisy(f"{name}2.conv", WIDTH, WIDTH, 3, 3)
    return {UNET + name: value for name, value in made.items()}


def layer(name: str, given: int, depth: int) -> Iterator[tuple[str, Tensor | Shape]]:
    yield from residual(f"{name}0.", given).items()
    if depth:
        yield from attention(f"{name}1.", depth).items()


def residual(name: str, given: int) -> Contents:
    made: Contents = {
        **affine(f"{name}in_layers.0", given), **noisy(f"{name}in_layers.2", WIDTH, given, 3, 3),
        **noisy(f"{name}emb_layers.1", WIDTH, TIME),
        **affine(f"{name}out_layers.0", WIDTH), **noisy(f"{name}out_layers.3", WIDTH, WIDTH, 3, 3, gain=0.3),
    }  # fmt: skip
    return made | noisy(f"{name}skip_connection", WIDTH, given, 1, 1) if given != WIDTH else made


def attention(name: str, depth: int) -> Contents:
    made: Contents = {
        **affine(f"{name}norm", WIDTH), **linear(f"{name}proj_in", WIDTH, WIDTH),
        **linear(f"{name}proj_out", WIDTH, WIDTH),
    }  # fmt: skip
    for number in range(depth):
        block = f"{name}transformer_blocks.{number}."
        for part, context in (("attn1", WIDTH), ("attn2", CONTEXT)):
            made |= {f"{block}{part}.to_q.weight": (WIDTH, WIDTH), **linear(f"{block}{part}.to_out.0", WIDTH, WIDTH)}
            made |= {f"{block}{part}.to_{what}.weight": (WIDTH, context) for what in "kv"}
        made |= {
            **linear(f"{block}ff.net.0.proj", 8 * WIDTH, WIDTH), **linear(f"{block}ff.net.2", WIDTH, 4 * WIDTH),
            **affine(f"{block}norm1", WIDTH), **affine(f"{block}norm2", WIDTH), **affine(f"{block}norm3", WIDTH),
        }  # fmt: skip
    return made


def sd3_transformer(depth: int) -> Contents:
    width = 64 * depth
    made: Contents = {
        **noisy("x_embedder.proj", width, 16, 2, 2), "pos_embed": noise(1, 64 * 64, width),
        **noisy("t_embedder.mlp.0", width, 256), **noisy("t_embedder.mlp.2", width, width),
        **noisy("y_embedder.mlp.0", width, 2048), **noisy("y_embedder.mlp.2", width, width),
        **noisy("context_embedder", width, 4096),
        **noisy("final_layer.linear", 64, width), **noisy("final_layer.adaLN_modulation.1", 2 * width, width),
    }  # fmt: skip
    for number in range(depth):
        for stream in ("x_block", "context_block"):
            block = f"joint_blocks.{number}.{stream}."
            last = stream == "context_block" and number == depth - 1
            made |= noisy(f"{block}attn.qkv", 3 * width, width)
            made |= noisy(f"{block}adaLN_modulation.1", (2 if last else 6) * width, width)
            if not last:
                made |= {
                    **noisy(f"{block}attn.proj", width, width),
                    **noisy(f"{block}mlp.fc1", 4 * width, width), **noisy(f"{block}mlp.fc2", width, 4 * width),
                }  # fmt: skip
    return {UNET + name: value for name, value in made.items()}
