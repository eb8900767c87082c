"""Makes of the loaded model one that nobody knows: latents of 24 channels under a name of their own, and their VAE.

The sampler's four channels are mixed into them, and the VAE takes them apart again.
"""

import torch
from modules import script_callbacks, scripts, sd_samplers_common, shared

CHANNELS, SCALE, SHIFT = 24, 3.0, 1.5

if not hasattr(shared, "e2e_invented"):
    shared.e2e_invented = {"name": ""}
invented = shared.e2e_invented


class Config:
    def __init__(self, name):
        self.latent_format = type(name, (), {})()


def mixing(like):
    rows = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(7))).Q
    return rows[:, : like.shape[1]].to(like) if like.shape[1] != CHANNELS else rows[:, :4].to(like)


def mixed(latent):
    return torch.einsum("dc,bchw->bdhw", mixing(latent), latent) * SCALE + SHIFT


def unmixed(latent):
    return torch.einsum("dc,bdhw->bchw", mixing(latent), (latent - SHIFT) / SCALE)


store_latent = getattr(sd_samplers_common.store_latent, "original", sd_samplers_common.store_latent)


def storing(decoded):
    store_latent(mixed(decoded) if invented["name"] else decoded)


storing.original = store_latent
sd_samplers_common.store_latent = storing


def invent(wanted: dict):
    invented.update(wanted)
    model = shared.sd_model
    model.__dict__.pop("decode_first_stage", None)
    model.__dict__.pop("model_config", None)
    if invented["name"]:
        decode = model.decode_first_stage
        model.__dict__["decode_first_stage"] = lambda latent: decode(
            unmixed(latent) if latent.shape[1] == CHANNELS else latent
        )
        model.__dict__["model_config"] = Config(invented["name"])
    return invented


class InventedModel(scripts.Script):
    def title(self):
        return "Invented model"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def post_sample(self, p, ps):
        if invented["name"]:
            ps.samples = mixed(ps.samples)


script_callbacks.on_app_started(
    lambda demo, app: app.add_api_route("/invented/set", invent, methods=["POST"]) or None
)
