"""What the extension relies on in a WebUI: one row per seam, with the differences between hosts that are known.

``absent`` names the hosts that lack a seam, and that is expected: the feature is switched off or goes another way
there. A seam that is gone elsewhere, or has come where it was absent, breaks the contract.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from host_source import HostSource, Missing

HOSTS = ("a1111", "forge", "reforge", "classic", "neo")
FORGES = ("forge", "reforge", "classic", "neo")
"""The hosts that come from Forge: they decode under inference mode, a whole batch at once."""

COMMON = "modules/sd_samplers_common.py"
PROCESSING = "modules/processing.py"
STATE = "modules/shared_state.py"
OPTIONS = "modules/options.py"
CALLBACKS = "modules/script_callbacks.py"
SCRIPTS = "modules/scripts.py"
LATENT_FORMATS = {
    "forge": "repositories/huggingface_guess/huggingface_guess/latent.py",
    "reforge": "ldm_patched/modules/latent_formats.py",
    "neo": "modules_forge/packages/huggingface_guess/latent.py",
}
"""Where a host has latent formats that name their tiny decoder (Forge fetches that repository at its first start)."""
XYZ_GRID = "scripts/xyz_grid.py"
XYZ_GRIDS = {"classic": "extensions-builtin/xyz/scripts/xyz_grid.py"}
XYZ_CLASSES = {"classic": "extensions-builtin/xyz/lib_xyz/classes.py"}
"""Classic keeps the X/Y/Z plot, and the classes of its axes, in an extension of its own."""
MODEL_FLAGS = {
    "a1111": "modules/sd_models.py",
    "forge": "backend/diffusion_engine/base.py",
    "reforge": "modules_forge/forge_loader.py",
    "classic": "modules_forge/forge_loader.py",
    "neo": "backend/diffusion_engine/base.py",
}


@dataclass(frozen=True)
class Seam:
    """One thing that we rely on; ``check`` gives what is wrong with it in a host, or None."""

    capability: str
    name: str
    used_for: str
    check: Callable[[HostSource], str | None] = field(repr=False)
    absent: tuple[str, ...] = ()

    def broken(self, host: HostSource) -> str | None:
        """What is wrong, in words, or None."""
        try:
            wrong = self.check(host)
        except Missing as missing:
            wrong = str(missing)
        if host.kind in self.absent:
            return None if wrong else f"{self.name} was absent in {host.kind} and is there now: {self.used_for}"
        return f"{self.name}: {wrong} (used for: {self.used_for})" if wrong else None


def takes(file: str, dotted: str, *leading: str) -> Callable[[HostSource], str | None]:
    """The function exists and its first parameters are these."""

    def check(host: HostSource) -> str | None:
        found = host.parameters(file, dotted)
        return None if tuple(found[: len(leading)]) == leading else f"takes ({', '.join(found)}), not {leading}"

    return check


def has(file: str, class_name: str, *names: str) -> Callable[[HostSource], str | None]:
    def check(host: HostSource) -> str | None:
        gone = sorted(set(names) - host.attributes(file, class_name))
        return f"{class_name} has no {', '.join(gone)}" if gone else None

    return check


def looks_up(file: str, dotted: str, *names: str) -> Callable[[HostSource], str | None]:
    """The function finds these at call time, so that a replacement in their module is seen."""

    def check(host: HostSource) -> str | None:
        found = host.mentions(file, dotted)
        gone = [name for name in names if name not in found]
        return f"{dotted} no longer looks up {', '.join(gone)}" if gone else None

    return check


def never_imported(name: str, *files: str) -> Callable[[HostSource], str | None]:
    """These files keep no early copy of the name, which a replacement would miss."""

    def check(host: HostSource) -> str | None:
        copies = [file for file in files if name in host.imported(file)]
        return f"{', '.join(copies)} keeps its own copy" if copies else None

    return check


def imports(file: str, name: str, source: str) -> Callable[[HostSource], str | None]:
    def check(host: HostSource) -> str | None:
        found = host.imported(file).get(name)
        return None if found == source else f"{file} takes it from {found}"

    return check


def indexes(expected: Mapping[str, int]) -> Callable[[HostSource], str | None]:
    def check(host: HostSource) -> str | None:
        found = host.literal(COMMON, "approximation_indexes")
        wrong = {key: found.get(key) for key, value in expected.items() if found.get(key) != value}
        return f"has {wrong}" if wrong else None

    return check


def option(key: str, *choices: str, sections: tuple[str, ...] = ()) -> Callable[[HostSource], str | None]:
    """The option is declared, offers these choices, and stands in one of the sections."""

    def check(host: HostSource) -> str | None:
        _, section = host.option(key)
        if sections and section[1] not in sections:
            return f"stands in the section {section}"
        gone = [choice for choice in choices if choice not in host.choices(key)] if choices else []
        return f"does not offer {', '.join(gone)}" if gone else None

    return check


def infotext(key: str, name: str) -> Callable[[HostSource], str | None]:
    def check(host: HostSource) -> str | None:
        call, _ = host.option(key)
        found = [word.value.value for word in call.keywords if word.arg == "infotext"]
        return None if found == [name] else f"is called {found} in the infotext"

    return check


def offers_what_is_there(key: str) -> Callable[[HostSource], str | None]:
    """The option's choices are a function, which looks for files."""

    def check(host: HostSource) -> str | None:
        call, _ = host.option(key)
        return None if any(isinstance(node, ast.Lambda) for node in ast.walk(call)) else "offers no files"

    return check


