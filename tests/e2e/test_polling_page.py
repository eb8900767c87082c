"""Several browser tabs watch one job of a real WebUI: each preview is made once."""

import contextlib
import threading
import time

import pytest
from webui_page import webui_window

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TABS = 5

WATCH = """task => {
    window.taesdShown = new Set();
    const gallery = document.getElementById('txt2img_gallery');
    requestProgress(task, document.getElementById('txt2img_gallery_container'), gallery, () => {}, () => {});
    new MutationObserver(() => {
        for (const image of document.querySelectorAll('.livePreview img')) window.taesdShown.add(image.src);
    }).observe(gallery, { childList: true, subtree: true });
}"""
"""The host's own way of showing a job's progress, for a job that another tab may have started."""


def test_each_preview_is_decoded_and_encoded_once_for_five_tabs(browser, webui):
    webui.set_options(live_preview_refresh_period=200, taesd_ext_detail="1/4")
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(webui_window(browser, webui)) for _ in range(TABS)]
        task, before = f"task({time.monotonic_ns()})", webui.call("/probe/state")["encoded"]
        generation = threading.Thread(
            target=webui.generate,
            kwargs={"poll": None, "steps": 30, "width": 192, "height": 192, "force_task_id": task},
        )
        generation.start()
        for page in pages:
            page.evaluate(WATCH, task)
        while generation.is_alive():
            pages[0].wait_for_timeout(100)  # the browser's events go on
        shown = [set(page.evaluate("[...window.taesdShown]")) for page in pages]
    frames = webui.call("/taesd/v1/timeline")[0]["frames"]
    encoded = webui.call("/probe/state")["encoded"] - before
    webui.set_options(live_preview_refresh_period=1000, taesd_ext_detail="full")
    print(f"\n{len(frames)} previews, {encoded} encodings; shown by the tabs: {[len(seen) for seen in shown]}")
    assert all(shown), "a tab has shown nothing"
    assert len({frame["step"] for frame in frames}) == len(frames), "a step was decoded twice"
    # Every preview that was shown is one of the job's own, and each was encoded at most once.
    assert len(set().union(*shown)) <= encoded <= len(frames)
