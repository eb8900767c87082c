"""ONE table of every option: its key, default, choices, label and help; and the settings of a preview made from it.

The WebUI's options, the panel, the per-generation controls and the table in docs/settings.md all read this.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from taesd_ext.errors import log_once
from taesd_ext.latent_formats import FAMILIES

PREFIX = "taesd_ext_"

AUTO = "Auto"
BUILT_IN = "built-in TAESD"
FAMILY_CHOICES = (AUTO, *FAMILIES, BUILT_IN)

LONGEST_NAME = 255

DETAILS = ("full", "1/2", "1/4", "1/8")
"""Sizes of a preview as a fraction of the picture's sides, best first."""

MOVING = "moving"
FIRST_FRAME = "first frame"

DEVICE_SAMPLING = "same as sampling"
DEVICE_CPU = "CPU"

HOSTS_VAE = "the WebUI's"
TINY_VAE = "TAESD"
"""Two choices of what makes the finished picture that are no VAE's name."""
AS_FINAL = "as for the final image"

FAIL_WITH_ERROR = "error"
FAIL_TO_FULL_VAE = "full VAE"


@dataclass(frozen=True)
class Option:
    """One option: what a person sees, and which values it may have."""

    name: str
    default: str | int | float | bool
    kind: Literal["choice", "name", "int", "float", "bool"]
    """A "name" is one of ``choices``, or that of a file, which may not be there any more."""
    label: str
    help: str
    section: Literal["previews", "vae"] = "previews"
    choices: tuple[str, ...] = ()
    minimum: float = 0
    maximum: float = 0
    step: float = 1
    advanced: bool = False
    """Rarely needed: folded away where there is room to fold."""

    @property
    def key(self) -> str:
        """The name under which hosts store it."""
        return PREFIX + self.name

    def check(self, value: Any) -> Any:
        """The value in the option's type and range; ValueError says what would be right."""
        if self.kind == "choice":
            if value in self.choices:
                return value
            raise ValueError(f"one of {', '.join(self.choices)} was expected")
        if self.kind == "name":
            if isinstance(value, str) and 0 < len(value.strip()) <= LONGEST_NAME and can_be_stored(value):
                return value.strip()
            raise ValueError(f"a name of up to {LONGEST_NAME} characters was expected")
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            raise ValueError("true or false was expected")
        range_words = f"a number from {self.minimum:g} to {self.maximum:g} was expected"
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(range_words) from None
        if isinstance(value, bool) or not math.isfinite(number) or not self.minimum <= number <= self.maximum:
            raise ValueError(range_words)
        return round(number) if self.kind == "int" else number


