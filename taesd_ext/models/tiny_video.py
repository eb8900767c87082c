"""The tiny autoencoders of video models (TAEHV and its kin), for stills and for frames.

Their blocks look at the frame before as well as at their own, and their layers join and split frames: several image
frames make one latent frame. A still is a video's first frame: encoding repeats the image, decoding drops the frames
that lie before the first, what the original does with a video of one frame, at a third of the work.

Each network is one ``Sequential``, so that its state dict has the original keys ("3.conv.0.weight", ...), and tells
from the shapes in such a state dict with which arguments it is built.
Source of the structure: madebyollin/taehv (MIT), its branch taeltx23_wide, and madebyollin/taem1 (MIT).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.layers import Conv2d, Module, PixelShuffle, ReLU, Sequential, Upsample, conv1x1, conv3x3
from taesd_ext.models.state_shapes import Arguments, Shapes, frame_counts, plain_convs
from taesd_ext.models.tiny import WIDTH, Clamp, TinyNetwork, halve, three_convs

BLOCKS = 3
"""Blocks in each stage."""


class MemoryBlock(Module):
    """Residual block that sees the frame before too: (B,C,h,w), and the block's input of that frame, -> (B,C,h,w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = three_convs(2 * channels, channels)
        self.act = ReLU()

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """``before`` None is the first frame, which remembers zeros."""
        first = self.conv[0]
        frames = x if before is None else torch.cat([x, before], 1)
        seen = first.convolve(frames, first.weight[:, : frames.shape[1]])
        return self.act(self.conv[1:](seen) + x)


