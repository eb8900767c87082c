"""What Codec promises whatever its weights are: sizes, ranges, errors, and that its input stays as it was."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_weights import random_weights

from taesd_ext import TaesdError
from taesd_ext.codec.codec import Codec
from taesd_ext.latent_formats import BY_NAME, LatentFormat
from taesd_ext.weights.tiny_file import PARTS, build_frozen, network_of


def random_codec(latent_format: LatentFormat) -> Codec:
    parts = {}
    for seed, part in enumerate(PARTS):
        network = network_of(latent_format, part)
        state = random_weights(network, seed)
        parts[part] = build_frozen(network, {key: value / (1 if value.ndim > 1 else 8) for key, value in state.items()})
    return Codec(latent_format.family, latent_format, **parts)


CODECS = {name: random_codec(BY_NAME[name]) for name in ("sd1", "sd3", "flux2", "sana")}


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]


@settings(max_examples=25)
@given(height=st.integers(1, 70), width=st.integers(1, 70), name=st.sampled_from(sorted(CODECS)))
def test_any_size_goes_there_and_back(height: int, width: int, name: str) -> None:
    codec = CODECS[name]
    factor = codec.spatial_scale_factor
    image = torch.rand(1, 3, height, width)
    latent = codec.encode(image)
    assert latent.shape == (1, codec.latent_channels, -(-height // factor), -(-width // factor))
    whole = codec.decode(latent)
    assert whole.shape == (1, 3, latent.shape[2] * factor, latent.shape[3] * factor)
    assert torch.equal(codec.decode(latent, size=(height, width)), whole[..., :height, :width])


def test_padding_repeats_the_edge(codec: Codec) -> None:
    factor = codec.spatial_scale_factor
    image = torch.rand(1, 3, factor, factor + 3)
    padded = torch.cat([image, image[..., -1:].expand(-1, -1, -1, factor - 3)], dim=-1)
    assert torch.equal(codec.encode(image), codec.encode(padded))


def test_images_are_clamped_and_inputs_untouched(codec: Codec) -> None:
    latent = torch.randn(2, codec.latent_channels, 3, 2) * 20
    before = latent.clone()
    state = torch.random.get_rng_state()
    image = codec.decode(latent)
    assert image.min() >= 0
    assert image.max() <= 1
    codec.encode(image)
    assert torch.equal(latent, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_results_have_the_callers_dtype(codec: Codec, dtype: torch.dtype) -> None:
    latent = torch.randn(1, codec.latent_channels, 2, 2)
    image = codec.decode(latent.to(dtype))
    assert image.dtype == dtype
    assert codec.encode(image).dtype == dtype


def test_threads_get_what_one_gets(codec: Codec) -> None:
    latents = [torch.randn(1, codec.latent_channels, 3, 3) for _ in range(6)]
    expected = [codec.decode(latent) for latent in latents]
    found: dict[int, torch.Tensor] = {}
    threads = [
        threading.Thread(target=lambda index=index: found.update({index: codec.decode(latents[index])}))
        for index in range(len(latents))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[index], image) for index, image in enumerate(expected))


def test_packed_latents_are_read_as_they_are() -> None:
    codec = CODECS["flux2"]
    packed = torch.randn(1, 128, 2, 3)
    unpacked = torch.nn.functional.pixel_shuffle(packed, 2)
    assert torch.equal(codec.decode(packed), codec.decode(unpacked))


@pytest.mark.parametrize(
    ("act", "given", "options"),
    [
        ("decode", torch.zeros(1, 5, 4, 4), {}),
        ("decode", torch.zeros(4, 4, 4), {}),
        ("decode", torch.zeros(1, 4, 0, 4), {}),
        ("decode", torch.zeros(1, 4, 4, 4, dtype=torch.int32), {}),
        ("decode", torch.zeros(1, 4, 2, 2), {"size": (99, 16)}),
        *(("decode", torch.zeros(1, 4, 4, 4), {"tile": tile}) for tile in ("on", 0, -8, 1.5, None)),
        ("encode", torch.zeros(1, 4, 8, 8), {}),
        ("encode", torch.zeros(1, 3, 8, 0), {}),
    ],
)
def test_bad_input_gets_one_clear_line(act: str, given: torch.Tensor, options: dict[str, object]) -> None:
    with pytest.raises(TaesdError) as caught:
        getattr(CODECS["sd1"], act)(given, **options)
    assert "\n" not in str(caught.value)


def test_a_missing_part_says_so() -> None:
    codec = Codec("taesd", BY_NAME["sd1"], decoder=CODECS["sd1"].decoder)
    assert codec.has_decoder
    assert not codec.has_encoder
    with pytest.raises(TaesdError, match="taesd has no encoder"):
        codec.encode(torch.zeros(1, 3, 8, 8))


def test_a_hosts_gradients_autocast_and_inference_mode_change_nothing(codec):
    """Hosts call with gradients on (A1111) or in inference mode (Forge); the result is usable after either."""
    latent = torch.randn(1, codec.latent_channels, 4, 4, requires_grad=True)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    wanted = codec.decode(latent), codec.encode(image)
    for inference in (False, True):
        with torch.inference_mode(inference), torch.autocast("cpu", dtype=torch.bfloat16):
            found = codec.decode(latent.clone()), codec.encode(image.clone())
        for result, expected in zip(found, wanted, strict=True):
            assert torch.equal(result, expected)
            assert not result.requires_grad
            assert not result.is_inference()


def test_the_picture_goes_where_it_is_asked_for(codec):
    latent = torch.randn(1, codec.latent_channels, 4, 4)
    assert codec.decode(latent, device="meta").device.type == "meta"
    assert codec.decode(latent).device == latent.device


def test_circular_borders(codec):
    seamless, latent = codec.circular(), torch.randn(1, codec.latent_channels, 4, 4)
    image, factor = seamless.decode(latent), codec.spatial_scale_factor
    shifted = seamless.decode(latent.roll((1, 2), (2, 3)))
    assert torch.allclose(shifted, image.roll((factor, 2 * factor), (2, 3)), atol=1e-5)
    assert not torch.allclose(codec.decode(latent), image, atol=1e-3)
    assert codec.circular() is seamless
    assert seamless.circular() is seamless
    assert seamless.details == ("full",)
    assert torch.equal(seamless.in_float32().decode(latent), image)


def test_parked_weights_come_back(codec):
    latent = torch.randn(1, codec.latent_channels, 4, 4)
    before = codec.decode(latent)
    codec.park()
    assert torch.equal(codec.decode(latent), before)
