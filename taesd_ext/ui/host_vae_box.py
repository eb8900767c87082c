"""The Models tab's part for the WebUI's own SD VAE setting: put fine-tuned VAEs where it finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import HostVAEs, PanelActions
from taesd_ext.ui.choices import picked
from taesd_ext.ui.downloads import downloaded
from taesd_ext.ui.markup import SMALL, notice
from taesd_ext.ui.work import Task, long_action
from taesd_ext.weights.download import download_family
from taesd_ext.weights.installed_vaes import add_vae_file

OFFERED = ("sd-vae-ft-mse", "sd-vae-ft-ema")


def build_host_vae_box(actions: PanelActions, vaes: HostVAEs) -> None:
    """Add the controls to the tab that is being built."""
    allowed = actions.allowed_to_change()
    can = {**SMALL, "interactive": allowed}
    with gr.Accordion(texts.HOST_VAES.label, open=False, elem_id="taesd_host_vaes"):
        with gr.Row():
            with gr.Column(min_width=280):
                wanted = gr.Dropdown(
                    list(OFFERED), value=OFFERED[0], elem_id="taesd_host_vae", **texts.HOST_VAE.control()
                )
                with gr.Row():
                    get = gr.Button(texts.HOST_VAE_GET.label, variant="primary", **can, elem_id="taesd_host_vae_get")
                    cancel = gr.Button(texts.CANCEL.label, **SMALL, elem_id="taesd_host_vae_cancel")
                quick = gr.Button(texts.HOST_VAE_QUICK.label, **can, elem_id="taesd_host_vae_quick")
            with gr.Column(min_width=280):
                own = compat.file_box(
                    texts.HOST_VAE_DROP.label, elem_id="taesd_host_vae_file", height=150, interactive=allowed
                )
        result = gr.HTML(elem_id="taesd_host_vae_result", elem_classes="taesd-ext-line")

    def get_it(task: Task, name: Any) -> tuple[str, list[Any]]:
        actions.require_change()
        return _download(vaes, picked(name, OFFERED, "VAE"), task), []

    def shown_at_top() -> Any:
        line = _said(actions, lambda: show_at_top(vaes))
        return line if vaes.hosts_control is None else (line, gr.update(value=vaes.quick_settings()))

    long_action(get.click, cancel, wanted, result, [], get_it, "taesd_host_vae_get")
    own.upload(lambda value: _said(actions, lambda: take(vaes, value)), own, result, show_progress="hidden")
    controls = [result] if vaes.hosts_control is None else [result, vaes.hosts_control]
    quick.click(shown_at_top, None, controls, show_progress="hidden")


def _said(actions: PanelActions, act: Callable[[], str]) -> str:
    """A line about what was done, or why it was not."""
    try:
        actions.require_change()
        line = act()
    except TaesdError as error:
        return notice(str(error), "bad")
    return notice(line, "good")


def take(vaes: HostVAEs, value: Any) -> str:
    """Put a file that was dropped into the WebUI's folder; a line about it. Raises TaesdError."""
    path = compat.file_path(value)
    if path is None:
        return ""
    target = add_vae_file(path, vaes.folder)
    vaes.refresh()
    return f"{target.name} is in {vaes.folder}. {texts.HOST_VAE_WHERE}"


def show_at_top(vaes: HostVAEs) -> str:
    """Put the setting into the quick settings; a line about it. Raises TaesdError."""
    return texts.HOST_VAE_SHOWN if vaes.add_quick_setting() else texts.HOST_VAE_SHOWN_ALREADY


def _download(vaes: HostVAEs, name: str, task: Task) -> str:
    def progress(have: int, total: int | None) -> None:
        task.report(have / total if total else 0.5, downloaded(name, have, total))

    task.report(0, name)
    paths = download_family(name, vaes.folder, progress=progress, cancel=task.stop)
    vaes.refresh()
    return f"{', '.join(path.name for path in paths)} is in {vaes.folder}. {texts.HOST_VAE_WHERE}"
