"""Several clients of one real WebUI: none changes another's picture, and all get what they asked for."""

import base64
import contextlib
import http.client
import io
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from chromium import choose, chosen, fill
from PIL import Image
from webui_page import generate_in_page, wait_for_picture, webui_window

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

POLLS = 2000
BROKEN = ("raise", "nan", "oom", "memory")
"""What each decode does while clients poll; see the probe's faults."""

SLOW = {"slow": 0.05}

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


def pixels(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()


def status_of(page: http.client.HTTPConnection, number: int) -> int:
    body = json.dumps({"id_task": "task(polls)", "id_live_preview": number})
    page.request("POST", "/internal/progress", body, {"Content-Type": "application/json"})
    answer = page.getresponse()
    answer.read()
    return answer.status


def test_no_poll_gets_a_500_whatever_breaks(webui):
    webui.set_options(show_progress_every_n_steps=1)
    statuses: Counter[int] = Counter()
    enough = threading.Event()

    def client() -> None:
        page = http.client.HTTPConnection("127.0.0.1", webui.port)
        while not enough.wait(0.01):
            statuses[status_of(page, -1)] += 1
        page.close()

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    generations = 0
    while statuses.total() < POLLS or generations < len(BROKEN):
        kind = BROKEN[generations % len(BROKEN)]
        webui.call("/faults/set", {**SLOW, "decoder": kind, "others": generations % 2 == 1})
        result = webui.generate(poll=None, steps=20, width=64, height=64, force_task_id="task(polls)")
        assert result.error is None
        generations += 1
    enough.set()
    for thread in threads:
        thread.join()
    injected = webui.call("/faults/set", {})["injected"]
    print(f"\n{statuses.total()} polls in {generations} generations, {injected} decodes broken: {dict(statuses)}")
    assert set(statuses) == {200}
    assert injected > 0


def test_the_current_image_has_one_size_and_the_format_asked_for(webui):
    webui.set_options(
        samples_format="png", taesd_ext_detail="Auto", taesd_ext_budget=3, show_progress_every_n_steps=1
    )  # fmt: skip
    seen: set[bytes] = set()

    with ThreadPoolExecutor() as pool:
        job = pool.submit(webui.generate, poll=None, steps=40, width=192, height=128)
        while not job.done():
            image = webui.call("/sdapi/v1/progress")["current_image"]
            seen |= {base64.b64decode(image)} if image else set()
            time.sleep(0.05)
        assert job.result().error is None
    kinds = {(image.format, image.size) for image in map(Image.open, map(io.BytesIO, seen))}
    print(f"\n{len(seen)} different pictures: {kinds}")
    assert kinds == {("PNG", (192, 128))}
    assert len(seen) > 1


def test_no_control_reaches_another_jobs_picture(browser, webui):
    """Two pages and the API wait in one queue; both pages move every control while the jobs run."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        pages = [stack.enter_context(webui_window(browser, webui)) for _ in range(2)]
        request = {
            "steps": 30, "width": 128, "height": 128, "seed": 1,
            "sampler_name": chosen(pages[0], "txt2img_sampling"),
            "scheduler": chosen(pages[0], "txt2img_scheduler"),
        }  # fmt: skip
        expected = pixels(webui.generate(poll=None, **request).images[0])
        webui.call("/faults/set", {"slow": 0.3})
        stack.callback(webui.call, "/faults/set", {})
        for page in pages:
            fill(page, "txt2img_seed", 1)
            page.locator("#script_txt2img_taesd_preview_accordion .label-wrap").click()
            generate_in_page(page, steps=30)
        by_api = pool.submit(webui.generate, poll=None, **request)
        for page in pages[::-1]:
            choose(page, "script_txt2img_taesd_preview_final_vae", "TAESD")
            choose(page, "script_txt2img_taesd_preview_family", "taesd3")
            page.locator("#script_txt2img_taesd_preview_enabled input").uncheck()
        assert not by_api.done(), "the controls were moved too late"
        for page in pages:
            wait_for_picture(page)
        shown = [page.locator("#txt2img_gallery img").first.get_attribute("src") for page in pages]
        pictures = [Image.open(io.BytesIO(pages[0].request.get(address).body())) for address in shown]
        pictures += by_api.result().images
    assert [pixels(image) == expected for image in pictures] == [True] * 3


def test_each_preview_is_decoded_and_encoded_once_for_five_tabs(browser, webui):
    webui.set_options(live_preview_refresh_period=200, taesd_ext_detail="1/4")
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(webui_window(browser, webui)) for _ in range(TABS)]
        task, before = f"task({time.monotonic_ns()})", webui.call("/probe/state")["encoded"]
        request = {"poll": None, "steps": 30, "width": 192, "height": 192, "force_task_id": task}
        generation = threading.Thread(target=webui.generate, kwargs=request)
        generation.start()
        for page in pages:
            page.evaluate(WATCH, task)
        while generation.is_alive():
            pages[0].wait_for_timeout(100)  # the browser's events go on
        shown = [set(page.evaluate("[...window.taesdShown]")) for page in pages]
    frames = webui.call("/taesd/v1/timeline")[0]["frames"]
    encoded = webui.call("/probe/state")["encoded"] - before
    print(f"\n{len(frames)} previews, {encoded} encodings; shown by the tabs: {[len(seen) for seen in shown]}")
    assert all(shown), "a tab has shown nothing"
    assert len({frame["step"] for frame in frames}) == len(frames), "a step was decoded twice"
    # Every preview that was shown is one of the job's own, and each was encoded at most once.
    assert len(set().union(*shown)) <= encoded <= len(frames)
