from PIL import Image

from modules import sd_models, shared
from modules.shared import opts, state

approximation_indexes = {"Full": 0, "Approx NN": 1, "Approx cheap": 2, "TAESD": 3}
BUILT_IN = 0.25
"""What the host's own TAESD paints everything in; it needs no weights here."""


def samples_to_images_tensor(sample, approximation=None, model=None):
    if approximation is None or (state.interrupted and opts.live_preview_fast_interrupt):
        approximation = approximation_indexes.get(opts.show_progress_type, 0)
    if approximation == approximation_indexes["TAESD"]:
        return sample.new_full((len(sample), 3, *(8 * side for side in sample.shape[-2:])), BUILT_IN)
    if approximation:
        return sample[:, :3]
    return (model or sd_models.model_data.sd_model).decode_first_stage(sample)


def sample_to_image(samples, index=0, approximation=None):
    image = samples_to_images_tensor(samples[index][None], approximation)[0]
    levels = ((image + 1) / 2).clamp(0, 1) * 255
    return Image.fromarray(levels.byte().permute(1, 2, 0).contiguous().cpu().numpy())


def decode_first_stage(model, x):
    return samples_to_images_tensor(x, approximation_indexes.get(opts.sd_vae_decode_method, 0), model)


def images_tensor_to_samples(image, approximation=None, model=None):
    if approximation is None:
        approximation = approximation_indexes.get(opts.sd_vae_encode_method, 0)
    if approximation == approximation_indexes["TAESD"]:
        return image.new_full((len(image), 4, *(side // 8 for side in image.shape[-2:])), BUILT_IN)
    return (model or sd_models.model_data.sd_model).encode_first_stage(image)


def store_latent(decoded):
    state.current_latent = decoded
    period = opts.show_progress_every_n_steps
    due = opts.live_previews_enable and period > 0 and state.sampling_step % period == 0
    if due and not shared.parallel_processing_allowed:
        state.assign_current_image(sample_to_image(decoded))
