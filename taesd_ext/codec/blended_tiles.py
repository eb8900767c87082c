"""Big pictures through a full-size VAE in overlapping tiles, blended where they meet.

A full-size VAE looks at the whole picture (attention, norms over all positions), so that no overlap makes tiles exact,
as it does for a tiny autoencoder: the overlap is blended linearly and what is left of the seams can be measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from taesd_ext.codec.tiling import even_spans
from taesd_ext.models.fast_layers import is_trusted
from taesd_ext.models.full_vae import Progress, Tile

TILE = 1024
"""Pixels. Tiles of twice the side were seen to be about half as far off in brightness (two small trained VAEs)."""
STRIDE = 768
"""Pixels from one tile to the next: a quarter of each tile is overlap."""
WHOLE_PIXELS = 1280 * 1280
"""Pictures of no more pixels are run at once where nobody knows the memory: 3.5 GB on a CPU, and 2.3 GB a tile."""
LEAST_POSITIONS = 4
"""Latent positions along a side of the smallest tile: a smaller one has nothing but overlap."""
BYTES_PER_PIXEL = 900
"""For each byte of the type: SD1's decoder takes 3.6 kB for a pixel in float32."""
_NO_LIMIT = 2**62


@dataclass(frozen=True)
class BlendedTiler:
    """Runs a VAE's network over tiles, in sizes of the picture's pixels. A tiler of models/full_vae.py.

    ``spread`` places the tiles evenly, each of full size. Without it they lie ``stride`` apart from the upper left and
    the last are cut off, as diffusers does: a narrow last tile sees little of the picture.
    """

    spatial_scale_factor: int
    tile: tuple[int, int] = (TILE, TILE)
    """Height and width."""
    stride: tuple[int, int] = (STRIDE, STRIDE)
    whole_pixels: int = WHOLE_PIXELS
    spread: bool = True
    image_scale: int = 1
    """Decoded pixels for each of the picture's own, along a side."""

    def encode(
        self, network: nn.Module, pixels: Tensor, tile: Tile = "auto", progress: Progress | None = None
    ) -> Tensor:
        """(B,3,H,W) pixels -> (B,C,H/f,W/f)"""
        factor = self.spatial_scale_factor
        height, width = pixels.shape[-2] // factor, pixels.shape[-1] // factor

        def run(rows: slice, columns: slice) -> Tensor:
            return network(pixels[..., _times(rows, factor), _times(columns, factor)])

        return self.chosen(tile)._blend(run, height, width, 1, progress)

    def decode(
        self, network: nn.Module, latent: Tensor, tile: Tile = "auto", progress: Progress | None = None
    ) -> Tensor:
        """(B,C,h,w) latent -> (B,3,f*h,f*w)"""

        def run(rows: slice, columns: slice) -> Tensor:
            return network(latent[..., rows, columns])

        zoom = self.spatial_scale_factor * self.image_scale
        return self.chosen(tile)._blend(run, *latent.shape[-2:], zoom, progress)

    def chosen(self, tile: Tile) -> "BlendedTiler":
        """The tiler for a user's choice: itself for "auto"; for a side, tiles of it in all bigger pictures."""
        if tile == "auto":
            return self
        if tile == "off":
            return replace(self, whole_pixels=_NO_LIMIT)
        positions = max(LEAST_POSITIONS, round(tile / self.spatial_scale_factor))
        side, stride = (n * self.spatial_scale_factor for n in (positions, positions * STRIDE // TILE))
        return replace(self, tile=(side, side), stride=(stride, stride), whole_pixels=0)

    def side_for(self, height: int, width: int) -> int:
        """The longest side of the tiles in which a picture of so many pixels is made; 0 where it is made at once."""
        fits = height <= self.tile[0] and width <= self.tile[1]
        return 0 if fits or height * width <= self.whole_pixels else max(self.tile)

    def spans(self, length: int, axis: int) -> list[slice]:
        """The tiles' places along an axis (0 is height), in latent positions of ``length`` in all."""
        tile, stride = (max(1, side[axis] // self.spatial_scale_factor) for side in (self.tile, self.stride))
        if not self.spread:
            return [slice(start, min(start + tile, length)) for start in range(0, length, stride)]
        return even_spans(length, tile, stride)

    def _blend(
        self, run: Callable[[slice, slice], Tensor], height: int, width: int, zoom: int, progress: Progress | None
    ) -> Tensor:
        """Run all tiles; lengths are latent positions, and an output has ``zoom`` values for each."""
        factor = self.spatial_scale_factor
        if not self.side_for(height * factor, width * factor):
            return run(slice(0, height), slice(0, width))
        rows, columns = self.spans(height, 0), self.spans(width, 1)
        canvas: Tensor | None = None
        above: list[Tensor] = []
        for row, down in enumerate(rows):
            below: list[Tensor] = []
            left: Tensor | None = None
            overlap = (rows[row - 1].stop - down.start) * zoom if row else 0
            kept = (down.stop - rows[row + 1].start) * zoom if row + 1 < len(rows) else 0
            for column, right in enumerate(columns):
                tile = run(down, right)
                if row:
                    tile = _faded(above[column], tile, overlap, dim=-2)
                if left is not None:
                    tile = _faded(left, tile, (columns[column - 1].stop - right.start) * zoom, dim=-1)
                if column + 1 < len(columns):
                    left = tile[..., tile.shape[-1] - (right.stop - columns[column + 1].start) * zoom :]
                below.append(tile[..., tile.shape[-2] - kept :, :].clone())
                if canvas is None:
                    where = tile.device if is_trusted(tile.device) else torch.device("cpu")
                    canvas = torch.empty(*tile.shape[:-2], height * zoom, width * zoom, dtype=tile.dtype, device=where)
                canvas[..., _times(down, zoom), _times(right, zoom)] = tile
                if progress is not None:
                    progress((row * len(columns) + column + 1) / (len(rows) * len(columns)))
            above = below
        return canvas.to(tile.device)


def _times(span: slice, factor: int) -> slice:
    return slice(span.start * factor, span.stop * factor)


def _faded(before: Tensor, tile: Tensor, overlap: int, dim: int) -> Tensor:
    """The tile, whose first ``overlap`` lines come in as those of the one before it go out."""
    shape = [1, 1]
    shape[dim] = overlap
    weight = (torch.arange(overlap, dtype=torch.float32, device=tile.device) / overlap).to(tile.dtype).view(shape)
    first, rest = tile.split([overlap, tile.shape[dim] - overlap], dim=dim)
    return torch.cat((before * (1 - weight) + first * weight, rest), dim=dim)
