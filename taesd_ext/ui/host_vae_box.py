"""The Models tab's part for the WebUI's own SD VAE setting: put fine-tuned VAEs where it finds them."""

from typing import Any

import gradio as gr

from taesd_ext.ui import compat
from taesd_ext.ui.actions import HostVAEs, PanelActions
from taesd_ext.ui.controls import AT_ONCE, line, picked, small_button
from taesd_ext.ui.downloads import download
from taesd_ext.ui.markup import outcome
from taesd_ext.ui.work import Task, long_action
from taesd_ext.weights.installed_vaes import add_vae_file

OFFERED = ("sd-vae-ft-mse", "sd-vae-ft-ema")
WHERE = "Refresh the list at Settings > VAE > SD VAE to see it."
ADDED = "SD VAE appears in the quick settings after the next Reload UI."
ADDED_BEFORE = "SD VAE is already in the quick settings."


def build_host_vae_box(actions: PanelActions, vaes: HostVAEs) -> None:
    """Add the controls to the tab that is being built."""
    allowed = actions.allowed_to_change()
    with gr.Accordion("Fine-tuned VAEs for the WebUI's own SD VAE setting", open=False, elem_id="taesd_host_vaes"):
        with gr.Row():
            with gr.Column(min_width=280):
                wanted = gr.Dropdown(
                    list(OFFERED), value=OFFERED[0], elem_id="taesd_host_vae", label="Fine-tuned VAE",
                    info="for Stable Diffusion 1 and 2; saved to models/VAE",
                )  # fmt: skip
                with gr.Row():
                    get = small_button(
                        "Download to models/VAE", "taesd_host_vae_get", variant="primary", interactive=allowed
                    )
                    cancel = small_button("Cancel", "taesd_host_vae_cancel")
                quick = small_button("Show SD VAE at the top of the page", "taesd_host_vae_quick", interactive=allowed)
            with gr.Column(min_width=280):
                own = compat.file_box(
                    "Drop a full VAE: it is checked and copied to models/VAE", elem_id="taesd_host_vae_file",
                    height=150, interactive=allowed,
                )  # fmt: skip
        result = line("taesd_host_vae_result")

    def fetch(task: Task, name: Any) -> tuple[str, list[Any]]:
        actions.require_change()
        return f"{download([picked(name, OFFERED, 'VAE')], vaes.folder, task, vaes.refresh)} {WHERE}", []

    def take(value: Any) -> str:
        """Put a file that was dropped into the WebUI's folder."""

        def put() -> str:
            actions.require_change()
            target = add_vae_file(compat.file_path(value), vaes.folder)
            vaes.refresh()
            return f"{target.name} is in {vaes.folder}. {WHERE}"

        return "" if value is None else outcome(put)

    def show_at_top() -> dict[Any, Any]:
        def add() -> str:
            actions.require_change()
            return ADDED if vaes.add_quick_setting() else ADDED_BEFORE

        said = outcome(add)
        return {result: said, **{control: gr.update(value=vaes.quick_settings()) for control in hosts_controls}}

    hosts_controls = [] if vaes.hosts_control is None else [vaes.hosts_control]
    long_action(get.click, cancel, wanted, result, [], fetch, "taesd_host_vae_get")
    own.upload(take, own, result, **AT_ONCE)
    quick.click(show_at_top, None, [result, *hosts_controls], **AT_ONCE)
