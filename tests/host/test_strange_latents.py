"""Latents of models that came out after this release: a name that nobody here knows, and shapes of every kind."""

from types import SimpleNamespace

import pytest
import torch

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
    host.load_model(latent_channels=shape[1])
    factors = {"latent_rgb_factors": torch.rand(shape[1], 3).tolist()} if has_factors else {}
    host.model.model_config = SimpleNamespace(latent_format=type(name, (), factors)())
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
