"""The panel: the same tabs in the WebUI's TAESD tab and in the playground."""

import gradio as gr

from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.benchmark_tab import build_benchmark_tab
from taesd_ext.ui.compare_tab import build_compare_tab
from taesd_ext.ui.latents_tab import build_latents_tab
from taesd_ext.ui.models_tab import build_models_tab
from taesd_ext.ui.preview_offer import build_preview_offer
from taesd_ext.ui.redecode_box import build_redecode_box
from taesd_ext.ui.settings_tab import build_settings_tab
from taesd_ext.ui.timeline_tab import build_timeline_tab


def build_page(actions: PanelActions) -> gr.Blocks:
    """The panel as a page of its own, for a host that shows it in one of its tabs."""
    with gr.Blocks(analytics_enabled=False) as page:
        if actions.preview_offer:
            build_preview_offer(actions.preview_offer, page)
        with gr.Tabs(elem_id="taesd_tabs"):
            build_panel(actions, page)
    return page


def build_panel(actions: PanelActions, page: gr.Blocks) -> None:
    """Add the panel's tabs to the ``gr.Tabs`` of the page that is being built."""
    with gr.Tab("Models", elem_id="taesd_tab_models") as tab:
        build_models_tab(actions, tab, page)
    with gr.Tab("Settings", elem_id="taesd_tab_settings") as tab:
        build_settings_tab(actions, tab)
    with gr.Tab("Compare", elem_id="taesd_tab_compare") as tab:
        build_compare_tab(actions.codecs, tab)
    with gr.Tab("Latents", elem_id="taesd_tab_latents"):
        build_latents_tab(actions.codecs)
    with gr.Tab("Timeline", elem_id="taesd_tab_timeline") as tab:
        build_timeline_tab(actions, tab)
    with gr.Tab("Re-decode", elem_id="taesd_tab_redecode") as tab:
        words = {"label": "Finished image", "info": "the latents of the last images are kept in memory"}
        build_redecode_box(actions, tab, "taesd_again", words, lambda _source: actions.kept(), button="Re-decode")
    with gr.Tab("Benchmark", elem_id="taesd_tab_benchmark"):
        build_benchmark_tab(actions.codecs)