def can_be_stored(text: str) -> bool:
    """Whether it is text that a file, a page or an answer can hold: half a character breaks their writing off."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


OPTIONS: tuple[Option, ...] = (
    Option(
        "family", AUTO, "choice", "TAESD family",
        "which tiny autoencoder to use; Auto matches the loaded model; built-in TAESD leaves it to the WebUI",
        choices=FAMILY_CHOICES,
    ),
    Option(
        "detail", AUTO, "choice", "TAESD preview detail",
        "preview size relative to the image; Auto is the largest that the budget allows; a larger choice is reduced to "
        "fit it",
        choices=(AUTO, *reversed(DETAILS)),
    ),
    Option(
        "budget", 3.0, "float", "TAESD preview budget",
        "how much of the generation time previews may take, in percent; 0 = no limit", maximum=100, step=0.5,
    ),
    Option(
        "interval", 1, "int", "TAESD preview interval",
        "in sampling steps; 0 = the WebUI's live preview display period", maximum=100,
    ),
    Option(
        "min_time", 100, "int", "TAESD minimum time between previews",
        "in milliseconds; 0 = no limit", maximum=60000, step=50, advanced=True,
    ),
    Option(
        "skip_last", 0, "int", "TAESD skip last steps",
        "skip previews for the last N steps", maximum=100, advanced=True,
    ),
    Option(
        "max_side", 1024, "int", "TAESD largest preview side",
        "in pixels; 0 = no limit", maximum=16384, step=64, advanced=True,
    ),
    Option(
        "frame_format", "auto", "choice", "TAESD preview image format",
        "auto = JPEG above 256 pixels, otherwise PNG; if you changed the WebUI's own preview format, that one is used",
        choices=("auto", "jpeg", "webp", "png"), advanced=True,
    ),
    Option(
        "film", MOVING, "choice", "TAESD preview of videos",
        "moving plays the whole video, in as much detail as the budget allows", choices=(MOVING, FIRST_FRAME),
    ),
    Option(
        "device", DEVICE_SAMPLING, "choice", "TAESD preview device",
        "CPU keeps the graphics card's memory free", choices=(DEVICE_SAMPLING, DEVICE_CPU), advanced=True,
    ),
    Option(
        "badge", True, "bool", "TAESD badge on the live preview",
        "shows the step, the detail and the cost; reload the page after changing it", advanced=True,
    ),
    Option(
        "offer", True, "bool", "Offer TAESD for live previews",
        "shows a hint below the image when its previews use another method", advanced=True,
    ),
    Option(
        "timeline", True, "bool", "TAESD keeps the previews of the last jobs",
        "in memory, for the Timeline tab", advanced=True,
    ),
    Option(
        "history_size", 64, "int", "TAESD memory for previews and latents of the last jobs",
        "in MB; when it is full, every other step is dropped first, then the oldest jobs", maximum=65536, step=16,
        advanced=True,
    ),
    Option(
        "learn", True, "bool", "TAESD learns previews from finished images",
        "for models without a tiny decoder; stores a small network for each in the cache folder, and keeps crops of "
        "the last images in memory, up to 32 MB", advanced=True,
    ),
    Option(
        "final_vae", HOSTS_VAE, "name", "VAE for the final image",
        "\"the WebUI's\" follows its own SD VAE and decode settings",
        section="vae", choices=(HOSTS_VAE, TINY_VAE),
    ),
    *(
        Option(
            name, AS_FINAL, "name", f"VAE for {what}", help_, section="vae", choices=(AS_FINAL, HOSTS_VAE, TINY_VAE),
            advanced=True,
        )
        for name, what, help_ in (
            ("final_vae_first", "the first pass of hires fix", "decodes the image that the upscaler then enlarges"),
            ("final_vae_hires", "the hires pass", "decodes the final image of hires fix"),
            ("final_vae_img2img", "img2img", "decodes the final image of img2img"),
        )
    ),
    Option(
        "decode_failure", FAIL_WITH_ERROR, "choice", "If TAESD cannot decode or encode",
        "stop with an error, or use the full VAE and say so in the image's parameters",
        section="vae", choices=(FAIL_WITH_ERROR, FAIL_TO_FULL_VAE), advanced=True,
    ),
    Option(
        "keep_latents", True, "bool", "TAESD keeps the latents of the last images",
        "of each step and of the finished image, in memory, for the Timeline and Re-decode tabs", section="vae",
        advanced=True,
    ),
    Option(
        "save_every", 0, "int", "TAESD saves an image every N steps",
        "decoded by the WebUI's own VAE when the job is done, from the kept latents; 0 = off",
        section="vae", maximum=150, advanced=True,
    ),
    Option(
        "interrupted", False, "bool", "Finish interrupted images from the last preview",
        "after Interrupt or Skip; off = as the WebUI does", section="vae", advanced=True,
    ),
)  # fmt: skip

OPTION: dict[str, Option] = {option.name: option for option in OPTIONS}

FINAL_VAES = tuple(option.name for option in OPTIONS if option.kind == "name")
"""What makes the finished picture: in all passes, and in one of them."""

INFOTEXT_MODEL = "TAESD model"
"""Key under which generation parameters name the tiny model that made or read the picture."""

INFOTEXT_STEP = "Preview step"
"""Key under which generation parameters name the step at which the picture was taken."""

INFOTEXT_VAE = "Final VAE"
"""Key under which generation parameters name the full VAE of ours that made the picture."""

INFOTEXT_FIRST_VAE = "First pass VAE"
"""Key under which generation parameters name what decoded hires fix's first pass, where that was not the same."""


def option_value(name: str, values: Mapping[str, Any]) -> Any:
    """An option's checked value from ``values`` (key or name -> value); a bad one is the default, and said once."""
    option = OPTION[name]
    value = values.get(option.key, values.get(name))
    if value is None:
        return option.default
    try:
        return option.check(value)
    except ValueError as error:
        log_once(
            f"bad option {option.key} {value!r}",
            f"{option.key} cannot be {value!r}: {error}. Using {option.default!r}.",
        )
        return option.default


@dataclass(frozen=True)
class PreviewSettings:
    """What a running job's previews go by; see :data:`OPTIONS` for what each value means."""

    family: str = OPTION["family"].default
    interval: int = OPTION["interval"].default
    min_time: int = OPTION["min_time"].default
    skip_last: int = OPTION["skip_last"].default
    max_side: int = OPTION["max_side"].default
    detail: str = OPTION["detail"].default
    budget: float = OPTION["budget"].default
    frame_format: str = OPTION["frame_format"].default
    film: str = OPTION["film"].default
    device: str = OPTION["device"].default
    enabled: bool = True

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> "PreviewSettings":
        """Build from option values by key ("taesd_ext_family") or by name ("family")."""
        return cls(**{field.name: option_value(field.name, values) for field in fields(cls) if field.name in OPTION})
