"""The Models tab's part for the WebUI's own SD VAE setting: put fine-tuned VAEs where it finds them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import HostVAEs
from taesd_ext.ui.background import Background, Report, Sight
from taesd_ext.ui.markup import notice, progress_bar
from taesd_ext.weights.download import download_family
from taesd_ext.weights.own_vae import add_vae_file

OFFERED = ("sd-vae-ft-mse", "sd-vae-ft-ema")

_SMALL = {"min_width": 90, "size": "sm"}


def build_host_vae_box(vaes: HostVAEs) -> None:
    """Add the controls to the tab that is being built."""
    download = Background()
    with gr.Accordion(texts.HOST_VAES.label, open=False, elem_id="taesd_host_vaes"):
        with gr.Row():
            with gr.Column(min_width=280):
                wanted = gr.Dropdown(
                    list(OFFERED), value=OFFERED[0], elem_id="taesd_host_vae", **texts.HOST_VAE.control()
                )
                with gr.Row():
                    get = gr.Button(texts.HOST_VAE_GET.label, variant="primary", **_SMALL, elem_id="taesd_host_vae_get")
                    cancel = gr.Button(texts.CANCEL.label, **_SMALL, elem_id="taesd_host_vae_cancel")
                quick = gr.Button(texts.HOST_VAE_QUICK.label, **_SMALL, elem_id="taesd_host_vae_quick")
            with gr.Column(min_width=280):
                own = compat.file_box(texts.HOST_VAE_DROP.label, elem_id="taesd_host_vae_file", height=150)
        result = gr.HTML(elem_id="taesd_host_vae_result", elem_classes="taesd-ext-line")

    def get_it(name: str | None) -> Iterator[str]:
        for sight in download.run(lambda report, stop: _download(vaes, name or OFFERED[0], report, stop)):
            yield _sight_html(sight)

    get.click(get_it, wanted, result, show_progress="hidden")
    cancel.click(download.cancel, None, None)
    own.upload(lambda value: take(vaes, value), own, result, show_progress="hidden")
    if vaes.hosts_control is None:
        quick.click(lambda: show_at_top(vaes), None, result, show_progress="hidden")
    else:
        shown = [result, vaes.hosts_control]
        quick.click(lambda: show_at_top_and_to_host(vaes), None, shown, show_progress="hidden")


def take(vaes: HostVAEs, value: Any) -> str:
    """Put a file that was dropped into the WebUI's folder; a line about it."""
    path = compat.file_path(value)
    if path is None:
        return ""
    try:
        target = add_vae_file(path, vaes.folder)
        vaes.refresh()
    except TaesdError as error:
        return notice(str(error), "bad")
    return notice(f"{target.name} is in {vaes.folder}. {texts.HOST_VAE_WHERE}", "good")


def show_at_top(vaes: HostVAEs) -> str:
    """Put the setting into the quick settings; a line about it."""
    try:
        added = vaes.add_quick_setting()
    except TaesdError as error:
        return notice(str(error), "bad")
    return notice(texts.HOST_VAE_SHOWN if added else texts.HOST_VAE_SHOWN_ALREADY, "good")


def show_at_top_and_to_host(vaes: HostVAEs) -> tuple[str, Any]:
    """The same, and what brings the host's own control of that list up to date."""
    return show_at_top(vaes), gr.update(value=vaes.quick_settings())


def _download(vaes: HostVAEs, name: str, report: Report, cancel: threading.Event) -> str:
    def progress(have: int, total: int | None) -> None:
        words = f"{name}: {have / 1e6:.1f}" + (f" of {total / 1e6:.1f} MB" if total else " MB")
        report(have / total if total else 0.5, words)

    report(0, f"{name}: asking for it")
    paths = download_family(name, vaes.folder, progress=progress, cancel=cancel)
    vaes.refresh()
    return f"{', '.join(path.name for path in paths)} is in {vaes.folder}. {texts.HOST_VAE_WHERE}"


def _sight_html(sight: Sight) -> str:
    if sight.error:
        return notice(sight.error, "bad")
    return notice(sight.words, "good") if sight.done else progress_bar(sight.share, sight.words)
