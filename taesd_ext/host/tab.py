"""The tab "TAESD": the panel of ui/, with the WebUI's own values and callables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.host import infotext
from taesd_ext.host.hooks import FULL
from taesd_ext.host.preview_offer import preview_offer
from taesd_ext.host.runtime import Runtime
from taesd_ext.host.stored_options import QUICK_SETTINGS
from taesd_ext.latent_formats import Detection, LatentFormat
from taesd_ext.preview.recorded import KeptLatent
from taesd_ext.settings import OPTIONS
from taesd_ext.ui.actions import ExtraDecoder, HostVAEs, LearntPreviewers, PanelActions
from taesd_ext.ui.panel import build_page
from taesd_ext.weights.folders import cache_folder, search_folders

TITLE, ELEM_ID = "TAESD", "taesd_ext"

SD_VAE = "sd_vae"
"""The host's setting of the VAE that it loads."""

FULL_VAE = "full VAE of the loaded checkpoint"


def build(runtime: Runtime) -> list[Any]:
    """What the host wants of a tab: [(page, title, id)]."""
    return [(build_page(HostActions(runtime).actions()), TITLE, ELEM_ID)]


class HostActions:
    """The panel's callables in a WebUI."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.host = runtime.host

    def actions(self) -> PanelActions:
        runtime = self.runtime
        return PanelActions(
            folders=self.folders,
            own_folder=self.own_folder,
            codec_for=self.codec_for,
            files_changed=self.files_changed,
            read_settings=runtime.options.values,
            write_setting=runtime.options.set,
            session=lambda: runtime.session,
            history=runtime.history.jobs,
            allowed_to_change=self.host.allows_changes,
            detection=self.detection,
            last_error=lambda: runtime.session.last_error,
            exclusive=self.host.exclusive,
            extra_decoders=self.extra_decoders,
            save_picture=self.save_picture,
            parameters=self.parameters,
            bind_send=self.host.bind_send if self.host.can_send else None,
            hosts_controls=self.hosts_controls(),
            has_checkpoint=True,
            program=f"{self.host.name} {self.host.version}",
            names={"final_vae": runtime.final.vae.choices},
            host_vaes=self.host_vaes(),
            preview_offer=preview_offer(self.host, runtime.options),
            learnt=LearntPreviewers(runtime.learnt.learnt, runtime.learnt.forget),
        )

    def folders(self) -> list[Path]:
        return search_folders(self.host.weights_folders())

    def own_folder(self) -> Path:
        return self.host.own_weights_folder() or cache_folder()

    def codec_for(self, name: str) -> Codec:
        return self.runtime.registry.get(name, device=self.host.device())

    def files_changed(self) -> None:
        self.runtime.registry.release()
        self.runtime.session.forget_error()

    def hosts_controls(self) -> dict[str, Any]:
        found = {option.name: self.host.settings_control(option.key) for option in OPTIONS}
        return {name: control for name, control in found.items() if control is not None}

    def detection(self) -> Detection | None:
        return None if self.host.model() is None else self.runtime.detection()

    def extra_decoders(self) -> list[ExtraDecoder]:
        """The loaded checkpoint's own VAE, for latents of the same format."""
        now = self.detection()
        if now is None or now.format is None:
            return []

        def accepts(latent_format: LatentFormat) -> bool:
            return latent_format == now.format

        return [ExtraDecoder(FULL_VAE, self._decode_in_full, accepts)]

    def _decode_in_full(self, latent: Tensor) -> Tensor:
        with torch.no_grad(), self.runtime.final.hosts_vae():
            image = self.host.common.samples_to_images_tensor(latent.to(self.host.device(), torch.float32), FULL)
            return image.float().mul(0.5).add(0.5).clamp(0, 1).cpu()

    def host_vaes(self) -> HostVAEs | None:
        """The WebUI's folder of full VAEs, where its SD VAE setting is in force."""
        folder = next(iter(self.host.vae_folders()), None)
        if folder is None or not self.host.has_sd_vae:
            return None
        return HostVAEs(
            folder, self.host.refresh_vaes, lambda: self.host.add_quick_setting(SD_VAE),
            self.host.quick_settings, self.host.settings_control(QUICK_SETTINGS),
        )  # fmt: skip

    def parameters(self, kept: KeptLatent, decoder: Codec | None) -> str:
        known = kept.infotext or self.host.parameters(kept.extra["processing"](), kept.picture - 1)
        return infotext.decoded_again(known, decoder, f"{kept.step}/{kept.steps}" if kept.step else "")

    def save_picture(self, picture: Image.Image, kept: KeptLatent, decoder: Codec | None) -> Path:
        tab, seed, prompt = (kept.extra[name] for name in ("tab", "seed", "prompt"))
        return self.host.save_picture(picture, tab, self.parameters(kept, decoder), seed, prompt)
