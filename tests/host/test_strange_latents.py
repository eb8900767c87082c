"""Latents of models that came out after this release: a name that nobody here knows, and shapes of every kind."""

import numpy as np
import pytest
import torch

from taesd_ext.errors import TaesdError
from taesd_ext.preview.drawing import LINEAR
from taesd_ext.preview.full_size_image import FullSizeImage

HOSTS_OWN = None


class Nested:
    """A film with its sound, as hosts nest the two."""

    is_nested = True

    def __init__(self, *parts: torch.Tensor) -> None:
        self.unbind = lambda: parts


@pytest.mark.parametrize(
    ("name", "shape", "has_factors", "detail"),
    [
        ("Unheard", (1, 24, 16, 20), False, HOSTS_OWN),
        ("Unheard", (1, 24, 16, 20), True, LINEAR),
        ("Unheard", (1, 24, 1, 16, 20), True, LINEAR),
        ("Unheard", (2, 24, 5, 16, 20), True, LINEAR),
        ("Unheard", (1, 128, 16, 20), True, LINEAR),
        ("Unheard", (1, 3, 64, 80), False, LINEAR),
        ("Unheard", (1, 64, 64), True, HOSTS_OWN),
        ("LatentFormat", (1, 64, 64), False, HOSTS_OWN),
        ("LatentFormat", (1, 24, 1, 16, 20), False, LINEAR),
        ("Wan21", (1, 24, 16, 20), False, HOSTS_OWN),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_can_be_drawn_is_and_the_rest_is_left_to_the_host(
    host, extension, name, shape, has_factors, detail, nested
):
    factors = {"latent_rgb_factors": torch.rand(shape[1], 3).tolist()} if has_factors else {}
    host.load_format(name, shape[1], **factors)
    latent, image = torch.randn(shape), torch.zeros(1, 3, 64, 64)
    held = Nested(latent, torch.randn(1, 8, 100)) if nested and detail else latent

    def on_step(p, step):
        host.state.current_latent = held
        host.state.set_current_image()
        if extension.previews.session._film.is_alive():
            extension.previews.session._film.join()
        host.state.set_current_image()

    host.opts.show_progress_every_n_steps = 1
    host.generate(on_step=on_step)
    frame = extension.previews.session.frame
    assert (frame and frame.detail) == detail
    assert isinstance(host.state.current_image, FullSizeImage) == bool(detail)
    assert host.state.current_image is not None
    assert not host.state.exceptions
    if detail:
        assert extension.previews.as_tensor(held).shape[-1] == shape[-1]
    extension.learnt.finished(latent, image)


def test_a_model_that_is_being_torn_down_is_unknown(host, extension):
    class TornDown:
        def __getattribute__(self, name):
            raise TypeError("argument of type 'NoneType' is not iterable")

    host.sd_models.model_data.sd_model = TornDown()
    assert extension.host.detection((1, 16, 2, 2)).format is None
    with pytest.raises(TaesdError, match="no tiny decoder"):
        extension.final.decode(torch.zeros(1, 16, 2, 2))


@pytest.mark.parametrize(
    ("shape", "factors", "size"),
    [
        ((1, 48, 2, 3), torch.rand(48, 3), (24, 16)),
        ((1, 48, 1, 2, 3), torch.rand(48, 3), (24, 16)),
        ((1, 3, 32, 24), torch.eye(3), (24, 32)),
    ],
    ids=["latent", "still of a video model", "pixels"],
)
def test_a_format_that_only_the_host_knows_is_drawn_by_its_own_factors(host, extension, shape, factors, size):
    bias = torch.tensor([0.1, 0.2, 0.3])
    known = {"latent_rgb_factors": factors.tolist(), "latent_rgb_factors_bias": bias.tolist()}
    host.load_format("Invented", shape[1], **known)
    extension.previews.begin(20)
    host.state.current_latent = 0.1 * torch.randn(shape)
    extension.previews.step_done(1, 20)
    host.state.set_current_image()
    assert host.state.current_image.size == size
    drawn = np.asarray(extension.previews.session.frame.image.picture) / 255
    expected = torch.einsum("chw,cr->hwr", host.state.current_latent.reshape(shape[1], *shape[-2:]), factors) + bias
    assert drawn == pytest.approx(((expected + 1) / 2).clamp(0, 1).numpy(), abs=1 / 255)