class WideBlock(MemoryBlock):
    """A memory block of grouped 3x3 convolutions (64 channels a group) between 1x1 ones."""

    def __init__(self, channels: int) -> None:
        Module.__init__(self)
        groups = max(1, channels // WIDTH)
        self.conv = Sequential(
            conv1x1(2 * channels, channels),
            ReLU(),
            Conv2d(channels, channels, 3, padding=1, groups=groups),
            ReLU(),
            conv1x1(channels, channels),
            ReLU(),
            Conv2d(channels, channels, 3, padding=1, groups=groups),
        )
        self.act = ReLU()


class SuperBlock(Module):
    """ConvNeXt block that sees the frame before too: a 7x7 depthwise convolution, then 1x1 ones, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        seen = 2 * channels
        self.conv = Sequential(
            Conv2d(seen, seen, 7, padding=3, groups=seen, bias=False),
            conv1x1(seen, 2 * seen),
            ReLU(),
            conv1x1(2 * seen, channels, bias=False),
        )

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        return self.conv(torch.cat([x, torch.zeros_like(x) if before is None else before], 1)) + x


class JoinFrames(Module):
    """``count`` frames (B,C,h,w) one after the other -> one frame (B,C,h,w)."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.conv = conv1x1(count * channels, channels, bias=False)

    def forward(self, frames: list[Tensor]) -> list[Tensor]:
        groups = (frames[start : start + self.count] for start in range(0, len(frames), self.count))
        return [self.conv(torch.cat(group, 1)) for group in groups]


class SplitFrames(Module):
    """One frame (B,C,h,w) -> ``count`` frames (B,C,h,w) one after the other."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.conv = conv1x1(channels, count * channels, bias=False)

    def forward(self, frames: list[Tensor]) -> list[Tensor]:
        return [part for frame in frames for part in self.conv(frame).chunk(self.count, 1)]


_REMEMBERING = (MemoryBlock, SuperBlock)


def run_frames(layers: Sequence[nn.Module], frames: list[Tensor]) -> list[Tensor]:
    """Layers over the frames of a video in their order; the first frame remembers nothing."""
    for layer in layers:
        if isinstance(layer, _REMEMBERING):
            frames = [layer(frame, before) for frame, before in zip(frames, [None, *frames[:-1]], strict=True)]
        elif isinstance(layer, (JoinFrames, SplitFrames)):
            frames = layer(frames)
        else:
            frames = [layer(frame) for frame in frames]
    return frames


class VideoEncoder(TinyNetwork):
    """(B,3,H,W) image in [0,1] -> (B,C,H/f,W/f) latent of a still. H and W are multiples of f, which is 8 * patch.

    ``joins`` are how many frames each stage makes one of; ``patch`` is the side of the squares of pixels that are
    folded into channels first.
    """

    part = "encoder"
    frames = True
    chunk: int | None = None
    """A video is encoded in chunks of so many latent frames, each after a black start (5 in MiniMax H3)."""

    def __init__(
        self, latent_channels: int = 16, joins: Sequence[int] = (2, 2, 1), patch: int = 1, width: int = WIDTH
    ) -> None:
        layers: list[nn.Module] = [conv3x3(3 * patch**2, width), ReLU()]
        for count in joins:
            layers += [JoinFrames(width, count), halve(width), *(MemoryBlock(width) for _ in range(BLOCKS))]
        factor = patch * 2 ** len(joins)
        super().__init__(latent_channels, factor, *layers, conv3x3(width, latent_channels))
        self.patch, self.joined = patch, math.prod(joins)

    def forward(self, image: Tensor) -> Tensor:
        before = torch.zeros_like(image) if self.chunk else image
        return self._encode([*[before] * (self.joined - 1), image])[-1]

    def _encode(self, images: list[Tensor]) -> list[Tensor]:
        first, *rest = self
        # A frame that is there several times over is folded and convolved once.
        seen: dict[int, Tensor] = {}
        for image in images:
            if id(image) not in seen:
                seen[id(image)] = first(functional.pixel_unshuffle(image, self.patch))
        return run_frames(rest, [seen[id(image)] for image in images])

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        convs, joins = plain_convs(shapes), frame_counts(shapes)
        if not convs or not joins or convs[0].index != 0 or not (patch := _patch(convs[0].channels_in)):
            return None
        return {
            "latent_channels": convs[-1].channels_out, "joins": joins, "patch": patch, "width": convs[0].channels_out
        }  # fmt: skip


class VideoDecoder(TinyNetwork):
    """(B,C,h,w) latent of a still -> (B,3,f*h,f*w) image, about [0,1] and not clamped; f is 8 * patch.

    ``widths`` are those of the stages, coarse first, and ``splits`` how many frames each makes of one. ``wide`` is
    TAELTX-2.3-wide's block.
    """

    part = "decoder"
    frames = True
    chunk: int | None = None
    """Each chunk of so many latent frames begins with frames that lie before it (5 in MiniMax H3)."""
    whole_if_even = False
    """Of an even number of latent frames every frame is kept (CogVideoX)."""

    def __init__(
        self, latent_channels: int = 16, widths: Sequence[int] = (256, 128, WIDTH, WIDTH),
        splits: Sequence[int] = (1, 2, 2), patch: int = 1, *, wide: bool = False,
    ) -> None:  # fmt: skip
        block = WideBlock if wide else MemoryBlock
        layers: list[nn.Module] = [Clamp(), conv3x3(latent_channels, widths[0]), ReLU()]
        for width, after, count in zip(widths[:-1], widths[1:], splits, strict=True):
            layers += [*(block(width) for _ in range(BLOCKS)), Upsample(), SplitFrames(width, count)]
            layers += [conv3x3(width, after, bias=False)]
        self._finish(latent_channels, [*layers, ReLU(), conv3x3(widths[-1], 3 * patch**2)], splits, patch)

    def _finish(self, latent_channels: int, layers: list[nn.Module], splits: Sequence[int], patch: int) -> None:
        TinyNetwork.__init__(self, latent_channels, patch * 2 ** len(splits), *layers)
        self.patch, self.split = patch, math.prod(splits)
        doublings = sum(isinstance(layer, Upsample) for layer in layers)
        self.coarse_scales = tuple(2**count for count in range(doublings, 0, -1))

    def forward(self, latent: Tensor, scale: int = 1) -> Tensor:
        """``scale``, one of ``coarse_scales``, gives an image that is so many times smaller, at less than its share.

        The last doublings are left out, the cheap preview of the original (its ``decoder_space_upscale``): rougher
        than the full decode at that size.
        """
        layers = self._layers(scale)
        after_memory = max(index for index, layer in enumerate(layers) if isinstance(layer, _REMEMBERING)) + 1
        frames = run_frames(layers[:after_memory], [latent])
        # Nothing remembers from here on, so the frames before the last, which are dropped, need not be drawn.
        return self._unfolded(run_frames(layers[after_memory:], frames[-1:])[-1])

    def decode_frames(self, latent: Tensor, scale: int = 1) -> Tensor:
        """(B,C,T,h,w) -> (B,3,T',f*h,f*w), about [0,1] and not clamped; T' = n*T - (n-1), n frames of one.

        The first n-1 frames lie before the video, or before each chunk of it. ``scale`` is that of :meth:`forward`.
        """
        frames = run_frames(self._layers(scale), list(latent.unbind(2)))
        return torch.stack([self._unfolded(frames[place]) for place in self._kept(latent.shape[2])], 2)

    def film_length(self, latents: int) -> int:
        """T' of :meth:`decode_frames` for so many latent frames."""
        return len(self._kept(latents))

    def _kept(self, latents: int) -> list[int]:
        """Which of the frames that the layers make belong to the video."""
        count = latents * self.split
        period = self.chunk * self.split if self.chunk else count
        before = 0 if self.whole_if_even and latents % 2 == 0 else self.split - 1
        return [place for place in range(count) if place % period >= before]

    def _layers(self, scale: int) -> list[nn.Module]:
        doublings = [layer for layer in self if isinstance(layer, Upsample)]
        left_out = doublings[len(doublings) - scale.bit_length() + 1 :]
        return [layer for layer in self if not any(layer is other for other in left_out)]

    def _unfolded(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(x, self.patch)

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        convs, splits = plain_convs(shapes), frame_counts(shapes)
        if not convs or not splits or convs[0].index != 1 or not (patch := _patch(convs[-1].channels_out)):
            return None
        return {
            "latent_channels": convs[0].channels_in, "widths": tuple(conv.channels_out for conv in convs[:-1]),
            "splits": splits, "patch": patch, "wide": "3.conv.6.weight" in shapes,
        }  # fmt: skip


class SuperVideoDecoder(VideoDecoder):
    """The larger decoder of the "super" files: ConvNeXt blocks, and no clamp of the latent."""

    def __init__(
        self, latent_channels: int = 48, widths: Sequence[int] = (512, 256, 128, WIDTH),
        splits: Sequence[int] = (1, 2, 2), patch: int = 2,
    ) -> None:  # fmt: skip
        layers: list[nn.Module] = [conv1x1(latent_channels, widths[0], bias=False)]
        for width, after, count in zip(widths[:-1], widths[1:], splits, strict=True):
            layers += [*(SuperBlock(width) for _ in range(BLOCKS)), conv3x3(width, 4 * after), ReLU()]
            layers += [PixelShuffle(2), SplitFrames(after, count)]
        self._finish(latent_channels, [*layers, conv3x3(widths[-1], 3 * patch**2)], splits, patch)

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        convs, splits = plain_convs(shapes), frame_counts(shapes)
        if not convs or not splits or convs[0].index != 0 or not (patch := _patch(convs[-1].channels_out)):
            return None
        first, *growing, _ = convs
        widths = (first.channels_out, *(conv.channels_out // 4 for conv in growing))
        return {"latent_channels": first.channels_in, "widths": widths, "splits": splits, "patch": patch}


def _patch(channels: int) -> int:
    """The side of the squares of RGB pixels that are folded into so many channels; 0 where it is none."""
    side = math.isqrt(max(channels, 0) // 3)
    return side if 3 * side**2 == channels else 0


NETWORKS: tuple[type[TinyNetwork], ...] = (VideoEncoder, VideoDecoder, SuperVideoDecoder)
