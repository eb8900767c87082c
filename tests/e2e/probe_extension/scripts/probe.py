"""Looks into the WebUI for the tests: what is patched, which latents went through, and Reload UI by request."""

import sys
import time
from pathlib import Path

import torch
from modules import script_callbacks, scripts, sd_samplers_common, shared
from PIL import Image
from safetensors.torch import load_file

LATENTS = Path(scripts.basedir()).parent.parent / "latents"


encoded = 0
"""Previews of ours that were really encoded."""

save = getattr(Image.Image.save, "original", Image.Image.save)  # Reload UI brings us here again


def counting_save(image, *args, **kwargs):
    global encoded
    encoded += sys._getframe(1).f_globals["__name__"].startswith("taesd_ext.preview.")
    return save(image, *args, **kwargs)


counting_save.original = save
Image.Image.save = counting_save


def timed(original):
    """Keeps how many milliseconds each loading of a model waited for us."""

    def preload_beside(extension, patience=0.0):
        began = time.perf_counter()
        original(extension, patience)
        if patience == 0:  # a job's beginning has some
            preload_beside.took.append(round(1000 * (time.perf_counter() - began), 1))

    preload_beside.took = []
    return preload_beside


def depth(function):
    """How many functions of the extension lie on top of the host's."""
    count = 0
    while hasattr(function, "__taesd_ext__"):
        count += 1
        function = function.__wrapped__
    return count


def state():
    try:
        from taesd_ext.host import register

        extension = register._extension
    except ImportError:
        extension = None
    session = extension.previews.session if extension else None
    labels = shared.opts.data_labels
    return {
        "family": session and session.frame and session.frame.family,
        "detail": session and session.frame and session.frame.detail,
        "last_error": session and session.last_error,
        "encoded": encoded,
        "model_loaded_ms": extension and extension.preload_beside.took,
        "share": session and session.stats.share,
        "depth": {
            "decode": depth(sd_samplers_common.samples_to_images_tensor),
            "encode": depth(sd_samplers_common.images_tensor_to_samples),
            "poll": depth(type(shared.state).set_current_image),
        },
        "options": [key for key in labels if key.startswith("taesd_ext_")],
        "sections": sorted({tuple(labels[key].section) for key in labels if key.startswith("taesd_ext_")}),
        "choices": labels["show_progress_type"].component_args["choices"],
        "callbacks": sum(
            "taesd_ext" in str(callback.script)
            for callbacks in script_callbacks.callback_map.values()
            for callback in callbacks
        ),
    }


def predicted(params):
    """Each evaluation's prediction, as the preview may show it."""
    LATENTS.mkdir(exist_ok=True)
    number = len(list(LATENTS.glob("predicted*.pt")))
    torch.save(shared.state.current_latent.detach().cpu().clone(), LATENTS / f"predicted{number:04}.pt")


def decode_wanted():
    """The host's own picture of wanted.safetensors, rounded to (H,W,3) levels."""
    function = sd_samplers_common.samples_to_images_tensor
    while hasattr(function, "__taesd_ext__"):
        function = function.__wrapped__
    with torch.no_grad():
        image = function(load_file(LATENTS / "wanted.safetensors")["latent"], 0)[0].float()
    return (image / 2 + 0.5).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).tolist()


def on_app_started(demo, app):
    try:
        from taesd_ext.host.register import Extension
    except ImportError:
        pass
    else:
        if not hasattr(Extension.preload_beside, "took"):  # new code comes with Reload UI
            Extension.preload_beside = timed(Extension.preload_beside)
    app.add_api_route("/probe/state", state, methods=["GET"])
    app.add_api_route("/probe/decode", decode_wanted, methods=["POST"])
    app.add_api_route("/probe/reload", lambda: shared.state.request_restart(), methods=["POST"])


class Probe(scripts.Script):
    def title(self):
        return "Probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def save(self, name, tensor):
        LATENTS.mkdir(exist_ok=True)
        torch.save(tensor.detach().cpu().clone(), LATENTS / f"{name}.pt")

    def before_process(self, p):
        for path in LATENTS.glob("*.pt"):
            path.unlink()

    def post_sample(self, p, ps):
        if torch.is_tensor(ps.samples):
            self.save("sampled", ps.samples)

    def postprocess_batch(self, p, *args, images=None, **kwargs):
        if torch.is_tensor(images):
            self.save("decoded", images)

    def process_before_every_sampling(self, p, **kwargs):
        if getattr(p, "init_latent", None) is not None:
            self.save("encoded", p.init_latent)


script_callbacks.on_app_started(on_app_started)
script_callbacks.on_cfg_after_cfg(predicted)
