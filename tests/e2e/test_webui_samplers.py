"""Previews at every step of every sampler that a real WebUI has."""

import pytest
from webui_server import NO_PREVIEWS, OPTIONS, WebUIServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS = 5


def test_no_sampler_is_changed_by_previews_at_every_step(server, new_server, capsys):
    """Off, at every step, and without the extension: bit for bit."""
    with new_server(ours=False) as bare:
        bare.set_options(**NO_PREVIEWS)
        samplers = [sampler["name"] for sampler in bare.call("/sdapi/v1/samplers")]
        without = {name: sampled(bare, name) for name in samplers}
    server.set_options(**OPTIONS)
    assert [sampler["name"] for sampler in server.call("/sdapi/v1/samplers")] == samplers
    shown = {}
    try:
        for name in samplers:
            server.set_options(live_previews_enable=False)
            assert sampled(server, name) == without[name], f"{name}, previews off"
            server.set_options(live_previews_enable=True)
            server.call("/faults/set", {"poll": True})
            assert sampled(server, name) == without[name], f"{name}, previews at every step"
            shown[name] = server.call("/faults/state")["frames"]
            server.call("/faults/set", {})
    finally:
        server.call("/faults/set", {})
        server.set_options(**OPTIONS)
    with capsys.disabled():
        print(f"\nsampler -> frames: {shown}")
    assert len(shown) > 10
    assert min(shown.values()) >= STEPS - 1, shown  # DDIM asks its model once less than it is given steps


def sampled(server: WebUIServer, sampler: str) -> list[bytes]:
    result = server.generate(poll=None, width=64, height=64, steps=STEPS, sampler_name=sampler)
    assert result.error is None, sampler
    return [image.tobytes() for image in result.images]
