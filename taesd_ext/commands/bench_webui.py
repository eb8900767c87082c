"""``bench --webui``: what live previews add to a generation in a running WebUI, measured through its own API."""

import argparse
import base64
import statistics
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from taesd_ext.commands.arguments import at_least_one
from taesd_ext.commands.measuring import in_turn, median_ratio, table, timed
from taesd_ext.commands.progress import repeating
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.settings import AUTO, BUILT_IN, OPTION

POLL_SECONDS = 0.3
"""How often a page asks, as A1111's progressbar.js does at most."""

ROUNDS = 5

OFF, BUILT, OURS = "previews off", "built-in TAESD", "this extension"

_EVERY_STEP = {"live_previews_enable": True, "show_progress_type": "TAESD", "show_progress_every_n_steps": 1}
_FAMILY = OPTION["family"].key
SETTINGS: dict[str, dict[str, Any]] = {
    OFF: {"live_previews_enable": False},
    BUILT: {**_EVERY_STEP, _FAMILY: BUILT_IN},
    OURS: {**_EVERY_STEP, _FAMILY: AUTO},
}
"""Options of each row; the first is what the others are measured against."""

_KEPT = [OPTION[name].key for name in ("timeline", "keep_latents")]
HISTORY: dict[str, dict[str, Any]] = {
    f"history {words}": {**SETTINGS[OURS], **dict.fromkeys(_KEPT, on)} for words, on in (("off", False), ("on", True))
}
"""The same for ``--history``."""

_COLUMNS = {
    "median of interleaved rounds": "{previews}",
    "seconds": "{median_s:.2f}",
    "times as long as the first": "{times_first:.3f}",
    "frames": "{frames:.0f}",
    "KB": "{kilobytes:.0f}",
    "same pictures": "{same}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("in a running WebUI (started with --api)")
    group.add_argument("--webui", metavar="URL", help="measure generations there, such as http://127.0.0.1:7860")
    group.add_argument(
        "--history", action="store_true", help="measure what keeping each step's preview and latent costs instead"
    )
    group.add_argument("--side", type=at_least_one, default=512, metavar="N", help="picture size in pixels (512)")
    group.add_argument("--steps", type=at_least_one, default=20, metavar="N", help="sampling steps (20)")
    group.add_argument("--sampler", default="Euler", metavar="NAME", help="(Euler)")


class WebUI:
    """A running WebUI's API."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise TaesdError(f"{url} is not the address of a WebUI", "", "Give it as http://127.0.0.1:7860")
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=900)

    def call(self, path: str, data: dict[str, Any] | None = None) -> Any:
        """GET, or POST of ``data``. Raises TaesdError without an answer."""
        try:
            answer = self._client.request("GET" if data is None else "POST", self._url + path, json=data)
            answer.raise_for_status()  # before httpx 0.25 this returns nothing
            return answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            cure = "Start the WebUI with --api and give its address"
            raise TaesdError(f"{self._url}{path} did not answer", one_line(error), cure) from error

    def generate(self, args: argparse.Namespace) -> tuple[float, list[int], list[str]]:
        """Seconds of one generation, the bytes of every frame that a page would have been sent, and the pictures."""
        task = f"task(bench-{uuid.uuid4().hex[:12]})"
        order = {
            "prompt": "a mountain lake in the morning", "seed": 1, "steps": args.steps, "sampler_name": args.sampler,
            "width": args.side, "height": args.side, "force_task_id": task, "save_images": False,
        }  # fmt: skip
        with self._watched(task) as frames:
            made = timed(lambda: self.call("/sdapi/v1/txt2img", order))
            return made.wall, frames, made.result["images"]

    @contextmanager
    def _watched(self, task: str) -> Iterator[list[int]]:
        """Ask for progress as an open page does; the sizes of the frames that come."""
        frames: list[int] = []
        shown = -1

        def watch() -> None:
            nonlocal shown
            try:
                answer = self.call("/internal/progress", {"id_task": task, "id_live_preview": shown})
            except TaesdError:
                return
            if picture := answer.get("live_preview"):
                shown = answer.get("id_live_preview", shown)
                frames.append(len(base64.b64decode(picture.partition(",")[2])))

        with repeating(watch, POLL_SECONDS):
            yield frames


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Generations with each setting in turn, round by round; the host's options are put back at the end."""
    host = WebUI(args.webui)
    options = host.call("/sdapi/v1/options")
    if _FAMILY not in options:
        raise TaesdError(f"{args.webui} runs without this extension", "its options lack ours", "Install it there")
    settings = HISTORY if args.history else SETTINGS
    first = next(iter(settings))
    before = {key: options[key] for change in settings.values() for key in change}
    made: dict[str, list[tuple[float, list[int], list[str]]]] = {name: [] for name in settings}
    try:
        for _, name in in_turn(list(settings), (args.rounds or ROUNDS) + 1, "generate"):
            host.call("/sdapi/v1/options", settings[name])
            made[name].append(host.generate(args))
    finally:
        host.call("/sdapi/v1/options", before)
    rows = []
    seconds = {name: [spent for spent, *_ in runs[1:]] for name, runs in made.items()}  # the first round warms up
    for name, runs in made.items():
        sizes = [frames for _, frames, _ in runs[1:]]
        same = [pictures for *_, pictures in runs] == [pictures for *_, pictures in made[first]]
        rows.append({
            "previews": name,
            "seconds": [round(value, 3) for value in seconds[name]],
            "median_s": round(statistics.median(seconds[name]), 3),
            "times_first": round(median_ratio(seconds[name], seconds[first]), 3),
            "frames": statistics.median(map(len, sizes)),
            "kilobytes": round(statistics.median(map(sum, sizes)) / 1024, 1),
            "same": "yes" if same else "no",
        })  # fmt: skip
    print(f"\n{args.side}x{args.side}, {args.steps} steps of {args.sampler}, polled every {POLL_SECONDS} s")
    print(table(rows, _COLUMNS))
    asked = {"url": args.webui, "side": args.side, "steps": args.steps, "sampler": args.sampler, "poll_s": POLL_SECONDS}
    return {**asked, "rows": rows}
