"""What a host's loaded model says about its latents; hosts say it in different places, and some say little."""

import hashlib
from typing import Any

import torch

from taesd_ext.latent_formats import LATENT_FORMATS, ModelEvidence
from taesd_ext.models.latent_rgb import RgbFactors

_FLAGS = tuple(dict.fromkeys(flag for row in LATENT_FORMATS for flag in row.flags))


def evidence_of(model: Any, shape: tuple[int, ...] | None = None) -> ModelEvidence:
    """``shape`` is that of a latent at hand, (B,C,h,w) or with frames (B,C,T,h,w)."""
    latent_format = _latent_format(model)
    decoder_name = _quiet(latent_format, "taesd_decoder_name")
    return ModelEvidence(
        latent_format=type(latent_format).__name__ if latent_format is not None else None,
        decoder_name=decoder_name if isinstance(decoder_name, str) else None,
        flags=frozenset(flag for flag in _FLAGS if _quiet(model, flag) is True),
        channels=shape[1] if shape else _channels(model),
        frames=bool(shape) and len(shape) == 5,
        rgb=_rgb_factors(latent_format),
    )


_WEIGHTS = 256
"""So many of a VAE tell it from any other."""


def vae_digest(model: Any) -> str:
    """Of the first weights of the VAE's decoder, whatever they are stored in; empty where the model has none."""
    for path in (("first_stage_model",), ("forge_objects", "vae", "first_stage_model")):
        decoder = _quiet(model, *path, "decoder")
        try:
            weight = next(weight for weight in decoder.parameters() if weight.ndim > 1)
            values = weight.detach().flatten()[:_WEIGHTS].to("cpu", torch.bfloat16).view(torch.int16)
            return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]
        except Exception:  # a model that is being swapped raises anything
            continue
    return ""


def _quiet(owner: Any, *path: str) -> Any:
    """owner.a.b.c, or None: a model that is being swapped raises anything for any attribute."""
    try:
        for name in path:
            owner = getattr(owner, name, None)
    except Exception:
        return None
    return owner


def _latent_format(model: Any) -> Any:
    return _quiet(model, "model_config", "latent_format") or _quiet(
        model, "forge_objects", "unet", "model", "model_config", "latent_format"
    )


def _channels(model: Any) -> int | None:
    for path in (("forge_objects", "vae", "latent_channels"), ("latent_channels",)):
        channels = _quiet(model, *path)
        if isinstance(channels, int):
            return channels
    return None


def _rgb_factors(latent_format: Any) -> RgbFactors | None:
    """What the host draws this format by: ``latent_rgb_factors``, three for each channel, and perhaps a bias."""
    try:
        factors = tuple(tuple(map(float, row)) for row in _quiet(latent_format, "latent_rgb_factors"))
        bias = tuple(map(float, _quiet(latent_format, "latent_rgb_factors_bias") or (0, 0, 0)))
    except (TypeError, ValueError):
        return None
    if not factors or any(len(row) != 3 for row in (*factors, bias)):
        return None
    return RgbFactors(factors, bias)
