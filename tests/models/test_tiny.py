"""The tiny networks: sizes, shapes, and that building one leaves the random state alone."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from taesd_ext.latent_formats import LATENT_FORMATS, LatentFormat, native_format
from taesd_ext.models import tiny, tiny_video
from taesd_ext.weights.tiny_file import PARTS, fits, network_of, read_tiny


def sizes(latent_channels: int, widths: tuple[int, ...], norm: bool = False, image_channels: int = 3, patch: int = 1):
    return {"latent_channels": latent_channels, "widths": widths, "midblock_norm": norm,
            "image_channels": image_channels, "patch": patch}  # fmt: skip


SMALL = [
    (tiny.Encoder, sizes(5, (8, 16, 24), norm=True)),
    (tiny.Decoder, sizes(5, (24, 16, 8, 8))),
    (tiny.F32Encoder, {"latent_channels": 7, "widths": (8, 16, 24, 8)}),
    (tiny.Encoder, sizes(9, (8, 16), patch=2)),
    (tiny.Decoder, sizes(9, (16, 8, 8), image_channels=4, patch=2)),
    (tiny_video.VideoEncoder, {"latent_channels": 6, "joins": (2, 3, 1), "patch": 2, "width": 8}),
    *(
        (tiny_video.VideoDecoder, {"latent_channels": 6, "widths": widths, "splits": splits, "patch": 2, "wide": wide})
        for widths, splits, wide in (((24, 16, 8, 8), (1, 3, 2), False), ((128, 64, 8), (2, 2), True))
    ),
    (tiny_video.SuperVideoDecoder, {"latent_channels": 6, "widths": (16, 8, 8, 4), "splits": (2, 1, 2), "patch": 1}),
]


@pytest.mark.parametrize(("network", "arguments"), SMALL, ids=[row[0].__name__ for row in SMALL])
def test_a_state_dict_tells_its_network_and_its_widths(network: type, arguments: dict, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    with torch.device("meta"):
        state = network(**arguments).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before), "building draws no random numbers"
    save_file({key: torch.zeros(value.shape) for key, value in state.items()}, tmp_path / "any.safetensors")
    (found,) = read_tiny(tmp_path / "any.safetensors").values()
    assert (found.network_class, found.arguments) == (network, arguments)


@pytest.mark.parametrize("row", [row for row in LATENT_FORMATS if row.family], ids=lambda row: row.name)
@pytest.mark.parametrize("part", PARTS)
def test_each_row_has_a_network_that_fits_it(row: LatentFormat, part: str) -> None:
    network = network_of(native_format(row.family), part)
    assert network.part == part
    assert fits(network, native_format(row.family))
