"""``bench --webui``: what live previews add to a generation in a running WebUI, measured through its own API."""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import Any

from taesd_ext.commands.number_arguments import at_least_one
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.settings import AUTO, BUILT_IN, OPTION

POLL_SECONDS = 0.3
"""How often a page asks, as A1111's progressbar.js does at most."""

OFF, BUILT, OURS = "previews off", "built-in TAESD", "this extension"

_EVERY_STEP = {"live_previews_enable": True, "show_progress_type": "TAESD", "show_progress_every_n_steps": 1}
_FAMILY = OPTION["family"].key
SETTINGS: dict[str, dict[str, Any]] = {
    OFF: {"live_previews_enable": False},
    BUILT: {**_EVERY_STEP, _FAMILY: BUILT_IN},
    OURS: {**_EVERY_STEP, _FAMILY: AUTO},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("in a running WebUI (started with --api)")
    group.add_argument("--webui", metavar="URL", help="measure generations there, such as http://127.0.0.1:7860")
    group.add_argument("--rounds", type=at_least_one, default=5, metavar="N", help="interleaved rounds (5)")
    group.add_argument("--side", type=at_least_one, default=512, metavar="N", help="of the pictures, in pixels (512)")
    group.add_argument("--steps", type=at_least_one, default=20, metavar="N", help="sampling steps (20)")
    group.add_argument("--sampler", default="Euler", metavar="NAME", help="(Euler)")


@dataclass
class Watcher:
    """Asks for progress as an open page does, and keeps what came."""

    host: WebUI
    task: str
    frames: int = 0
    bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watcher:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        shown = -1
        while not self._stop.wait(POLL_SECONDS):
            try:
                answer = self.host.call("/internal/progress", {"id_task": self.task, "id_live_preview": shown})
            except TaesdError:
                continue
            picture = answer.get("live_preview")
            if picture:
                shown = answer.get("id_live_preview", shown)
                self.frames += 1
                self.bytes += len(base64.b64decode(picture.partition(",")[2]))


@dataclass(frozen=True)
class WebUI:
    url: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise TaesdError(f"{self.url} is no address of a WebUI", "", "Give it as http://127.0.0.1:7860")

    def call(self, path: str, data: dict[str, Any] | None = None, timeout: float = 900) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(
            self.url.rstrip("/") + path, data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise TaesdError(
                f"{self.url}{path} did not answer", one_line(error), "Start the WebUI with --api and give its address"
            ) from error

    def generate(self, args: argparse.Namespace) -> tuple[float, Watcher]:
        """Seconds of one generation, and who watched it."""
        task = f"task(bench-{uuid.uuid4().hex[:12]})"
        order = {
            "prompt": "a mountain lake in the morning", "seed": 1, "steps": args.steps, "sampler_name": args.sampler,
            "width": args.side, "height": args.side, "force_task_id": task, "save_images": False,
        }  # fmt: skip
        with Watcher(self, task) as watcher:
            begun = time.perf_counter()
            self.call("/sdapi/v1/txt2img", order)
            seconds = time.perf_counter() - begun
        return seconds, watcher


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Generations with each setting in turn, round by round; the host's options are put back at the end."""
    host = WebUI(args.webui)
    options = host.call("/sdapi/v1/options")
    if _FAMILY not in options:
        raise TaesdError(f"{args.webui} runs without this extension", "its options lack ours", "Install it there")
    before = {key: options[key] for change in SETTINGS.values() for key in change}
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    frames: dict[str, list[int]] = {name: [] for name in SETTINGS}
    sizes: dict[str, list[int]] = {name: [] for name in SETTINGS}
    try:
        for number in range(args.rounds + 1):
            for name, change in SETTINGS.items():
                host.call("/sdapi/v1/options", change)
                spent, watcher = host.generate(args)
                if number:  # the first round warms up
                    seconds[name].append(spent)
                    frames[name].append(watcher.frames)
                    sizes[name].append(watcher.bytes)
                print(f"  round {number or 'warm-up'}: {name} {spent:.2f} s, {watcher.frames} frames", flush=True)
    finally:
        host.call("/sdapi/v1/options", before)
    return {
        "url": args.webui, "side": args.side, "steps": args.steps, "sampler": args.sampler, "poll_s": POLL_SECONDS,
        "rows": [
            {
                "previews": name,
                "seconds": [round(value, 3) for value in seconds[name]],
                "median_s": round(statistics.median(seconds[name]), 3),
                "times_off": round(_times_off(seconds, name), 3),
                "frames": statistics.median(frames[name]),
                "kilobytes": round(statistics.median(sizes[name]) / 1024, 1),
            }
            for name in SETTINGS
        ],
    }  # fmt: skip


def print_table(report: dict[str, Any]) -> None:
    print(f"\n{report['side']}x{report['side']}, {report['steps']} steps of {report['sampler']}, polled every "
          f"{report['poll_s']} s; median of {len(report['rows'][0]['seconds'])} interleaved rounds")  # fmt: skip
    for row in report["rows"]:
        print(
            f"  {row['previews']:<16} {row['median_s']:8.2f} s  {row['times_off']:5.3f} times as long as without"
            f"  {row['frames']:.0f} frames  {row['kilobytes']:.0f} KB"
        )


def _times_off(seconds: dict[str, list[float]], name: str) -> float:
    """The median over the rounds of the time over the same round's time without previews."""
    return statistics.median(own / off for own, off in zip(seconds[name], seconds[OFF], strict=True))
