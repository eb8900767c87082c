"""One generation: sampling is random numbers, everything around it has the host's order."""

import torch

from modules import script_callbacks, sd_models, sd_samplers_common
from modules.sd_samplers_common import approximation_indexes, decode_first_stage, images_tensor_to_samples
from modules.shared import opts, state


class Processing:
    def __init__(self, scripts=None, steps=4, side=16, batch=1, enable_hr=False, init_image=None, on_step=None,
                 on_pictures=None, tiling=False):  # fmt: skip
        self.scripts, self.steps, self.side, self.batch_size = scripts, steps, side, batch
        self.enable_hr, self.init_image, self.on_step = enable_hr, init_image, on_step
        self.on_pictures, self.tiling = on_pictures, tiling
        self.is_hr_pass = False
        if enable_hr:
            self.hr_upscale_to_x = self.hr_upscale_to_y = 2 * side
        if init_image is not None and not enable_hr:
            self.init_images = [init_image]
        self.override_settings, self.extra_generation_params, self.comments = {}, {}, []
        self.latents = []

    def comment(self, text):
        self.comments.append(text)

    def sample(self):
        return sample(self, self.side)


def sample(p, side):
    state.sampling_steps = p.steps
    for step in range(p.steps):
        denoiser = type("Denoiser", (), {"step": step, "total_steps": p.steps})
        script_callbacks.call("cfg_denoiser", denoiser=denoiser)
        x0 = torch.randn(p.batch_size, sd_models.model_data.sd_model.latent_channels, side // 8, side // 8)
        sd_samplers_common.store_latent(x0)
        script_callbacks.call("cfg_after_cfg", x=x0, sampling_step=state.sampling_step, total_sampling_steps=p.steps)
        if p.on_step:
            p.on_step(p, step)
        state.sampling_step = step
        if state.interrupted:
            break
    return x0


def encode(p, image):
    if opts.sd_vae_encode_method != "Full":
        p.extra_generation_params["VAE Encoder"] = opts.sd_vae_encode_method
    return images_tensor_to_samples(image, approximation_indexes.get(opts.sd_vae_encode_method))


def decode(batch):
    return torch.cat([decode_first_stage(sd_models.model_data.sd_model, one[None]) for one in batch])


def process_images(p):
    """Returns finished pictures, float (B,3,H,W) in [0,1]."""
    state.begin()
    try:
        return _process_images(p)
    finally:
        state.end()


def _process_images(p):
    for script in p.scripts or ():
        script.before_process(p, *script.args)
    stored = {key: opts.data[key] for key in p.override_settings if key in opts.data}
    try:
        for key, value in p.override_settings.items():
            setattr(opts, key, value)
        for script in p.scripts or ():
            script.process(p, *script.args)
        if p.init_image is not None:
            p.latents.append(encode(p, p.init_image))
        for script in p.scripts or ():
            script.process_batch(p, *script.args, batch_number=0)
        latent = p.sample()
        if p.enable_hr:
            first = decode(latent)
            p.is_hr_pass = True
            p.latents.append(encode(p, torch.nn.functional.interpolate(first, scale_factor=2) / 2 + 0.5))
            latent = sample(p, 2 * p.side)
            images = decode(latent)
            p.is_hr_pass = False
        else:
            if opts.sd_vae_decode_method != "Full":
                p.extra_generation_params["VAE Decoder"] = opts.sd_vae_decode_method
            images = decode(latent)
        p.latents.append(latent)
        for script in p.scripts or ():
            script.postprocess_batch(p, *script.args, images=images, batch_number=0)
        if p.on_pictures:
            p.on_pictures(p)
        state.nextjob()
    finally:
        for key, value in stored.items():
            setattr(opts, key, value)
    for script in p.scripts or ():
        script.postprocess(p, images, *script.args)
    return ((images + 1) / 2).clamp(0, 1)
