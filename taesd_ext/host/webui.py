"""The one file that imports a WebUI: which one it is and what it can do, resolved once; everything else asks here."""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from taesd_ext.commands.switch_on import METHOD, TAESD
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.host.model_evidence import evidence_of, vae_digest
from taesd_ext.host.stored_options import StoredOptions
from taesd_ext.latent_formats import Detection, ModelEvidence, detect

SD_NEXT = "SD.Next"

_NO_MODEL_YET = "FakeInitialModel"
"""The class of what Forge and Neo hold until the first generation loads a model."""

PREVIEW_METHOD = METHOD
DECODE_METHOD = "sd_vae_decode_method"
ENCODE_METHOD = "sd_vae_encode_method"

PAGE_POLLERS = frozenset({"modules.progress"})
"""The host's modules that answer a page's poll for the live preview."""

_SHORT_OF_MEMORY = ("lowvram", "medvram", "always_low_vram", "always_no_vram", "always_offload_from_vram", "lowram")
"""Arguments of the hosts' command lines."""


class WebUI(StoredOptions):
    """A running WebUI of A1111's kind. Asks for what it holds, each time anew; keeps no reference to its model."""

    def __init__(self) -> None:
        self.common = _module("sd_samplers_common")
        self.processing = _module("processing")
        self.shared = _module("shared")
        self.devices = _module("devices")
        self.callbacks = _module("script_callbacks")
        self._models = _module("sd_models")
        self._pasting = _optional("modules.infotext_utils")
        self._paths = _module("paths_internal")
        self._options = _module("options") or self.shared
        self.name = self._name()
        if self.name == SD_NEXT:
            raise TaesdError(
                "SD.Next is not supported",
                "it draws its own TAESD previews and has no hooks for this extension's",
                "Choose TAESD in its own settings, or try `python -m taesd_ext demo`",
            )
        self.supports = self._capabilities()

    def localization(self) -> str:
        """The script by which a page gets the texts of the user's language; empty where the host has none."""
        localization = _module("localization")
        return localization.localization_js(self.shared.opts.localization) if localization else ""

    @property
    def state(self) -> Any:
        return self.shared.state

    @property
    def version(self) -> str:
        """What the host calls itself, for reports."""
        forge = sys.modules.get("modules_forge.forge_version")
        return str(getattr(forge, "version", "")) or "?"

    # Methods and previews

    def script_module(self, filename: str) -> Any:
        """The module of one of the host's own scripts, by its file's name, or None."""
        scripts = sys.modules.get("modules.scripts")
        for known in getattr(scripts, "scripts_data", ()):
            if known.script_class.__module__ in (filename, f"scripts.{filename.removesuffix('.py')}"):
                return known.module
        return None

    def uses_taesd(self, method: str) -> bool:
        """Whether TAESD is chosen in one of the three method options."""
        return self.option(method) == TAESD

    @property
    def taesd_index(self) -> int:
        """The number by which the host's functions know TAESD."""
        return getattr(self.common, "approximation_indexes", {}).get(TAESD, 3)

    def is_final(self, approximation: int) -> bool:
        """Whether this is how the host asks for a finished picture, and not an extension for a rough one."""
        indexes = getattr(self.common, "approximation_indexes", {})
        return approximation in (0, self.taesd_index, indexes.get(self.option(DECODE_METHOD)))

    def fast_interrupt(self) -> bool:
        """Whether a final picture is now made by the preview's method."""
        return bool(getattr(self.state, "interrupted", False) and self.option("live_preview_fast_interrupt", False))

    def broken_off(self) -> bool:
        """Whether somebody pressed Interrupt or Skip."""
        return bool(getattr(self.state, "interrupted", False) or getattr(self.state, "skipped", False))

    @contextlib.contextmanager
    def not_interrupted(self) -> Iterator[None]:
        """The host believes that nobody pressed Interrupt: for a full decode in spite of fast interrupt.

        Who presses it meanwhile is heard afterwards.
        """
        interrupted = getattr(self.state, "interrupted", False)
        if interrupted:
            self.state.interrupted = False
        try:
            yield
        finally:
            if interrupted:
                self.state.interrupted = True

    def previews_in_sampling_thread(self) -> bool:
        """Whether the host decodes previews itself, between two steps, as under --medvram and --lowvram."""
        return not getattr(self.shared, "parallel_processing_allowed", True)

    # Where things are

    def weights_folders(self) -> list[Path]:
        """Where this host keeps tiny autoencoders, best first; downloads go into the first."""
        models = getattr(self._paths, "models_path", None)
        return [Path(models) / "VAE-taesd", Path(models) / "VAE-approx"] if models else []

    def vae_folders(self) -> list[Path]:
        """Where this host keeps full-size VAEs, best first."""
        models = getattr(self._paths, "models_path", None)
        named = self.command_line("vae_dir")
        return [*([Path(models) / "VAE"] if models else []), *([Path(named)] if named else [])]

    def refresh_vaes(self) -> None:
        """Make the host list its VAE files anew; the list is what its SD VAE setting offers."""
        _module("sd_vae").refresh_vae_list()

    @property
    def has_sd_vae(self) -> bool:
        """Whether the host's SD VAE setting offers files: Forge and Neo keep the key and manage VAEs elsewhere."""
        offered = getattr(self.option_info("sd_vae"), "component_args", None)
        return callable(offered) and hasattr(_module("sd_vae"), "refresh_vae_list")

    def vae_dtype(self) -> Any:
        """The dtype in which the host decodes finished pictures; None, which is float32, on a CPU."""
        if getattr(self.device(), "type", self.device()) == "cpu":
            return None
        return getattr(self.devices, "dtype_vae", None)

    def short_of_memory(self) -> bool:
        """Whether the host was told to keep on the card only what computes, or does so by itself."""
        return self.previews_in_sampling_thread() or any(map(self.command_line, _SHORT_OF_MEMORY))

    def device(self) -> Any:
        return getattr(self.devices, "device", "cpu")

    def dtype(self) -> Any:
        """What the host's own tiny encoder would answer in."""
        return getattr(self.devices, "dtype", None)

    # The model

    def model(self) -> Any:
        """The loaded diffusion model or None; never loads one, as reading shared.sd_model would."""
        model = getattr(getattr(self._models, "model_data", None), "sd_model", None)
        return None if type(model).__name__ == _NO_MODEL_YET else model

    def evidence(self, shape: tuple[int, ...] | None = None) -> ModelEvidence:
        """What the loaded model says about its latents; ``shape`` is that of one at hand."""
        return evidence_of(self.model(), shape)

    def detection(self, shape: tuple[int, ...] | None = None) -> Detection:
        """Which latent format the loaded model has; it may change within a generation."""
        return detect(self.evidence(shape))

    def vae_digest(self) -> str:
        """What tells the loaded VAE from others of its kind; empty where it cannot be told."""
        return vae_digest(self.model())

    # Work and files

    def job(self) -> object:
        """What tells the running job from the next."""
        return getattr(self.state, "time_start", None)

    def progress(self) -> tuple[int, int]:
        """(steps done, steps in all) of the running pass."""
        return int(getattr(self.state, "sampling_step", 0)), int(getattr(self.state, "sampling_steps", 0))

    def is_busy(self) -> bool:
        """Whether a job runs or waits."""
        return bool(getattr(self.state, "job", "") or getattr(self.state, "job_count", 0))

    def exclusive(self) -> contextlib.AbstractContextManager[Any]:
        """Entered for heavy work: generations wait for it, and it for them."""
        lock = getattr(_module("call_queue"), "queue_lock", None)
        return lock if lock is not None else contextlib.nullcontext()

    def parameters(self, processing: Any, place: int) -> str:
        """What would be saved with a picture of a job that runs or broke off; empty where that is not known."""
        try:
            return self.processing.Processed(processing, []).infotext(processing, place)
        except Exception as error:
            log_once(f"parameters {one_line(error)}", f"The picture's parameters are not known: {one_line(error)}")
            return ""

    def save_picture(self, picture: Any, tab: str, parameters: str, seed: int | None, prompt: str) -> Path:
        """Save as the host saves its own pictures, into its folder and under its pattern of names.

        Raises TaesdError, on a full disk for instance.
        """
        folder = self.option("outdir_samples") or self.option(f"outdir_{tab}_samples")
        kind = self.option("samples_format", "png")
        try:
            file, _ = _module("images").save_image(picture, folder, "", seed, prompt, kind, info=parameters)
        except Exception as error:
            raise TaesdError("The image was not saved", one_line(error), f"Check the folder {folder}") from error
        return Path(file)

    @property
    def can_send(self) -> bool:
        """Whether the page has the host's buttons that send a picture to another tab."""
        return hasattr(self._pasting, "register_paste_params_button")

    def bind_send(self, button: Any, tab: str, picture: Any, parameters: Any) -> None:
        """Have a button send what a picture's component and its parameters' hold to a tab, as the gallery's do."""
        binding = self._pasting.ParamBinding(
            paste_button=button, tabname=tab, source_image_component=picture, source_text_component=parameters
        )
        self._pasting.register_paste_params_button(binding)
        if folder := self.option("temp_dir", ""):  # Neo writes a page's pictures there, and does not make it
            with contextlib.suppress(OSError):
                Path(folder).mkdir(parents=True, exist_ok=True)

    # What it can do

    def _name(self) -> str:
        if importlib.util.find_spec("modules_forge"):
            forge = _optional("modules_forge.forge_version")
            version = str(getattr(forge, "version", "")).lower()
            if "neo" in version or "classic" in version:
                return "Forge Neo" if "neo" in version else "Forge Classic"
            return "Forge" if importlib.util.find_spec("backend") else "reForge"
        if hasattr(self.common, "samples_to_images_tensor"):
            return "A1111"
        # SD.Next's own installer lies beside its `modules`.
        return SD_NEXT if (Path.cwd() / "installer.py").is_file() else "unknown WebUI"

    def _capabilities(self) -> frozenset[str]:
        """Names of what works here: decode, encode, preview, options; each missing one is said once."""
        state_class = type(getattr(self.shared, "state", None))
        opts = getattr(self.shared, "opts", None)
        needs = {
            "decode": hasattr(self.common, "samples_to_images_tensor"),
            "encode": hasattr(self.common, "images_tensor_to_samples"),
            "preview": hasattr(state_class, "set_current_image") and hasattr(state_class, "assign_current_image"),
            "options": hasattr(opts, "add_option") and hasattr(opts, "data_labels"),
        }
        for capability, there in needs.items():
            if not there:
                log_once(f"capability {capability}", f"This WebUI has no {capability} hook: that part stays as it is.")
        return frozenset(capability for capability, there in needs.items() if there)

    def listen(self, **callbacks: Callable[..., Any]) -> None:
        """Register for script callbacks, by event; one that this host does not have is logged."""
        for event, callback in callbacks.items():
            if register := getattr(self.callbacks, f"on_{event}", None):
                register(callback)
            else:
                log_once(f"callback {event}", f"This WebUI has no callback on_{event}.")


_webui: WebUI | None = None


def webui() -> WebUI:
    """The WebUI that we run in. Raises TaesdError outside one."""
    global _webui
    if _webui is None:
        if importlib.util.find_spec("modules") is None:
            raise TaesdError("There is no WebUI here", "its `modules` cannot be imported", "Use `python -m taesd_ext`")
        _webui = WebUI()
    return _webui


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"modules.{name}")
    except Exception as error:
        log_once(f"module {name}", f"This WebUI's modules.{name} cannot be imported: {one_line(error)}.")
        return None


def _optional(name: str) -> ModuleType | None:
    """A module that not every host has."""
    with contextlib.suppress(Exception):
        return importlib.import_module(name)
    return None
