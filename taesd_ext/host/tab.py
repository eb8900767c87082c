"""The tab "TAESD": the panel of ui/, with the WebUI's own values and callables."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.commands.switch_on import HOSTS_KEYS, METHOD, needed_changes
from taesd_ext.errors import TaesdError
from taesd_ext.host.final_decode import FinalDecode
from taesd_ext.host.kept_pictures import KeptPictures
from taesd_ext.host.learnt_previews import LearntPreviews
from taesd_ext.host.options import HostOptions
from taesd_ext.host.previews import Previews
from taesd_ext.host.stored_options import QUICK_SETTINGS
from taesd_ext.host.webui import WebUI
from taesd_ext.latent_formats import Detection, LatentFormat
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.settings import FINAL_VAES, OPTIONS
from taesd_ext.ui.actions import Codecs, ExtraDecoder, HostVAEs, LearntPreviewers, PanelActions, PreviewOffer, require
from taesd_ext.weights.folders import cache_folder, search_folders

SD_VAE = "sd_vae"
"""The host's setting of the VAE that it loads."""

FULL_VAE = "full VAE of the loaded checkpoint"


@dataclass(frozen=True)
class HostActions:
    """The panel's callables in a WebUI."""

    host: WebUI
    options: HostOptions
    registry: CodecRegistry
    previews: Previews
    final: FinalDecode
    pictures: KeptPictures

    def actions(self, history: JobHistory, learnt: LearntPreviews) -> PanelActions:
        host, session = self.host, self.previews.session
        return PanelActions(
            codecs=Codecs(
                folders=lambda: search_folders(host.weights_folders()),
                load=lambda name: self.registry.borrow(name, device=host.device()),
                exclusive=host.exclusive,
                extra_decoders=self.extra_decoders,
                host_vaes=self.vaes,
            ),
            own_folder=lambda: next(iter(host.weights_folders()), cache_folder()),
            files_changed=self.files_changed,
            read_settings=self.options.values,
            write_setting=self.options.set,
            session=lambda: session,
            history=history,
            allowed_to_change=host.allows_changes,
            detection=self.detection,
            last_error=lambda: session.last_error,
            save_picture=self.pictures.save,
            parameters=self.pictures.parameters,
            bind_send=host.bind_send if host.can_send else None,
            hosts_controls={
                option.name: control for option in OPTIONS if (control := host.settings_control(option.key)) is not None
            },
            has_checkpoint=True,
            program=f"{host.name} {host.version}",
            names={name: partial(self.final.vae.choices, name) for name in FINAL_VAES},
            host_vaes=self.host_vaes(),
            preview_offer=preview_offer(host, self.options),
            learnt=LearntPreviewers(learnt.learnt, learnt.forget),
        )

    def files_changed(self) -> None:
        self.registry.release()
        self.previews.session.forget_error()

    def detection(self) -> Detection | None:
        return None if self.host.model() is None else self.host.detection()

    def extra_decoders(self) -> list[ExtraDecoder]:
        """The loaded checkpoint's own VAE, for latents of the same format."""
        now = self.detection()
        if now is None or now.format is None:
            return []
        return [ExtraDecoder(FULL_VAE, self.pictures.decode_in_full, lambda latent_format: latent_format == now.format)]

    def vaes(self) -> dict[str, Callable[[LatentFormat], Codec]]:
        def load(name: str, latent_format: LatentFormat) -> Codec:
            return self.final.vae.load(name, latent_format, self.host.device(), self.host.vae_dtype())

        return {name: partial(load, name) for name in self.final.vae.installed()}

    def host_vaes(self) -> HostVAEs | None:
        """The WebUI's folder of full VAEs, where its SD VAE setting is in force."""
        folder = next(iter(self.host.vae_folders()), None)
        if folder is None or not self.host.has_sd_vae:
            return None
        return HostVAEs(
            folder, self.host.refresh_vaes, lambda: self.host.add_quick_setting(SD_VAE),
            self.host.quick_settings, self.host.settings_control(QUICK_SETTINGS),
        )  # fmt: skip


def preview_offer(host: WebUI, options: HostOptions) -> PreviewOffer | None:
    """What turns the WebUI's live previews over to TAESD; None where previews of ours have no place."""
    if "preview" not in host.supports:
        return None

    def other_method() -> str:
        if host.uses_taesd(METHOD) or not (host.previews_wanted() and host.allows_changes()):
            return ""
        return str(host.option(METHOD, "another method"))

    def accept() -> None:
        require(host.allows_changes())
        known = {key: host.option(key) for key in HOSTS_KEYS if host.option_info(key)}
        for key, value in needed_changes(known).items():
            if key in known:
                host.set_option(key, value)

    def dismiss() -> None:
        with suppress(TaesdError):
            options.set("offer", False)

    controls = [(host.settings_control(key), partial(host.option, key)) for key in HOSTS_KEYS]
    shown = [(control, value) for control, value in controls if control is not None]
    return PreviewOffer(other_method, accept, dismiss, lambda: not options.value("offer"), shown)
