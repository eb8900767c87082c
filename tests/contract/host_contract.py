"""What the extension relies on in a WebUI: one row per seam, with the differences between hosts that are known.

``absent`` names the hosts that lack a seam, and that is expected: the feature is switched off or goes another way
there. A seam that is gone elsewhere, or has come where it was absent, breaks the contract.
"""

import ast
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from host_source import HostSource, Missing

HOSTS = ("a1111", "forge", "reforge", "classic", "neo")

COMMON = "modules/sd_samplers_common.py"
PROCESSING = "modules/processing.py"
STATE = "modules/shared_state.py"
OPTIONS = "modules/options.py"
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

Check = Callable[[HostSource], str | None]


@dataclass(frozen=True)
class Seam:
    """One thing that we rely on; ``check`` gives what is wrong with it in a host, or None."""

    name: str
    used_for: str
    check: Check = field(repr=False)
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


def gone(wanted: Iterable[str], found: Collection[str]) -> str | None:
    missing = sorted(set(wanted) - set(found))
    return f"{', '.join(missing)} is gone" if missing else None


def takes(file: str, dotted: str, *leading: str) -> Check:
    """The function exists and its first parameters are these."""

    def check(host: HostSource) -> str | None:
        found = host.parameters(file, dotted)
        return None if tuple(found[: len(leading)]) == leading else f"takes ({', '.join(found)}), not {leading}"

    return check


def has(file: str, class_name: str, *names: str) -> Check:
    """The class, or its instances, have these attributes."""
    return lambda host: gone(names, host.attributes(file, class_name))


def sets(file: str, *names: str) -> Check:
    """The module has these names of its own or from elsewhere."""
    return lambda host: gone(names, host.names(file))


def looks_up(file: str, dotted: str, *names: str) -> Check:
    """The function finds these at call time, so that a replacement in their module is seen."""
    return lambda host: gone(names, host.mentions(file, dotted))


def never_imported(name: str, *files: str) -> Check:
    """These files keep no early copy of the name, which a replacement would miss."""

    def check(host: HostSource) -> str | None:
        copies = [file for file in files if name in host.imported(file)]
        return f"{', '.join(copies)} keeps its own copy" if copies else None

    return check


def option(key: str, *choices: str, section: str = "", infotext: str = "") -> Check:
    """The option is declared, offers these choices, and stands where and is called as it should be."""

    def check(host: HostSource) -> str | None:
        call, declared = host.option(key)
        if section and declared[1].lower() != section.lower():
            return f"stands in the section {declared}"
        called = [word.value.value for word in call.keywords if word.arg == "infotext"]
        if infotext and called != [infotext]:
            return f"is called {called} in the infotext"
        return gone(choices, host.choices(key)) if choices else None

    return check


def offers_files(key: str) -> Check:
    """The option's choices are a function, which looks for files."""

    def check(host: HostSource) -> str | None:
        call, _ = host.option(key)
        return None if any(isinstance(node, ast.Lambda) for node in ast.walk(call)) else "offers no files"

    return check


def model_sets(*flags: str) -> Check:
    return lambda host: gone(flags, host.attributes_set(MODEL_FLAGS[host.kind]))


def indexes(host: HostSource) -> str | None:
    found = host.literal(COMMON, "approximation_indexes")
    return None if (found.get("Full"), found.get("TAESD")) == (0, 3) else f"are {found}"


def imports_encode(host: HostSource) -> str | None:
    name = "images_tensor_to_samples"
    found = host.imported(PROCESSING).get(name)
    return None if found == f"modules.sd_samplers_common.{name}" else f"comes from {found}"


def ids_of_the_gallery(host: HostSource) -> str | None:
    source = ast.unparse(host.tree("modules/ui_common.py"))
    ids = ("{tabname}_gallery_container", "image_buttons_{tabname}", "html_info_{tabname}")
    return next((f"has no {name}" for name in ids if name not in source), None)


