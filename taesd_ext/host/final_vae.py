"""The full VAE that a person chose for finished pictures, in place of the host's own."""

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import embedded_names
from taesd_ext.codec.loading import full_codec, load_codec
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.host.webui import WebUI
from taesd_ext.latent_formats import Detection, LatentFormat, to_family_latent
from taesd_ext.models.computing import computing
from taesd_ext.settings import OPTION
from taesd_ext.weights.borders import borders_changed
from taesd_ext.weights.installed_vaes import canonical_name, find_installed_vae, installed_vaes_by_name


class FinalVAE:
    """Holds the VAEs of the running job's passes, loaded once and let go when they are chosen no more."""

    def __init__(self, host: WebUI) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[tuple[Any, ...], Codec]] = {}
        """Name -> what it was loaded for, and the codec."""
        self._folders: dict[str, int] | None = None
        self._names: list[str] = []

    def choices(self, option: str = "final_vae") -> list[str]:
        """What can be chosen now for one of FINAL_VAES."""
        return [*OPTION[option].choices, *self.installed(), *embedded_names()]

    def installed(self) -> list[str]:
        """VAEs of which a file is there now. The folders are read anew only where a file in them came or went."""
        folders = _folders(*self._host.vae_folders(), *self._host.weights_folders())
        with self._lock:
            if self._folders != folders:
                self._names = list(installed_vaes_by_name(self._host.vae_folders(), self._host.weights_folders()))
                self._folders = folders
            return self._names

    def codec(self, name: str, fitting: LatentFormat | None) -> Codec:
        """The VAE of this name; ``fitting`` is the loaded model's format, for a file that does not tell its own.

        Raises TaesdError.
        """
        name, device, dtype = canonical_name(name), self._host.device(), self._host.vae_dtype()
        key = (fitting, str(device), dtype)
        with self._lock:
            known, codec = self._kept.pop(name, ((), None))
            if codec is None or known != (*key, *_stat(codec.source.decoder)):
                codec = None
                # A host may call from inference mode; tensors made there could not be used outside it.
                try:
                    with computing(device):
                        codec = self.load(name, fitting, device, dtype)
                except TaesdError:
                    raise
                except Exception as error:
                    cure = "Choose another VAE for the final image"
                    raise TaesdError(f"Cannot load {name}", one_line(error), cure) from error
            self._kept[name] = (*key, *_stat(codec.source.decoder)), codec
            return codec

    def keep(self, names: Iterable[str]) -> None:
        """Let go of all others."""
        names = {canonical_name(name) for name in names}
        with self._lock:
            self._kept = {name: kept for name, kept in self._kept.items() if name in names}

    def load(self, name: str, fitting: LatentFormat | None, device: Any, dtype: Any) -> Codec:
        """The VAE anew, for whoever lets it go. Raises TaesdError."""
        if name in embedded_names():
            return load_codec(name, device=device, dtype=dtype)
        found = find_installed_vae(name, self._host.vae_folders(), self._host.weights_folders(), fitting)
        return full_codec(found, device, dtype)

    def park(self) -> None:
        """Let its weights wait on the CPU until the next decode."""
        with self._lock:
            for _, codec in self._kept.values():
                codec.park()


def latent_for(codec: Codec, sample: Tensor, detection: Detection) -> Tensor:
    """The sampler's latent in the VAE's scale. Raises TaesdError where the VAE is another model's."""
    row = detection.format
    if row is not None and row.family != codec.format.family:
        raise TaesdError(
            f"{codec.name} cannot make this picture",
            f"it is a VAE of {codec.format.title}, and the loaded model is {row.title}",
            "Choose another VAE for the final image",
        )
    return to_family_latent(sample, row or codec.format)


def _stat(path: Path | None) -> tuple[Any, ...]:
    try:
        stat = path.stat()
    except (AttributeError, OSError):
        return ()
    return path, stat.st_size, stat.st_mtime_ns, borders_changed()


def _folders(*folders: Path) -> dict[str, int]:
    """When a file last came into or went out of these folders and those in them."""
    changed: dict[str, int] = {}
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            changed[str(folder)] = folder.stat().st_mtime_ns
            for entry in entries:
                if entry.is_dir():
                    changed[entry.path] = entry.stat().st_mtime_ns
    return changed