def inference_mode(*methods: str) -> Callable[[HostSource], str | None]:
    def check(host: HostSource) -> str | None:
        bare = [name for name in methods if "torch.inference_mode()" not in host.decorators(STATE, f"State.{name}")]
        return f"{', '.join(bare)} without inference mode" if bare else None

    return check


def model_sets(*flags: str) -> Callable[[HostSource], str | None]:
    def check(host: HostSource) -> str | None:
        if host.kind not in MODEL_FLAGS:
            raise Missing("an unknown host")
        gone = sorted(set(flags) - host.attributes_set(MODEL_FLAGS[host.kind]))
        return f"models have no {', '.join(gone)}" if gone else None

    return check


def _ids_of_the_gallery(host: HostSource) -> str | None:
    source = ast.unparse(host.tree("modules/ui_common.py"))
    ids = ("{tabname}_gallery_container", "image_buttons_{tabname}", "html_info_{tabname}")
    return next((f"has no {name}" for name in ids if name not in source), None)


def _callable_arguments(host: HostSource) -> str | None:
    body = host.mentions("modules/ui_settings.py", "create_setting_component")
    return None if {"callable", "info.component_args"} <= body else "component_args can no longer be a callable"


def _hook(name: str) -> Callable[[HostSource], str | None]:
    return takes(SCRIPTS, f"Script.{name}", "p")


