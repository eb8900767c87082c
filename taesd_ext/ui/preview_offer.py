"""The line above the panel where a WebUI's live previews are not by TAESD, with the one button that changes it.

javascript/taesd_ext.js shows the same line under a generation, and presses these buttons.
"""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.ui import texts
from taesd_ext.ui.actions import PreviewOffer
from taesd_ext.ui.markup import notice


def offer_html(offer: PreviewOffer) -> str:
    """The line, marked for the page where it may be shown under a generation; "" where there is nothing to offer."""
    method = offer.other_method()
    if not method:
        return ""
    line = f"Live previews are by {method}. Use TAESD: better and cheaper."
    mark = "" if offer.is_dismissed() else f' data-offer="{escape(line)}" data-done="{escape(texts.OFFER_TAKEN)}"'
    return f"<div{mark}>{notice(line)}</div>"


def build_preview_offer(offer: PreviewOffer, page: gr.Blocks) -> None:
    """Add the line to the page that is being built; it takes no room where there is nothing to offer."""
    with gr.Row(elem_id="taesd_offer"):
        line = gr.HTML(offer_html(offer), elem_classes="taesd-ext-line")
        use = gr.Button(
            texts.OFFER_USE.label, variant="primary", size="sm", scale=0, min_width=130, elem_id="taesd_offer_use"
        )
    dismiss = gr.Button(
        texts.OFFER_DISMISS.label, size="sm", elem_id="taesd_offer_dismiss", elem_classes="taesd-ext-hidden"
    )

    def accept() -> list[Any]:
        try:
            offer.accept()
            shown = notice(texts.OFFER_TAKEN, "good")
        except TaesdError as error:
            shown = notice(str(error), "bad")
        return [shown, *(gr.update(value=value()) for _, value in offer.hosts_controls)]

    def never() -> str:
        offer.dismiss()
        return offer_html(offer)

    page.load(lambda: offer_html(offer), None, line, show_progress="hidden")
    use.click(accept, None, [line, *(control for control, _ in offer.hosts_controls)], show_progress="hidden")
    dismiss.click(never, None, line, show_progress="hidden")
