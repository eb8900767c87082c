"""The seams: what the host's functions do instead, while TAESD is chosen. Everything else goes to the original."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from taesd_ext.host.patch import HostPatch
from taesd_ext.host.runtime import Runtime, is_film
from taesd_ext.host.webui import DECODE_METHOD, ENCODE_METHOD, PREVIEW_METHOD
from taesd_ext.settings import HOSTS_VAE, TINY_VAE

FULL = 0
"""The host's number for the full VAE."""


class Hooks:
    """The replacements and their patches."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._finals = runtime.finals
        self._host = runtime.host
        self._thread = threading.local()
        self.patches = tuple(self._patches())

    def apply(self) -> None:
        for patch in self.patches:
            patch.apply()

    def undo(self) -> None:
        for patch in reversed(self.patches):
            patch.undo()

    def _patches(self):
        host = self._host
        if "decode" in host.supports:
            yield HostPatch(host.common, "samples_to_images_tensor", self.samples_to_images_tensor)
        if "encode" in host.supports:
            yield HostPatch(host.common, "images_tensor_to_samples", self.images_tensor_to_samples)
            if hasattr(host.processing, "images_tensor_to_samples"):  # an early copy of the same function
                yield HostPatch(host.processing, "images_tensor_to_samples", self.images_tensor_to_samples)
        if "preview" in host.supports:
            state_class = type(host.state)
            yield HostPatch(state_class, "set_current_image", self.set_current_image)
            yield HostPatch(state_class, "assign_current_image", self.assign_current_image)

    # Latents -> pictures

    def samples_to_images_tensor(
        self, original: Callable[..., Tensor], sample: Tensor, approximation: int | None = None, model: Any = None
    ) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1]. No approximation means a preview, a number a final picture.

        With fast interrupt a final picture is made by the preview's method, whatever the number; else by the VAE that
        is chosen for it, if one is. Films are left to the host: our networks draw stills.
        """
        self._thread.drop = False
        if approximation is None:
            return self._preview(original, sample, model)
        interrupted = self._host.fast_interrupt()
        chosen = self._runtime.final_choice()
        final = interrupted or self._host.is_final(approximation)
        if interrupted or is_film(sample) or not final:
            chosen = HOSTS_VAE
        if chosen == TINY_VAE:
            approximation = self._host.taesd_index
        elif chosen != HOSTS_VAE:
            with self._runtime.session.suspended():
                return self._final(partial(self._finals.decode_by, chosen), original, sample, model, interrupted)
        ours = self._host.uses_taesd(PREVIEW_METHOD) if interrupted else approximation == self._host.taesd_index
        with self._runtime.session.suspended():
            if ours and self._runtime.replaces_vae() and not is_film(sample):
                return self._final(self._finals.decode, original, sample, model, interrupted)
            image = original(sample, approximation, model)
        if ours:
            self._finals.used_built_in("decoder")
        elif interrupted or (final and not self._host.uses_taesd(DECODE_METHOD)):  # else it is only a look at it
            self._finals.used_hosts_own("decoder")
        return image

    def _final(
        self,
        decode: Callable[[Tensor], Tensor],
        original: Callable[..., Tensor],
        sample: Tensor,
        model: Any,
        interrupted: bool,
    ) -> Tensor:
        try:
            return decode(sample)
        except Exception as error:
            if interrupted:  # never lose a picture to a mere preference
                self._finals.used_full_vae("decoder", error)
            else:
                self._finals.failed("decoder", error)
        with self._host.not_interrupted():
            return original(sample, FULL, model)

    def _preview(self, original: Callable[..., Tensor], sample: Tensor, model: Any) -> Tensor:
        runtime = self._runtime
        ours = runtime.draws_previews()
        if (ours or not runtime.generations.choices.enabled) and _called_by("store_latent"):
            # Under --medvram and --lowvram the host makes the sampler wait for a preview that perhaps nobody looks at.
            # Ours are made when somebody asks, in that one's thread; what comes of this call is not shown.
            self._thread.drop = "preview" in self._host.supports
            if self._thread.drop:
                return sample.new_zeros(len(sample), 3, 1, 1)
        return runtime.preview_tensor(sample) if ours else original(sample, None, model)

    # Pictures -> latents

    def images_tensor_to_samples(
        self, original: Callable[..., Tensor], image: Tensor, approximation: int | None = None, model: Any = None
    ) -> Tensor:
        """(B,3,H,W) image in [0,1] -> latent."""
        if approximation is None:
            ours = self._host.uses_taesd(ENCODE_METHOD)
        else:
            ours = approximation == self._host.taesd_index
        if not ours or not self._runtime.replaces_vae():
            latent = original(image, approximation, model)
            if ours:
                self._finals.used_built_in("encoder")
            elif not self._host.uses_taesd(ENCODE_METHOD):  # else it is not for this picture
                self._finals.used_hosts_own("encoder")
            return latent
        try:
            return self._finals.encode(image)
        except Exception as error:
            self._finals.failed("encoder", error)
        return original(image, FULL, model)

    # Previews on request

    def set_current_image(self, original: Callable[..., None], state: Any) -> None:
        """Somebody polls."""
        runtime = self._runtime
        if not runtime.generations.choices.enabled:
            return
        if not runtime.draws_previews() or not self._host.previews_wanted():
            original(state)
            return
        runtime.show_preview(state)

    def assign_current_image(self, original: Callable[..., None], state: Any, image: Any) -> None:
        if getattr(self._thread, "drop", False):
            self._thread.drop = False
            return
        original(state, image)


def _called_by(function: str, depth: int = 8) -> bool:
    """Whether a function of this name is among the nearest callers."""
    frame = sys._getframe(1)
    for _ in range(depth):
        frame = frame.f_back
        if frame is None:
            return False
        if frame.f_code.co_name == function:
            return True
    return False
