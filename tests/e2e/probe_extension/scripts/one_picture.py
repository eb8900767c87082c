"""Makes of the loaded model one that knows a single picture, for the pictures in docs/.

The mean of what a noisy latent may have been, in closed form, if near each place lies what the picture has there or
not far from there; how far depends on the noise, so that the whole comes before the detail. After M. Kamb and S.
Ganguli, "An analytic theory of creativity in convolutional diffusion models", 2024, where any place will do.
"""

import torch
from modules import script_callbacks, shared
from safetensors.torch import load_file
from torch.nn import functional

REACH = 8
"""Positions of the latent, each way, that what is seen may have come from."""

WINDOW = 11
"""Side of the square that is compared."""

TEMPERATURE = 8.0
"""Neighbours in a window say much the same: so many count as one."""

SPREAD, LEAST_SPREAD = 0.5, 0.3
"""Deviation of the way from there, for each unit of the noise's, and where there is no noise."""


def ways():
    steps = torch.arange(-REACH, REACH + 1)
    return [(int(y), int(x)) for y in steps for x in steps]


def moved(latent):
    """(C,h,w) -> (N,C,h,w)"""
    height, width = latent.shape[-2:]
    wide = functional.pad(latent[None], (REACH,) * 4, mode="reflect")[0]
    return torch.stack([wide[:, REACH + y :, REACH + x :][:, :height, :width] for y, x in ways()])


def mean_of_window(values):
    """(N,h,w) -> the same"""
    half = WINDOW // 2
    rows = functional.avg_pool2d(values[:, None], (WINDOW, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, WINDOW), 1, (0, half), count_include_pad=False)[:, 0]


def denoised(noisy, sigma, candidates):
    """(C,h,w) of the picture's latent with noise of the deviation ``sigma``."""
    distance = torch.tensor(ways()).square().sum(dim=1).to(noisy)[:, None, None]
    spread = max(LEAST_SPREAD, SPREAD * sigma)
    error = mean_of_window((noisy - candidates).square().sum(dim=1)) * WINDOW**2
    weights = torch.softmax(-error / (2 * TEMPERATURE * sigma**2) - distance / (2 * spread**2), dim=0)
    return torch.einsum("nhw,nchw->chw", weights, candidates)


def know(wanted: dict):
    """``latent``: a .safetensors file of the (1,C,h,w) latent that the model knows from now on."""
    model = shared.sd_model
    network = model.model.diffusion_model
    plain = getattr(network.forward, "plain", network.forward)
    candidates = moved(load_file(wanted["latent"])["latent"][0].float())
    kept = model.alphas_cumprod.float().cpu()

    def forward(x, timesteps=None, *args, **kwargs):
        plain(x, timesteps, *args, **kwargs)  # takes its time
        alphas = kept[timesteps.long().cpu()].view(-1, 1, 1, 1)
        sigmas = ((1 - alphas) / alphas).sqrt()
        clean = [
            denoised(latent, float(sigma), candidates)
            for latent, sigma in zip(x.float() / alphas.sqrt(), sigmas, strict=True)
        ]
        return ((x - alphas.sqrt() * torch.stack(clean)) / (1 - alphas).sqrt()).to(x)

    forward.plain = plain
    network.forward = forward
    return {}


script_callbacks.on_app_started(
    lambda demo, app: app.add_api_route("/one_picture/know", know, methods=["POST"]) or None
)
