"""The ways of making one moving preview of a video that ``bench --films`` compares."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taesd_ext.codec.previewer import DATA
from taesd_ext.commands.bench_ways import Bench, Frame, Way
from taesd_ext.errors import TaesdError
from taesd_ext.models.computing import computing
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb
from taesd_ext.preview.frame import film_image, to_pixels
from taesd_ext.preview.scene import between_key_frames, spread
from taesd_ext.settings import DETAILS

AS_NEO = "as Forge Neo does"
"""Every frame by the whole decoder, as a GIF that is read again and written again for the page."""

NEO_FPS = 16
FAMILY, SIDES = "taew2_1", (128,)
"""What is measured where nothing else is asked for; on a CPU a larger film takes minutes a frame."""

LATENT_FRAMES = 9
"""Two seconds of Wan."""

KEY_FRAMES = 4
"""What the decoder draws of a preview that has no budget for more; a read-out draws the others by these."""


@dataclass(frozen=True)
class FilmBench(Bench):
    """A family of video models."""

    def latent(self, side: int) -> Tensor:
        """(T,C,h,w): one picture that slowly becomes another."""
        first, last = super().latent(side), super().latent(side).flip(-1)
        return torch.cat([torch.lerp(first, last, step / (LATENT_FRAMES - 1)) for step in range(LATENT_FRAMES)])

    def ways(self, *, full_vae: bool = False) -> list[Way]:
        """Every way that can be had here, Neo's first."""
        ways = [Way(AS_NEO, "fp32", self._as_neo)]
        ways += [Way(f"all frames, {detail}", "auto", partial(self._whole, detail)) for detail in DETAILS]
        ways.append(Way(f"{LATENT_FRAMES} frames, {KEY_FRAMES} of them by the decoder, 1/8", "auto", self._key_frames))
        if self.format.rgb in LATENT_RGB:
            ways.append(Way(f"{LATENT_FRAMES} frames, linear RGB", "fp32", self._linear))
        return ways

    def _as_neo(self) -> Frame:
        decoder = self.codec().decoder
        if not hasattr(decoder, "decode_frames"):
            raise TaesdError(f"{self.family} decodes no films", "", "Choose a family of video models, such as taew2_1")

        @torch.inference_mode()
        def film(latents: Tensor) -> bytes:
            images = decoder.decode_frames(latents.movedim(0, 1)[None])[0].movedim(1, 0).clamp(0, 1)
            pixels = images.mul(255).round_().to(torch.uint8).movedim(1, 3).numpy()
            film = Image.open(io.BytesIO(_gif([Image.fromarray(frame) for frame in pixels])))
            film.load()
            page = io.BytesIO()
            film.save(page, format="gif", save_all=True, loop=0)
            return page.getvalue()

        return film

    def _whole(self, detail: str) -> Frame:
        codec = self.codec("auto")
        return _webp(lambda latents: codec.decode_film(latents, detail=detail))

    def _key_frames(self) -> Frame:
        codec, places = self.codec("auto"), spread(KEY_FRAMES, LATENT_FRAMES)
        return _webp(lambda latents: between_key_frames(latents, places, codec.decode(latents[places], detail="1/8")))

    def _linear(self) -> Frame:
        return _webp(lambda latents: latent_to_rgb(latents, self.format.rgb))


def _webp(show: Callable[[Tensor], Tensor]) -> Frame:
    """``show``: latents -> images in [0,1]"""

    @computing()
    def film(latents: Tensor) -> bytes:
        return film_image(to_pixels(show(latents)), LATENT_FRAMES / 4).data

    return film


def print_sizes(side: int) -> None:
    """What goes to the page for a pan over a photograph, since made-up weights make no pictures."""
    with Image.open(min((DATA / "samples").glob("*.webp"))) as opened:
        photo = opened.convert("RGB").resize((2 * side, side))
    pan = [photo.crop((place, 0, place + side, side)) for place in range(0, side, side // 33)][:33]
    sizes = {"GIF, 33 frames": len(_gif(pan))}
    for count, scale in ((33, 1), (33, 2), (33, 8), (LATENT_FRAMES, 8)):
        small = [frame.resize((side // scale, side // scale)) for frame in pan[:: 33 // count][:count]]
        pixels = torch.stack([torch.from_numpy(np.array(frame)) for frame in small])
        sizes[f"WebP, {count} frames at 1/{scale}"] = len(film_image(pixels, 2.0).data)
    words = "; ".join(f"{name} {size:,} bytes" for name, size in sizes.items())
    print(f"A pan over a photograph of {side} px: {words}")


def _gif(pictures: list[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": 1000 // NEO_FPS, "loop": 0}
    pictures[0].save(buffer, format="gif", **options)
    return buffer.getvalue()