SEAMS: tuple[Seam, ...] = (
    # One replacement serves previews and final pictures, because everything looks this name up late.
    Seam("decode", "samples_to_images_tensor", "previews and final pictures",
         takes(COMMON, "samples_to_images_tensor", "sample", "approximation", "model")),
    Seam("decode", "single_sample_to_image -> samples_to_images_tensor", "previews reach the replacement",
         looks_up(COMMON, "single_sample_to_image", "samples_to_images_tensor")),
    Seam("decode", "decode_first_stage -> samples_to_images_tensor", "final pictures reach the replacement",
         looks_up(COMMON, "decode_first_stage", "samples_to_images_tensor", "opts.sd_vae_decode_method")),
    Seam("decode", "no early copy of samples_to_images_tensor", "nobody goes past the replacement",
         never_imported("samples_to_images_tensor", PROCESSING, "modules/sd_samplers.py")),
    Seam("decode", "approximation_indexes", "Full is 0 and TAESD is 3 in the calls that the replacement gets",
         indexes({"Full": 0, "TAESD": 3})),
    Seam("decode", "approximation by name", "the method is read when the preview is made, also on fast interrupt",
         looks_up(COMMON, "samples_to_images_tensor", "opts.show_progress_type", "opts.live_preview_fast_interrupt")),
    Seam("decode", "decode_latent_batch", "final pictures, one by one (A1111) or the batch in one call (Forges)",
         takes(PROCESSING, "decode_latent_batch", "model", "batch", "target_device", "check_for_nans")),
    Seam("decode", "store_latent", "what state.current_latent holds", takes(COMMON, "store_latent", "decoded")),
    Seam("decode", "Approx PCA", "reForge draws latents of other than 4 channels by a random projection",
         indexes({"Approx PCA": 4}), absent=("a1111", "forge", "classic", "neo")),
    Seam("decode", "get_decoder", "Classic remembers a decoder by the method only",
         takes(COMMON, "get_decoder", "approximation"), absent=("a1111", "forge", "reforge", "neo")),
    Seam("decode", "sample_to_video", "Neo shows video latents as an animation",
         takes(COMMON, "sample_to_video", "samples"), absent=("a1111", "forge", "reforge", "classic")),
    # Encoding has two names: processing keeps its own copy.
    Seam("encode", "images_tensor_to_samples", "img2img, hires fix, inpainting",
         takes(COMMON, "images_tensor_to_samples", "image", "approximation", "model")),
    Seam("encode", "processing's copy of images_tensor_to_samples", "the second name that has to be replaced",
         imports(PROCESSING, "images_tensor_to_samples",
                 "modules.sd_samplers_common.images_tensor_to_samples")),
    Seam("encode", "built-in encoder_model", "the built-in TAESD stays reachable",
         takes("modules/sd_vae_taesd.py", "encoder_model")),
    Seam("encode", "built-in decoder_model", "the built-in TAESD stays reachable",
         takes("modules/sd_vae_taesd.py", "decoder_model")),
    # Previews are asked for through the state.
    Seam("preview", "State.set_current_image", "when a preview is made: interval, time, last steps",
         takes(STATE, "State.set_current_image")),
    Seam("preview", "State.do_set_current_image", "making one preview", takes(STATE, "State.do_set_current_image")),
    Seam("preview", "State.assign_current_image", "showing a frame",
         takes(STATE, "State.assign_current_image", "image")),
    Seam("preview", "do_set_current_image -> sample_to_image", "the grid option and the single picture",
         looks_up(STATE, "State.do_set_current_image", "shared.opts.show_progress_grid", "self.current_latent")),
    Seam("preview", "State's counters", "how far the job is",
         has(STATE, "State", "current_latent", "current_image", "current_image_sampling_step", "id_live_preview",
             "sampling_step", "sampling_steps", "interrupted", "skipped", "job", "job_no", "job_count",
             "time_start")),
    Seam("preview", "State.begin and State.end", "where a job starts and stops", has(STATE, "State", "begin", "end")),
    Seam("preview", "preview_step", "Neo counts the steps of previews apart",
         has(STATE, "State", "preview_step"), absent=("a1111", "forge", "reforge", "classic")),
    Seam("preview", "vae_stream", "decoding on a stream of its own",
         has(STATE, "State", "vae_stream"), absent=("a1111", "reforge", "classic")),
    Seam("preview", "inference mode of previews", "weights made in a preview must be usable outside it",
         inference_mode("set_current_image", "do_set_current_image", "assign_current_image"), absent=("a1111",)),
    Seam("preview", "progressapi -> set_current_image", "no poll, no preview",
         looks_up("modules/progress.py", "progressapi", "shared.state.set_current_image", "req.live_preview")),
    Seam("preview", "parallel_processing_allowed", "previews under --medvram and --lowvram",
         looks_up(STATE, "State.set_current_image", "shared.parallel_processing_allowed"), absent=("neo",)),
    Seam("preview", "Api.progressapi's req.skip_current_image", "no decode for who wants no picture",
         looks_up("modules/api/api.py", "Api.progressapi", "req.skip_current_image", "shared.state.set_current_image")),
    # Pages.
    Seam("pages", "localization_js", "the second screen's texts in the user's language",
         takes("modules/localization.py", "localization_js", "current_localization_name")),
    Seam("pages", "ids of the gallery", "its parameters, its buttons, and the place below it", _ids_of_the_gallery),
    # Options.
    Seam("options", "disable_extension_access", "who may change files and settings",
         lambda host: None if "disable_extension_access" in host.attributes_set("modules/shared_cmd_options.py")
         else "is not set"),
    Seam("options", "/sdapi/v1/options", "our options in the host's own list",
         takes("modules/api/api.py", "Api.get_config")),
    Seam("options", "OptionInfo", "our own options",
         takes(OPTIONS, "OptionInfo", "default", "label", "component", "component_args", "onchange", "section",
               "refresh", "comment_before", "comment_after", "infotext", "restrict_api", "category_id")),
    Seam("options", "OptionInfo.info", "help beside an option", takes(OPTIONS, "OptionInfo.info", "info")),
    Seam("options", "Options.add_option", "our own options", takes(OPTIONS, "Options.add_option", "key", "info")),
    Seam("options", "Options.get_default", "undoing a change for one generation",
         takes(OPTIONS, "Options.get_default", "key")),
    Seam("options", "Options.set", "settings of the panel",
         takes(OPTIONS, "Options.set", "key", "value", "is_api", "run_callbacks")),
    Seam("options", "Options.save", "settings of the panel", takes(OPTIONS, "Options.save", "filename")),
    Seam("options", "config_filename", "settings of the panel",
         lambda host: None if "config_filename" in _names(host, "modules/shared.py") else "is not set"),
    Seam("options", "Options.data and data_labels", "values, and the section of the built-in options",
         has(OPTIONS, "Options", "data", "data_labels")),
    Seam("options", "callable component_args", "choices that follow the weight files", _callable_arguments),
    Seam("options", "show_progress_type", "the choice TAESD of the previews",
         option("show_progress_type", "TAESD", sections=("Live previews", "Live Previews"))),
    Seam("options", "show_progress_type has Full", "full previews are the host's own affair",
         option("show_progress_type", "Full"), absent=FORGES),
    Seam("options", "sd_vae_decode_method", "the choice TAESD for final pictures",
         option("sd_vae_decode_method", "Full", "TAESD", sections=("VAE",))),
    Seam("options", "sd_vae_encode_method", "the choice TAESD for encoding",
         option("sd_vae_encode_method", "Full", "TAESD", sections=("VAE",))),
    Seam("options", "VAE Decoder", "what a picture's infotext says", infotext("sd_vae_decode_method", "VAE Decoder")),
    Seam("options", "VAE Encoder", "what a picture's infotext says", infotext("sd_vae_encode_method", "VAE Encoder")),
    *(Seam("options", key, "read for every preview", option(key))
      for key in ("live_previews_enable", "live_previews_image_format", "show_progress_grid",
                  "show_progress_every_n_steps", "live_preview_refresh_period", "live_preview_fast_interrupt")),
    Seam("options", "live_preview_content", "which latent the host offers", option("live_preview_content"),
         absent=("neo",)),
    # Callbacks.
    *(Seam("callbacks", name, why, takes(CALLBACKS, name, "callback"))
      for name, why in (
          ("on_before_ui", "putting the seams in"),
          ("on_ui_settings", "our own options"),
          ("on_ui_tabs", "the panel"),
          ("on_app_started", "REST routes"),
          ("on_script_unloaded", "taking everything back"),
          ("on_model_loaded", "having the decoder ready"),
          ("on_cfg_denoiser", "the evaluation that begins: second-order samplers make two a step"),
          ("on_cfg_after_cfg", "the step that was made"),
      )),
    Seam("callbacks", "CFGDenoiserParams.denoiser", "counting evaluations",
         has(CALLBACKS, "CFGDenoiserParams", "denoiser")),
    Seam("callbacks", "CFGDenoiser's counters", "counting evaluations",
         has("modules/sd_samplers_cfg_denoiser.py", "CFGDenoiser", "step", "total_steps")),
    Seam("callbacks", "AfterCFGCallbackParams", "the latent and the step",
         takes(CALLBACKS, "AfterCFGCallbackParams", "x", "sampling_step", "total_sampling_steps")),
    # The accordion.
    *(Seam("script", f"Script.{name}", why, _hook(name))
      for name, why in (
          ("before_process", "choices of one generation"),
          ("process", "what makes the finished picture is fixed"),
          ("process_batch", "what is decoded and encoded is the generation's own"),
          ("postprocess_batch", "what scripts decode and encode on finished pictures is not"),
          ("postprocess", "taking the choices back"),
      )),
    Seam("page", "infotext_utils.ParamBinding", "sending a picture to another tab",
         takes("modules/infotext_utils.py", "ParamBinding", "paste_button", "tabname", "source_text_component",
               "source_image_component")),
    Seam("page", "Processed.infotext", "parameters of a picture of a running job",
         has("modules/processing.py", "Processed", "infotext")),
    Seam("script", "scripts_data", "finding the host's X/Y/Z plot",
         lambda host: None if "scripts_data" in _names(host, SCRIPTS) else "is not set"),
    Seam("script", "AxisOption", "axes of the X/Y/Z plot",
         lambda host: takes(XYZ_CLASSES.get(host.kind, XYZ_GRID), "AxisOption", "label", "type", "apply",
                            "format_value", "confirm", "cost", "choices")(host)),
    Seam("script", "axis_options and AxisOption in the plot's module", "axes of the X/Y/Z plot",
         lambda host: None if {"axis_options", "AxisOption"} <= _names(host, XYZ_GRIDS.get(host.kind, XYZ_GRID))
         else "one is gone"),
    Seam("script", "StableDiffusionProcessing", "overrides, infotext and comments of one generation",
         has(PROCESSING, "StableDiffusionProcessing", "extra_generation_params", "override_settings", "comment",
             "prompt", "steps")),
    Seam("script", "process_images_inner -> p.sample", "pictures of several moments of one sampling run",
         looks_up(PROCESSING, "process_images_inner", "p.sample", "p.iteration", "p.n_iter")),
    Seam("script", "Processed", "which picture is which latent's",
         has(PROCESSING, "Processed", "index_of_first_image", "infotexts", "all_seeds")),
    Seam("script", "DecodedSamples", "pictures in the place of latents",
         has(PROCESSING, "DecodedSamples", "already_decoded")),
    Seam("script", "Script.ui", "the accordion", takes(SCRIPTS, "Script.ui", "is_img2img")),
    Seam("script", "Script.show", "always visible", takes(SCRIPTS, "Script.show", "is_img2img")),
    Seam("script", "Script.title", "its name in the API", takes(SCRIPTS, "Script.title")),
    Seam("script", "Script.elem_id", "unique elements", takes(SCRIPTS, "Script.elem_id", "item_id")),
    Seam("script", "Script's fields for the infotext", "pasting",
         has(SCRIPTS, "Script", "infotext_fields", "paste_field_names")),
    # Where things lie, and which model runs.
    Seam("model", "model_data", "the model, without loading one",
         has("modules/sd_models.py", "SdModelData", "sd_model")),
    Seam("model", "FakeInitialModel", "telling that no model is loaded yet",
         has("modules/sd_models.py", "FakeInitialModel"), absent=("a1111", "reforge", "classic")),
    Seam("model", "is_sdxl", "the family, where the latent format is silent", model_sets("is_sd1", "is_sdxl")),
    Seam("model", "is_sd2", "the family, where the latent format is silent", model_sets("is_sd2"), absent=("neo",)),
    Seam("model", "is_sd3", "the family, where the latent format is silent", model_sets("is_sd3"),
         absent=("classic", "neo")),
    Seam("model", "is_wan", "video models", model_sets("is_wan"), absent=("a1111", "forge", "reforge", "classic")),
    Seam("model", "models_path", "models/VAE-taesd",
         lambda host: None if "models_path" in _names(host, "modules/paths_internal.py") else "is not set"),
    Seam("model", "devices", "where and in what precision the host computes",
         lambda host: None if {"device", "dtype"} <= _names(host, "modules/devices.py") else "device or dtype is gone"),
    Seam("model", "devices.dtype_vae", "finished pictures in the precision of the host's own VAE",
         lambda host: None if "dtype_vae" in _names(host, "modules/devices.py") else "is not set"),
    Seam("model", "tiling", "pictures without an edge", has(PROCESSING, "StableDiffusionProcessing", "tiling")),
    Seam("model", "refresh_vae_list", "full VAEs that the panel downloaded",
         takes("modules/sd_vae.py", "refresh_vae_list")),
    Seam("model", "sd_vae", "a link to the setting that uses those VAEs", offers_what_is_there("sd_vae"),
         absent=("forge", "neo")),
    Seam("model", "save_image", "saving a picture from the panel as the host does",
         takes("modules/images.py", "save_image", "image", "path", "basename", "seed", "prompt", "extension", "info")),
    Seam("model", "queue_lock", "waiting for the sampler before heavy work in the panel",
         lambda host: None if "queue_lock" in _names(host, "modules/call_queue.py") else "is not set"),
)  # fmt: skip


def _names(host: HostSource, file: str) -> set[str]:
    """Names that a module sets, defines as classes, or takes from elsewhere."""
    nodes = [node for node in ast.walk(host.tree(file)) if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [target for node in nodes for target in getattr(node, "targets", [getattr(node, "target", None)])]
    assigned = {target.id for target in targets if isinstance(target, ast.Name)}
    classes = {node.name for node in host.tree(file).body if isinstance(node, ast.ClassDef)}
    return assigned | classes | set(host.imported(file))


WITHOUT_TINY_DECODER = frozenset(
    {
        "SD_X4", "SC_Prior", "SC_B", "StableAudio1", "Mochi", "LTXV", "HunyuanVideo", "Cosmos1CV8x8x8",
        "Hunyuan3Dv2", "Hunyuan3Dv2mini", "ACEAudio", "RGB",
    }
)  # fmt: skip
"""Latent formats of the hosts that no published tiny autoencoder of this kind reads, or that hold no picture."""
