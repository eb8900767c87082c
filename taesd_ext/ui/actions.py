"""What the panel needs from the program around it. The WebUI and the playground each fill one of these."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import Detection, LatentFormat
from taesd_ext.learning.pairs import LatentKind
from taesd_ext.learning.readout import Learnt
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.preview.recorded import KeptLatent, RecordedJob
from taesd_ext.preview.session import PreviewSession
from taesd_ext.ui.work import Task, interruptible

LOCKED = "This WebUI is shared: files and settings cannot be changed from its pages."
NOT_SHOWN = "This WebUI is shared: other people's images are not shown."


def require(allowed_to_change: bool) -> None:
    """Raises TaesdError where visitors may not change anything."""
    if not allowed_to_change:
        raise TaesdError(
            "Files and settings cannot be changed here",
            "this WebUI is shared and lets no page install anything",
            "Start it with --enable-insecure-extension-access, or without --share and --listen",
        )


@dataclass(frozen=True)
class ExtraDecoder:
    """A decoder that only the host has, such as the loaded checkpoint's own VAE."""

    title: str
    decode: Callable[[Tensor], Tensor]
    """(B,C,h,w) latent in the model's own scale -> (B,3,H,W) image in [0,1]. May raise TaesdError."""
    accepts: Callable[[LatentFormat], bool] = lambda _format: True


@dataclass(frozen=True)
class Codecs:
    """What encodes and decodes here."""

    folders: Callable[[], list[Path]]
    """Existing folders of weight files, in the order in which they are searched."""
    load: Callable[[str], Codec]
    """The codec of a family or a VAE, loaded now if it is not yet."""
    exclusive: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    """Entered for heavy work, so that it does not run at the same time as a generation."""
    extra_decoders: Callable[[], list[ExtraDecoder]] = list
    host_vaes: Callable[[], Mapping[str, Callable[[LatentFormat], Codec]]] = dict
    """Full-size VAEs among the host's -> loads one, which is taken for a VAE of these latents where its file does not
    tell."""

    @contextlib.contextmanager
    def in_turn(self, task: Task) -> Iterator[None]:
        """Around heavy work, which ends with its task."""
        with self.exclusive(), interruptible(task):
            yield


@dataclass(frozen=True)
class HostVAEs:
    """The folder from which the WebUI's own SD VAE setting takes its files."""

    folder: Path
    refresh: Callable[[], None]
    """Have the WebUI list the folder anew."""
    add_quick_setting: Callable[[], bool]
    """Put the setting at the top of the page, from the next Reload UI on; False where it is there already."""
    quick_settings: Callable[[], list[str]] = list
    """What is at the top of the page."""
    hosts_control: Any = None
    """The control of that list on the host's own settings page."""


@dataclass(frozen=True)
class PreviewOffer:
    """A WebUI's live previews can be by TAESD, and are by something else."""

    other_method: Callable[[], str]
    """What draws them now; "" where TAESD does, or where this page may not change it."""
    accept: Callable[[], None]
    """Have TAESD draw them from now on, and save that. Raises TaesdError."""
    dismiss: Callable[[], None]
    """Never offer it under a generation again."""
    is_dismissed: Callable[[], bool]
    hosts_controls: list[tuple[Any, Callable[[], Any]]] = field(default_factory=list)
    """(control on the host's own settings page, its value now) of what ``accept`` changes."""


@dataclass(frozen=True)
class LearntPreviewers:
    """Previews that the WebUI learns from finished images."""

    learnt: Callable[[], Mapping[LatentKind, Learnt]]
    forget: Callable[[LatentKind], None]


@dataclass
class PanelActions:
    """Data and callables of the panel.

    Every callable may be called from any thread, often, and while a job runs. Those that fail raise TaesdError, whose
    line is shown as it is.
    """

    codecs: Codecs
    own_folder: Callable[[], Path]
    """Where downloads and files of one's own are put; it may not exist yet."""
    files_changed: Callable[[], None]
    """Weight files came or went: loaded codecs are to be forgotten."""
    read_settings: Callable[[], Mapping[str, Any]]
    """Option name -> value, of every option of settings.py."""
    write_setting: Callable[[str, Any], None]
    """Option name, checked value: takes effect at once and is saved, as the host's own settings page does it."""
    session: Callable[[], PreviewSession]
    """That of the running or last job."""
    history: JobHistory

    allowed_to_change: Callable[[], bool] = lambda: True
    """False where the WebUI is shared with strangers: files and settings stay as they are, others' pictures unseen."""
    detection: Callable[[], Detection | None] = lambda: None
    """The loaded checkpoint's latent format and why; None where there is no checkpoint."""
    last_error: Callable[[], str | None] = lambda: None
    """The last preview error with its cure, in one line."""
    save_picture: Callable[[Image.Image, KeptLatent, Codec | None], Path] | None = None
    """Save a picture that was decoded again (by this codec; None: the host's own VAE) as the host saves its own."""
    parameters: Callable[[KeptLatent, Codec | None], str] = lambda _kept, _codec: ""
    """The generation parameters of such a picture."""
    bind_send: Callable[[Any, str, Any, Any], None] | None = None
    """Have a button send a picture (component) and its parameters (component) to a tab of the host's."""
    hosts_controls: Mapping[str, Any] = field(default_factory=dict)
    """Option name -> the control on the host's own settings page, which sends all it shows when any is applied: it has
    to show what is set here."""
    has_checkpoint: bool = False
    """Whether there is such a thing as a loaded checkpoint at all."""
    names: Mapping[str, Callable[[], list[str]]] = field(default_factory=dict)
    """What can be chosen now, for each option that is a name."""
    program: str = "the playground"
    """What this is, for a report."""
    host_vaes: HostVAEs | None = None
    """None where there is no such folder, or the setting has no effect."""
    preview_offer: PreviewOffer | None = None
    """None where there is no WebUI."""
    learnt: LearntPreviewers | None = None
    """None where nothing is learnt."""

    def require_change(self) -> None:
        require(self.allowed_to_change())

    def jobs(self) -> list[RecordedJob]:
        """The last jobs with their previews, newest first; none where pages belong to different people."""
        return self.history.jobs() if self.allowed_to_change() else []

    def moments(self, job: int) -> list[KeptLatent]:
        """All latents of a job, newest first; none where pages belong to different people."""
        return self.history.moments(job) if self.allowed_to_change() else []

    def kept(self) -> list[KeptLatent]:
        """The last finished latents, newest first; none where pages belong to different people."""
        return self.history.finished() if self.allowed_to_change() else []
