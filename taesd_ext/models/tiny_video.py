"""The tiny autoencoder of video models (TAEHV), used for stills: one latent frame <-> one image.

Its blocks look at the frame before as well as at their own, and its layers join and split frames: four image frames
make one latent frame. A still is such a video's first frame. Encoding repeats the image four times, decoding drops
the three frames that lie before the first: what the original does with a video of one frame, at a third of the work.

Each network is one ``nn.Sequential``, so that its state dict has the original keys ("3.conv.0.weight", ...).
Source of the structure: madebyollin/taehv (MIT), the weights taew2_1 (Wan 2.1, Qwen Image).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taesd_ext.models.layers import Conv2d, Module, ReLU, Sequential, Upsample
from taesd_ext.models.tiny import WIDTH, Clamp, conv3x3, halve

FRAMES = 4
"""Image frames in a latent frame."""


class MemoryBlock(Module):
    """Residual block that sees the frame before too: (B,C,h,w), and the block's input of that frame, -> (B,C,h,w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Sequential(
            conv3x3(2 * channels, channels),
            ReLU(),
            conv3x3(channels, channels),
            ReLU(),
            conv3x3(channels, channels),
        )
        self.act = ReLU()

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """``before`` None is the first frame, which remembers zeros."""
        first = self.conv[0]
        frames = x if before is None else torch.cat([x, before], 1)
        seen = first.convolve(frames, first.weight[:, : frames.shape[1]])
        return self.act(self.conv[1:](seen) + x)


class JoinFrames(Module):
    """``count`` frames (B,C,h,w) one after the other -> one frame (B,C,h,w)."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.conv = Conv2d(count * channels, channels, kernel_size=1, bias=False)

    def forward(self, frames: list[Tensor]) -> list[Tensor]:
        groups = (frames[start : start + self.count] for start in range(0, len(frames), self.count))
        return [self.conv(torch.cat(group, 1)) for group in groups]


class SplitFrames(Module):
    """One frame (B,C,h,w) -> ``count`` frames (B,C,h,w) one after the other."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.conv = Conv2d(channels, count * channels, kernel_size=1, bias=False)

    def forward(self, frames: list[Tensor]) -> list[Tensor]:
        return [part for frame in frames for part in self.conv(frame).chunk(self.count, 1)]


def memory_blocks(channels: int) -> list[nn.Module]:
    return [MemoryBlock(channels) for _ in range(3)]


def shrink(count: int) -> list[nn.Module]:
    """``count`` frames to one, and (B,C,h,w) -> (B,C,h/2,w/2)."""
    return [JoinFrames(WIDTH, count), halve(WIDTH), *memory_blocks(WIDTH)]


def grow(channels_in: int, channels_out: int, count: int) -> list[nn.Module]:
    """(B,C,h,w) -> (B,C',2h,2w), and one frame to ``count``."""
    return [
        *memory_blocks(channels_in),
        Upsample(),
        SplitFrames(channels_in, count),
        conv3x3(channels_in, channels_out, bias=False),
    ]


def run_frames(layers: list[nn.Module], frames: list[Tensor]) -> list[Tensor]:
    """Layers over the frames of a video in their order; the first frame remembers nothing."""
    for layer in layers:
        if isinstance(layer, MemoryBlock):
            frames = [layer(frame, before) for frame, before in zip(frames, [None, *frames[:-1]], strict=True)]
        elif isinstance(layer, (JoinFrames, SplitFrames)):
            frames = layer(frames)
        else:
            frames = [layer(frame) for frame in frames]
    return frames


class VideoEncoder(Sequential):
    """(B,3,H,W) image in [0,1] -> (B,C,H/8,W/8) latent of a still. H and W are multiples of 8."""

    spatial_scale_factor = 8

    def __init__(self, latent_channels: int = 16) -> None:
        super().__init__(
            conv3x3(3, WIDTH), ReLU(),
            *shrink(2), *shrink(2), *shrink(1),
            conv3x3(WIDTH, latent_channels),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        first, *rest = self
        return run_frames(rest, [first(image)] * FRAMES)[-1]


class VideoDecoder(Sequential):
    """(B,C,h,w) latent of a still -> (B,3,8h,8w) image, about [0,1] and not clamped."""

    spatial_scale_factor = 8

    def __init__(self, latent_channels: int = 16) -> None:
        super().__init__(
            Clamp(), conv3x3(latent_channels, 4 * WIDTH), ReLU(),
            *grow(4 * WIDTH, 2 * WIDTH, 1), *grow(2 * WIDTH, WIDTH, 2), *grow(WIDTH, WIDTH, 2),
            ReLU(), conv3x3(WIDTH, 3),
        )  # fmt: skip

    def forward(self, latent: Tensor) -> Tensor:
        layers = list(self)
        after_memory = max(index for index, layer in enumerate(layers) if isinstance(layer, MemoryBlock)) + 1
        frames = run_frames(layers[:after_memory], [latent])
        # Nothing remembers from here on, so the frames before the last, which are dropped, need not be drawn.
        return run_frames(layers[after_memory:], frames[-1:])[-1]
