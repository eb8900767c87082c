"""A latent for people's eyes."""

import math

import torch
from PIL import Image
from torch import Tensor

from taesd_ext.codec.latent_image import quantise
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb


def latent_view(latent: Tensor, latent_format: LatentFormat) -> Image.Image:
    """A (1,C,h,w) latent as a sheet: the linear RGB preview, then each channel as a grey tile, -3 to 3.

    A format without a linear preview shows its channels only.
    """
    height, width = latent.shape[-2:]
    tiles = []
    if latent_format.rgb in LATENT_RGB:
        rgb = latent_to_rgb(latent.float().cpu(), latent_format.rgb)[0].clamp(0, 1)
        tiles.append(rgb.mul(255).round().byte().permute(1, 2, 0))
    tiles += [grey[..., None].expand(height, width, 3) for grey in quantise(latent[0].cpu())]
    columns = math.ceil(math.sqrt(len(tiles)))
    sheet = torch.full((math.ceil(len(tiles) / columns) * (height + 1) - 1, columns * (width + 1) - 1, 3), 128).byte()
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return Image.fromarray(sheet.numpy())
