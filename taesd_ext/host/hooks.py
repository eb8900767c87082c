"""The seams: what the host's functions do instead, while TAESD is chosen. Everything else goes to the original."""

import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from torch import Tensor

from taesd_ext.errors import log_once, one_line
from taesd_ext.host.final_decode import FinalDecode
from taesd_ext.host.generation import Generations
from taesd_ext.host.history import History
from taesd_ext.host.patch import HostPatch
from taesd_ext.host.previews import Previews
from taesd_ext.host.webui import DECODE_METHOD, ENCODE_METHOD, WebUI
from taesd_ext.settings import HOSTS_VAE, TINY_VAE

FULL = 0
"""The host's number for the full VAE."""


class Hooks:
    """The replacements and their patches."""

    def __init__(
        self, host: WebUI, generations: Generations, previews: Previews, final: FinalDecode, history: History,
        learn: Callable[[Tensor, Tensor], None],
    ) -> None:  # fmt: skip
        self._host = host
        self._generations = generations
        self._previews = previews
        self._final = final
        self._history = history
        self._learn = learn
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

        Films are left to the host: our networks draw stills.
        """
        self._thread.drop = False
        if approximation is None:
            return self._preview(original, sample, model)
        interrupted = self._host.fast_interrupt()
        if self._host.is_final(approximation):
            sample = self._history.decoding(sample)
        chosen = self._final.decoder_for(sample, approximation, interrupted=interrupted)
        with self._previews.session.suspended():
            if chosen not in (HOSTS_VAE, TINY_VAE):
                return self._finished(partial(self._final.decode_by, chosen), original, sample, model, interrupted)
            if chosen == TINY_VAE:
                if self._final.replaces_taesd(sample):
                    return self._finished(self._final.decode, original, sample, model, interrupted)
                approximation = self._host.taesd_index
            image = original(sample, approximation, model)
        if chosen == TINY_VAE:
            self._final.used_built_in("decoder")
        elif interrupted or (self._host.is_final(approximation) and not self._host.uses_taesd(DECODE_METHOD)):
            self._final.used_hosts_own("decoder")  # else it is only a look at it
            if not interrupted:
                self._learn(sample, image)
        return image

    def _finished(
        self, decode: Callable[[Tensor], Tensor], original: Callable[..., Tensor], sample: Tensor, model: Any,
        interrupted: bool,
    ) -> Tensor:  # fmt: skip
        try:
            return decode(sample)
        except Exception as error:
            if interrupted:  # never lose a picture to a mere preference
                self._final.used_full_vae("decoder", error)
            else:
                self._final.failed("decoder", error)
        with self._host.not_interrupted():
            return original(sample, FULL, model)

    def _preview(self, original: Callable[..., Tensor], sample: Tensor, model: Any) -> Tensor:
        ours = self._previews.are_ours(sample)
        if (ours or not self._generations.choices.enabled) and _caller("store_latent"):
            # Under --medvram and --lowvram the host makes the sampler wait for a preview that perhaps nobody looks at.
            # Ours are made when somebody asks; what comes of this call is not shown.
            self._thread.drop = "preview" in self._host.supports
            if self._thread.drop:
                return sample.new_zeros(len(sample), 3, 1, 1)
        return self._previews.as_tensor(sample) if ours else original(sample, None, model)

    # Pictures -> latents

    def images_tensor_to_samples(
        self, original: Callable[..., Tensor], image: Tensor, approximation: int | None = None, model: Any = None
    ) -> Tensor:
        """(B,3,H,W) image in [0,1] -> latent."""
        if approximation is None:
            ours = self._host.uses_taesd(ENCODE_METHOD)
        else:
            ours = approximation == self._host.taesd_index
        if not ours or not self._final.replaces_taesd():
            latent = original(image, approximation, model)
            if ours:
                self._final.used_built_in("encoder")
            elif not self._host.uses_taesd(ENCODE_METHOD):  # else it is not for this picture
                self._final.used_hosts_own("encoder")
            return latent
        try:
            return self._final.encode(image)
        except Exception as error:
            self._final.failed("encoder", error)
        return original(image, FULL, model)

    # Previews on request

    def set_current_image(self, original: Callable[..., None], state: Any) -> None:
        """Somebody polls. Whatever the host holds, nothing of ours raises into the answer."""
        if _skips_image():
            return
        shown = False
        try:
            shown = not self._generations.choices.enabled
            if not shown and self._host.previews_wanted() and self._previews.are_ours(state.current_latent):
                self._previews.show(state)
                shown = True
        except Exception as error:
            log_once(f"poll {one_line(error)}", one_line(error))
        if not shown:
            original(state)

    def assign_current_image(self, original: Callable[..., None], state: Any, image: Any) -> None:
        if getattr(self._thread, "drop", False):
            self._thread.drop = False
            return
        original(state, image)


def _skips_image() -> bool:
    """Whether the poll is one of the host's API that wants no picture, ``skip_current_image=true``."""
    asking = _caller("progressapi")
    return bool(asking and getattr(asking.f_locals.get("req"), "skip_current_image", False))


def _caller(function: str, depth: int = 8) -> FrameType | None:
    """The frame of that function, if it is among the nearest callers."""
    frame = sys._getframe(1)
    for _ in range(depth):
        frame = frame.f_back
        if frame is None or frame.f_code.co_name == function:
            return frame
    return None
