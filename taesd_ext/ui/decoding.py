"""A kept latent through another decoder, without generating again."""

from dataclasses import dataclass

import torch
from PIL import Image

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import EMBEDDED_SUFFIX, embedded_families
from taesd_ext.codec.picture_file import image_to_picture
from taesd_ext.commands.measuring import timed
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat, to_family_latent
from taesd_ext.preview.recorded import KeptLatent, bytes_of
from taesd_ext.ui.actions import Codecs
from taesd_ext.ui.controls import picked
from taesd_ext.ui.work import Task
from taesd_ext.weights.installed import installed
from taesd_ext.weights.installed_vaes import installed_vaes
from taesd_ext.weights.vae_table import VAE_BY_NAME, at_work


@dataclass(frozen=True)
class Decoded:
    """One decode of a kept latent."""

    kept: KeptLatent
    name: str
    picture: Image.Image
    codec: Codec | None
    """What it was decoded by, without the networks; None: the host's own VAE."""
    seconds: float

    @property
    def title(self) -> str:
        return f"{self.name}, step {self.kept.step}" if self.kept.step else self.name

    @property
    def size(self) -> int:
        """Bytes of its picture and its latent."""
        width, height = self.picture.size
        return 3 * width * height + bytes_of(self.kept.latent)


def decoder_names(codecs: Codecs, kept: KeptLatent | None) -> list[str]:
    """The decoders that can read this latent: the host's own, installed full-size VAEs, tiny ones, the embedded."""
    if kept is None or kept.latent_format is None:
        return []
    row, folders = kept.latent_format, codecs.folders()
    names = [extra.title for extra in codecs.extra_decoders() if extra.accepts(row)]
    names += installed_vaes(row, folders)
    for name in codecs.host_vaes():
        known = VAE_BY_NAME.get(name)
        if name not in names and (known is None or known.latent_format.family == row.family):
            names.append(name)
    if row.family and "decoder" in installed(folders).get(row.family, {}):
        names.append(row.family)
    if row.family in embedded_families():
        names.append(f"{row.family}{EMBEDDED_SUFFIX}")
    return names


def decode_again(codecs: Codecs, kept: KeptLatent, chosen: str, task: Task | None = None) -> Decoded:
    """In turn with the host's own work. Raises TaesdError."""
    name = picked(chosen, decoder_names(codecs, kept), "decoder")
    extra = next((extra for extra in codecs.extra_decoders() if extra.title == name), None)
    task = task or Task()
    with codecs.in_turn(task):
        task.report(0.1, at_work(name))
        codec, latent = None if extra else _codec(codecs, name, kept.latent_format), kept.latent.float()
        decode = extra.decode if extra else lambda own: codec.decode(to_family_latent(own, kept.latent_format))
        made = timed(lambda: decode(latent))
    if not torch.isfinite(made.result).all():
        raise TaesdError(f"{name} produced an invalid image (NaN or Inf)")
    by = None if codec is None else Codec(codec.name, codec.format, source=codec.source)
    return Decoded(kept, name, image_to_picture(made.result), by, made.wall)


def _codec(codecs: Codecs, name: str, latent_format: LatentFormat) -> Codec:
    of_host = codecs.host_vaes().get(name)
    codec = of_host(latent_format) if of_host else codecs.load(name)
    if codec.format.family != latent_format.family:
        raise TaesdError(
            f"{name} cannot decode this image",
            f"it is a VAE of {codec.format.title}, and the image is of {latent_format.title}",
            "Choose another decoder",
        )
    return codec
