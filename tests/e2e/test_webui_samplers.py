"""Previews at every step of every sampler that a real WebUI has."""

import pytest
from webui_server import NO_PREVIEWS, WebUIServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS = 5


def test_no_sampler_is_changed_by_previews_at_every_step(webui, new_server, capsys):
    """Off, at every step, and without the extension: bit for bit."""
    with new_server(ours=False) as bare:
        bare.set_options(**NO_PREVIEWS)
        samplers = [sampler["name"] for sampler in bare.call("/sdapi/v1/samplers")]
        without = {name: sampled(bare, name) for name in samplers}
    assert [sampler["name"] for sampler in webui.call("/sdapi/v1/samplers")] == samplers
    shown = {}
    try:
        for name in samplers:
            webui.set_options(live_previews_enable=False)
            webui.call("/faults/set", {})
            assert sampled(webui, name) == without[name], f"{name}, previews off"
            webui.set_options(live_previews_enable=True)
            webui.call("/faults/set", {"poll": True})
            assert sampled(webui, name) == without[name], f"{name}, previews at every step"
            shown[name] = webui.call("/faults/state")["frames"]
    finally:
        webui.call("/faults/set", {})
    with capsys.disabled():
        print(f"\nsampler -> frames: {shown}")
    assert len(shown) > 10
    assert min(shown.values()) >= STEPS - 1, shown  # DDIM asks its model once less than it is given steps


def sampled(server: WebUIServer, sampler: str) -> list[bytes]:
    result = server.generate(poll=None, width=64, height=64, steps=STEPS, sampler_name=sampler)
    assert result.error is None, sampler
    return [image.tobytes() for image in result.images]
