"""Reduced detail: decode only as far as the wanted size and read the picture there with a small head.

Heads belong to one decoder. Those of the official weights are shipped, recognised by the family and used only after a
check on the loaded decoder; those of other weights are learnt (learning/heads.py) when nobody waits, and kept in the
user's cache under the hash of the weights.
"""

import hashlib
import json
import threading
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.noise import power_law_latent, seeded
from taesd_ext.codec.previewer import DATA
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.fast_layers import layout_on
from taesd_ext.models.layers import Conv2d
from taesd_ext.models.student import Head
from taesd_ext.weights.folders import cache_folder
from taesd_ext.weights.tensor_file import open_tensor_file, write_tensor_file
from taesd_ext.weights.tiny_file import build_frozen

SCALES: dict[str, int] = {"1/8": 8, "1/4": 4, "1/2": 2, "full": 1}
"""Detail -> full-size pixels along a side of one pixel of the picture."""

CHECK_TOLERANCE = 1.0
"""dB that a shipped head may be worse on the loaded decoder than on the one that it was made for."""

_CHECK_PIXELS = 128
_CHECK_SEED = 20_240_607

OWN, SHIPPED = "own", "shipped"
"""Where heads come from: learnt here, or brought along."""

Heads = dict[int, Head]
"""Scale of the features -> the head that reads them."""


class DecoderHeads:
    """The heads of one loaded decoder, found on first use. Any thread may call."""

    def __init__(self, family: str, decoder: FastNetwork, plain_decoder: nn.Module) -> None:
        """``decoder`` computes; the plain float32 network is what it was made from and what heads are known by."""
        self._family = family
        self._decoder = decoder
        self._plain_decoder = plain_decoder
        self._heads: Heads | None = None
        self._origin = ""
        self._lock = threading.Lock()

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales that have a head, coarse first."""
        return tuple(sorted(self._found(), reverse=True))

    @property
    def origin(self) -> str:
        """OWN or SHIPPED; "" while there is no head."""
        self._found()
        return self._origin

    def layers(self, scale: int) -> list[nn.Module] | None:
        """From a family latent to the image at 1/scale of the full size, not clamped; None where no head is."""
        head = self._found().get(scale)
        if head is None:
            return None
        stop = next(index for index, stage in enumerate(self._decoder.stages) if stage.scale == scale) + 1
        return [*self._decoder.layers(stop), head]

    def keep(self, heads: Heads) -> None:
        """Use heads that were learnt for this decoder, from now on and, by the user's cache, in later runs."""
        try:
            save_heads(heads, self._cache_file(), FastNetwork(self._plain_decoder).place(self._device), self._family)
        except OSError as error:
            log_once("heads not kept", f"Heads for reduced detail could not be kept: {one_line(error)}.")
        self.use(heads, OWN)

    def use(self, heads: Heads, origin: str) -> None:
        """Use these from now on, unchecked."""
        with self._lock:
            self._heads, self._origin = self._placed(heads), origin

    @property
    def _device(self) -> torch.device:
        return next(self._decoder.parameters()).device

    def _found(self) -> Heads:
        with self._lock:
            if self._heads is None:
                try:
                    with computing(self._device):
                        self._heads = self._find()
                except Exception as error:  # memory, a folder that may not be read, a faulty device: then no heads
                    log_once(f"no heads {self._family}", f"{self._family} has no reduced detail: {one_line(error)}.")
                    self._heads = {}
            return self._heads

    def _find(self) -> Heads:
        # The user's own heads were fitted to these very weights; shipped ones only claim the family.
        for origin, path in ((OWN, self._cache_file()), (SHIPPED, shipped_heads(self._family))):
            if not path.is_file():
                continue
            try:
                heads, marks = load_heads(path)
            except (TaesdError, KeyError, ValueError, RuntimeError) as error:
                log_once(f"bad heads {path}", f"Ignoring {path}: {one_line(error)}.")
                continue
            stages = {stage.scale for stage in self._decoder.stages}
            heads = {scale: head for scale, head in heads.items() if scale in stages}
            placed = self._placed(heads)
            found = check_heads(placed, self._decoder)
            if heads and all(found[scale] >= marks[scale] - CHECK_TOLERANCE for scale in heads):
                self._origin = origin
                return placed
        return {}

    def _placed(self, heads: Heads) -> Heads:
        like = next(self._decoder.parameters())
        for head in heads.values():
            head.to(like.device, like.dtype, memory_format=layout_on(like.device))
        return heads

    def _cache_file(self) -> Path:
        return cache_folder() / "heads" / f"{weights_hash(self._plain_decoder)}.safetensors"


def latent_channels(decoder: FastNetwork) -> int:
    return next(layer.in_channels for layer in decoder.stages[0] if isinstance(layer, Conv2d))


def shipped_heads(family: str) -> Path:
    return DATA / f"heads_{family}.safetensors"


def weights_hash(decoder: nn.Module) -> str:
    """Names a network by its weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, weight in sorted(decoder.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def check_heads(heads: Heads, decoder: FastNetwork) -> dict[int, float]:
    """PSNR of each head in dB on two seeded latents, against the area-averaged full decode. About 0.1 s."""
    like = next(decoder.parameters())
    generator, channels = seeded(_CHECK_SEED), latent_channels(decoder)
    side = max(2, _CHECK_PIXELS // decoder.stages[0].scale)
    latent = torch.stack([power_law_latent(channels, side, generator) for _ in range(2)]).to(like.device, like.dtype)
    features, x = {}, latent
    for index, stage in enumerate(decoder.stages):
        x = decoder.run(x, index, index + 1)
        features[stage.scale] = x
    image = x.float().clamp(0, 1)
    marks = {}
    for scale, head in heads.items():
        wanted = functional.avg_pool2d(image, scale)
        marks[scale] = float(psnr(head(features[scale])[None], wanted[None]))  # both pictures as one
    return marks


def save_heads(heads: Heads, path: Path, decoder: FastNetwork, family: str) -> None:
    """Write heads as float16, with how they do in :func:`check_heads` on their own float32 decoder. Atomic."""
    tensors = {
        f"{scale}.{name}": value.to("cpu", torch.float16).contiguous()
        for scale, head in heads.items()
        for name, value in head.state_dict().items()
    }
    marks = {str(scale): round(mark, 2) for scale, mark in check_heads(heads, decoder).items()}
    write_tensor_file(path, tensors, {"kind": "heads", "family": family, "check": json.dumps(marks)})


def load_heads(path: Path) -> tuple[Heads, dict[int, float]]:
    """Float32 heads on the CPU, and their marks in the check. Raises TaesdError, KeyError, ValueError, RuntimeError."""
    file = open_tensor_file(path)
    marks = {int(scale): float(mark) for scale, mark in json.loads(file.metadata["check"]).items()}
    heads: Heads = {}
    for scale in marks:
        names = [name for name in file.shapes if name.startswith(f"{scale}.")]
        state = {name.partition(".")[2]: value.float() for name, value in file.load(names).items()}
        with torch.device("meta"):
            head = Head(depth=sum(name.startswith("hidden.") for name in state) // 2)
        heads[scale] = build_frozen(head, state)
    return heads, marks
