"""safetensors: the original layout, one part or both in a file, and the folder of diffusers' AutoencoderTiny."""

import json
from collections.abc import Mapping, Sequence

import safetensors.torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.models.tiny import CLAMP_MAGNITUDE, WIDTH, Decoder, Encoder, TinyNetwork

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"


def original_bytes(networks: Sequence[TinyNetwork], family: str, notes: dict[str, str]) -> bytes:
    """One part under the original's keys ("1.weight"), or both in one file, "taesd_encoder.1.weight"."""
    state: dict[str, Tensor] = {}
    for network in networks:
        prefix = f"{family}_{network.part}." if len(networks) > 1 else ""
        state |= {prefix + key: value.contiguous() for key, value in network.state_dict().items()}
    return safetensors.torch.save(state, notes)


def diffusers_file(networks: Mapping[str, TinyNetwork], name: str) -> bytes:
    """One of the two files of a folder that AutoencoderTiny.from_pretrained loads. Raises TaesdError."""
    if set(networks) != {"encoder", "decoder"}:
        raise TaesdError("Cannot write the diffusers layout", "it needs both parts", "Use --part both")
    channels, state = networks["decoder"].latent_channels, {}
    for (part, network), plain in zip(networks.items(), (Encoder(channels), Decoder(channels)), strict=True):
        if _keys(network) != _keys(plain):
            what = f"diffusers has no network for a {network.kind} tiny autoencoder"
            raise TaesdError(what, "its AutoencoderTiny is a plain 8x one", "Use --layout original")
        for key, value in network.state_dict().items():
            index, rest = key.split(".", 1)
            # diffusers clamps outside of the decoder's list of layers, so that every index is one less.
            state[f"{part}.layers.{int(index) - (part == 'decoder')}.{rest}"] = value.contiguous()
    return _config(channels) if name == CONFIG_NAME else safetensors.torch.save(state, {"format": "pt"})


def _config(channels: int) -> bytes:
    config = {
        "_class_name": "AutoencoderTiny",
        "act_fn": "relu",
        "decoder_block_out_channels": [WIDTH] * 4,
        "encoder_block_out_channels": [WIDTH] * 4,
        "force_upcast": False,
        "in_channels": 3,
        "latent_channels": channels,
        "latent_magnitude": round(CLAMP_MAGNITUDE),
        "latent_shift": 0.5,
        "num_decoder_blocks": [3, 3, 3, 1],
        "num_encoder_blocks": [1, 3, 3, 3],
        "out_channels": 3,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
        "upsampling_scaling_factor": 2,
    }
    return (json.dumps(config, indent=2) + "\n").encode()


def _keys(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}
