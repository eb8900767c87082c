"""What a latent format is: how one kind of diffusion model writes its latents. The known ones: latent_formats.py."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LatentFormat:
    """How one kind of diffusion model writes its latents.

    ``latent_channels`` and ``spatial_scale_factor`` describe the latent that the tiny autoencoder reads. The sampler
    may hold it ``packed``: FLUX.2 folds each 2x2 square of positions into the channels, so that a sampler's latent
    has ``latent_channels * packed**2`` channels at ``1 / packed`` of the sides.

    The sampler's latent is ``(x - mean) / deviation * scaling_factor`` of the VAE's own, x.
    """

    name: str
    title: str
    family: str | None
    """The tiny autoencoder; its native scale is that of the first row that names it."""
    latent_channels: int
    spatial_scale_factor: int
    host_names: tuple[str, ...] = ()
    """Class names of this format in the hosts (Forge, reForge, Neo, ComfyUI)."""
    flags: tuple[str, ...] = ()
    """Attributes of the host's model that are true for this format, strongest first."""
    other_decoders: tuple[str, ...] = ()
    """More names of tiny autoencoders that read the family's latents, in hosts and of files."""
    words: str = ""
    """What people write for the family in a file's name, as a regular expression."""
    scaling_factor: float = 1.0
    shift: float | tuple[float, ...] = 0.0
    """The mean, of all channels or of each."""
    deviations: tuple[float, ...] = ()
    """Of each channel; none is 1."""
    midblock_norm: bool = False
    """The tiny networks normalise over the whole picture."""
    packed: int = 1
    frames: bool = False
    """Latents may have a time axis, (B,C,T,h,w): video models."""
    splits: tuple[int, ...] = (1, 2, 2)
    """How many image frames each stage of the tiny decoder makes of one, for ``frames``."""
    folded_frames: int = 1
    """So many latent frames lie one after the other in the channels of one."""
    chunk: int | None = None
    """Latent frames that are encoded apart from the others."""
    whole_if_even: bool = False
    """Of an even number of latent frames no decoded frame is dropped."""
    rgb: str = ""
    """Row of the linear preview's factors (data/latent_rgb.json), where it is not its own name."""
    previewer: bool = False
    """An embedded previewer is shipped for it (data/previewer_NAME.safetensors)."""
    approx_nn: str = ""
    """The file of A1111's own small previewer for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rgb", self.rgb or self.name)

    def accepts(self, channels: int, stride: int | None = None) -> bool:
        """Whether a sampler's latent with so many channels, at this stride to the image, can be of this format."""
        for fold in {1, self.packed}:
            if channels == self.latent_channels * self.folded_frames * fold**2:
                return stride is None or stride == self.spatial_scale_factor * fold
        return False

    def to_vae(self, latent: Tensor) -> Tensor:
        """(B,C,...) in the sampler's scale -> in the VAE's own."""
        return latent / self.scaling_factor * self._per_channel(self.deviations, latent, 1.0) + self._shift(latent)

    def from_vae(self, latent: Tensor) -> Tensor:
        """(B,C,...) in the VAE's own scale -> in the sampler's."""
        return (latent - self._shift(latent)) / self._per_channel(self.deviations, latent, 1.0) * self.scaling_factor

    def _shift(self, like: Tensor) -> Tensor | float:
        return self._per_channel(self.shift, like, 0.0) if isinstance(self.shift, tuple) else self.shift

    @staticmethod
    def _per_channel(values: tuple[float, ...], like: Tensor, without: float) -> Tensor | float:
        if not values:
            return without
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, *[1] * (like.ndim - 2))


def picture_part(latent: Tensor) -> Tensor:
    """Of a video's latent that is nested with that of its sound, what is seen; any other as it is."""
    return latent.unbind()[0] if getattr(latent, "is_nested", False) else latent


def has_positions(latent: Tensor) -> bool:
    """Whether it is laid out as a picture, (B,C,h,w), or a film, (B,C,T,h,w): tokens, (B,N,C), and sound are not."""
    return latent.ndim in (4, 5)


def unpack(latent: Tensor, fold: int = 2) -> Tensor:
    """(B, C*f*f, h, w) -> (B, C, f*h, f*w): channels hold (C, row, column) of each square of positions."""
    return torch.nn.functional.pixel_shuffle(latent, fold)


def pack(latent: Tensor, fold: int = 2) -> Tensor:
    """(B, C, f*h, f*w) -> (B, C*f*f, h, w), the inverse of :func:`unpack`."""
    return torch.nn.functional.pixel_unshuffle(latent, fold)
