"""All frames of a film for the price of a few: the decoder draws these, and a read-out that they teach the others."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.noise import seeded
from taesd_ext.learning.ridge import ConvolutionFit


def between_key_frames(latents: Tensor, places: Sequence[int], drawn: Tensor) -> Tensor:
    """(T,C,h,w) latents and the (K,3,s*h,s*w) pictures of those at ``places``, rising from 0 -> (T,3,s*h,s*w).

    A 3x3 read-out of the latent is solved from these pictures, in milliseconds: they are of the same scene, and as
    noisy. What it lacks of them is faded from one to the next, so that the film does not flicker where nothing moves.
    """
    latents, pictures = latents.float().cpu(), drawn.float().cpu()
    scale = pictures.shape[-1] // latents.shape[-1]
    wanted = functional.pixel_unshuffle(pictures, scale)
    fit, generator = ConvolutionFit(latents.shape[1], wanted.shape[1]), seeded(0)
    for place, picture in zip(places, wanted.split(1), strict=True):
        fit.add(latents[place : place + 1], picture, generator)
    shown = functional.pixel_shuffle(fit.solve()(latents), scale)
    lacking = pictures - shown[list(places)]
    for index, place in enumerate(places):
        after = places[index + 1] if index + 1 < len(places) else len(latents)
        following = lacking[min(index + 1, len(places) - 1)]
        for frame in range(place, after):
            shown[frame] += torch.lerp(lacking[index], following, (frame - place) / (after - place))
    return shown.clamp_(0, 1)