SEAMS: tuple[Seam, ...] = (
    # One replacement serves previews and final pictures, because everything looks this name up late.
    Seam("samples_to_images_tensor", "previews and final pictures",
         takes(COMMON, "samples_to_images_tensor", "sample", "approximation", "model")),
    Seam("single_sample_to_image -> samples_to_images_tensor", "previews reach the replacement",
         looks_up(COMMON, "single_sample_to_image", "samples_to_images_tensor")),
    Seam("decode_first_stage -> samples_to_images_tensor", "final pictures reach the replacement",
         looks_up(COMMON, "decode_first_stage", "samples_to_images_tensor", "opts.sd_vae_decode_method")),
    Seam("no early copy of samples_to_images_tensor", "nobody goes past the replacement",
         never_imported("samples_to_images_tensor", PROCESSING, "modules/sd_samplers.py")),
    Seam("approximation_indexes", "Full is 0 and TAESD is 3 in the calls that the replacement gets", indexes),
    Seam("approximation by name", "the method is read when the preview is made, also on fast interrupt",
         looks_up(COMMON, "samples_to_images_tensor", "opts.show_progress_type", "opts.live_preview_fast_interrupt")),
    Seam("store_latent", "what state.current_latent holds", takes(COMMON, "store_latent", "decoded")),
    # Encoding has two names: processing keeps its own copy.
    Seam("images_tensor_to_samples", "img2img, hires fix, inpainting",
         takes(COMMON, "images_tensor_to_samples", "image", "approximation", "model")),
    Seam("processing's copy of images_tensor_to_samples", "the second name that has to be replaced", imports_encode),
    # Previews are asked for through the state.
    Seam("State.set_current_image", "when a preview is made", takes(STATE, "State.set_current_image")),
    Seam("State.assign_current_image", "showing a frame", takes(STATE, "State.assign_current_image", "image")),
    Seam("do_set_current_image -> sample_to_image", "the grid option and the single picture",
         looks_up(STATE, "State.do_set_current_image", "shared.opts.show_progress_grid", "self.current_latent")),
    Seam("State's counters", "how far the job is",
         has(STATE, "State", "current_latent", "current_image", "current_image_sampling_step", "id_live_preview",
             "sampling_step", "sampling_steps", "interrupted", "skipped", "job", "job_count", "time_start")),
    Seam("progressapi -> set_current_image", "no poll, no preview",
         looks_up("modules/progress.py", "progressapi", "shared.state.set_current_image", "req.live_preview")),
    Seam("parallel_processing_allowed", "previews under --medvram and --lowvram",
         looks_up(STATE, "State.set_current_image", "shared.parallel_processing_allowed"), absent=("neo",)),
    Seam("Api.progressapi's req.skip_current_image", "no decode for who wants no picture",
         looks_up("modules/api/api.py", "Api.progressapi", "req.skip_current_image", "shared.state.set_current_image")),
    # Pages.
    Seam("localization_js", "the second screen's texts in the user's language",
         takes("modules/localization.py", "localization_js", "current_localization_name")),
    Seam("ids of the gallery", "its parameters, its buttons, and the place below it", ids_of_the_gallery),
    Seam("infotext_utils.ParamBinding", "sending a picture to another tab",
         takes("modules/infotext_utils.py", "ParamBinding", "paste_button", "tabname", "source_text_component",
               "source_image_component")),
    # Options.
    Seam("disable_extension_access", "who may change files and settings",
         lambda host: gone(["disable_extension_access"], host.attributes_set("modules/shared_cmd_options.py"))),
    Seam("/sdapi/v1/options", "our options in the host's own list", takes("modules/api/api.py", "Api.get_config")),
    Seam("OptionInfo", "our own options",
         takes(OPTIONS, "OptionInfo", "default", "label", "component", "component_args", "onchange", "section",
               "refresh")),
    Seam("OptionInfo.info", "help beside an option", takes(OPTIONS, "OptionInfo.info", "info")),
    Seam("Options.add_option", "our own options", takes(OPTIONS, "Options.add_option", "key", "info")),
    Seam("Options.set", "settings of the panel", takes(OPTIONS, "Options.set", "key", "value")),
    Seam("Options.save", "settings of the panel", takes(OPTIONS, "Options.save", "filename")),
    Seam("config_filename", "settings of the panel", sets("modules/shared.py", "config_filename")),
    Seam("Options.data and data_labels", "values, and the section of the built-in options",
         has(OPTIONS, "Options", "data", "data_labels")),
    Seam("callable component_args", "choices that follow the weight files",
         looks_up("modules/ui_settings.py", "create_setting_component", "callable", "info.component_args")),
    Seam("show_progress_type", "the choice TAESD of the previews",
         option("show_progress_type", "TAESD", section="Live previews")),
    Seam("sd_vae_decode_method", "the choice TAESD for final pictures, and what their infotext says",
         option("sd_vae_decode_method", "Full", "TAESD", section="VAE", infotext="VAE Decoder")),
    Seam("sd_vae_encode_method", "the choice TAESD for encoding, and what the infotext says",
         option("sd_vae_encode_method", "Full", "TAESD", section="VAE", infotext="VAE Encoder")),
    *(Seam(key, "read for every preview", option(key))
      for key in ("live_previews_enable", "live_previews_image_format", "show_progress_grid",
                  "show_progress_every_n_steps", "live_preview_fast_interrupt")),
    Seam("sd_vae", "a link to the setting that uses the host's VAEs", offers_files("sd_vae"),
         absent=("forge", "neo")),
    # Callbacks.
    *(Seam(name, why, takes("modules/script_callbacks.py", name, "callback"))
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
    Seam("CFGDenoiserParams.denoiser", "counting evaluations",
         has("modules/script_callbacks.py", "CFGDenoiserParams", "denoiser")),
    Seam("CFGDenoiser's counters", "counting evaluations",
         has("modules/sd_samplers_cfg_denoiser.py", "CFGDenoiser", "step", "total_steps")),
    Seam("AfterCFGCallbackParams", "the step",
         has("modules/script_callbacks.py", "AfterCFGCallbackParams", "sampling_step", "total_sampling_steps")),
    # The script.
    *(Seam(f"Script.{name}", why, takes(SCRIPTS, f"Script.{name}", *leading))
      for name, why, *leading in (
          ("before_process", "choices of one generation", "p"),
          ("process", "what makes the finished picture is fixed", "p"),
          ("process_batch", "what is decoded and encoded is the generation's own", "p"),
          ("postprocess_batch", "what scripts decode and encode on finished pictures is not", "p"),
          ("postprocess", "taking the choices back", "p"),
          ("ui", "the accordion", "is_img2img"),
          ("show", "always visible", "is_img2img"),
          ("title", "its name in the API"),
          ("elem_id", "unique elements", "item_id"),
      )),
    Seam("Script.infotext_fields", "pasting", has(SCRIPTS, "Script", "infotext_fields")),
    Seam("scripts_data", "finding the host's X/Y/Z plot", sets(SCRIPTS, "scripts_data")),
    Seam("AxisOption", "axes of the X/Y/Z plot",
         lambda host: takes(XYZ_CLASSES.get(host.kind, XYZ_GRID), "AxisOption", "label", "type", "apply",
                            "format_value", "confirm", "cost", "choices")(host)),
    Seam("axis_options and AxisOption in the plot's module", "axes of the X/Y/Z plot",
         lambda host: sets(XYZ_GRIDS.get(host.kind, XYZ_GRID), "axis_options", "AxisOption")(host)),
    Seam("StableDiffusionProcessing", "overrides, infotext and comments of one generation",
         has(PROCESSING, "StableDiffusionProcessing", "extra_generation_params", "override_settings", "comment",
             "prompt", "steps", "tiling")),
    Seam("process_images_inner -> p.sample", "pictures of several moments of one sampling run",
         looks_up(PROCESSING, "process_images_inner", "p.sample", "p.iteration", "p.n_iter")),
    Seam("Processed", "which picture is which latent's, and its parameters",
         has(PROCESSING, "Processed", "index_of_first_image", "infotexts", "all_seeds", "infotext")),
    # Where things lie, and which model runs.
    Seam("model_data", "the model, without loading one", has("modules/sd_models.py", "SdModelData", "sd_model")),
    Seam("FakeInitialModel", "telling that no model is loaded yet",
         has("modules/sd_models.py", "FakeInitialModel"), absent=("a1111", "reforge", "classic")),
    Seam("is_sdxl", "the family, where the latent format is silent", model_sets("is_sd1", "is_sdxl")),
    Seam("is_sd2", "the family, where the latent format is silent", model_sets("is_sd2"), absent=("neo",)),
    Seam("is_sd3", "the family, where the latent format is silent", model_sets("is_sd3"), absent=("classic", "neo")),
    Seam("is_wan", "video models", model_sets("is_wan"), absent=("a1111", "forge", "reforge", "classic")),
    Seam("models_path", "models/VAE-taesd", sets("modules/paths_internal.py", "models_path")),
    Seam("devices", "where and in what precision the host computes, and its own VAE",
         sets("modules/devices.py", "device", "dtype", "dtype_vae")),
    Seam("refresh_vae_list", "full VAEs that the panel downloaded", takes("modules/sd_vae.py", "refresh_vae_list")),
    Seam("save_image", "saving a picture from the panel as the host does",
         takes("modules/images.py", "save_image", "image", "path", "basename", "seed", "prompt", "extension", "info")),
    Seam("queue_lock", "waiting for the sampler before heavy work in the panel",
         sets("modules/call_queue.py", "queue_lock")),
)  # fmt: skip


WITHOUT_TINY_DECODER = frozenset(
    {
        "SD_X4", "SC_Prior", "SC_B", "StableAudio1", "Mochi", "LTXV", "HunyuanVideo", "Cosmos1CV8x8x8",
        "Hunyuan3Dv2", "Hunyuan3Dv2mini", "ACEAudio", "RGB",
    }
)  # fmt: skip
"""Latent formats of the hosts that no published tiny autoencoder of this kind reads, or that hold no picture."""
