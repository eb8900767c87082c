"""The line above the panel where a WebUI's live previews are not by TAESD, with the one button that changes it.

javascript/taesd_ext.js shows the same line under a generation, and presses these buttons.
"""

from html import escape
from typing import Any

import gradio as gr

from taesd_ext.ui.actions import PreviewOffer
from taesd_ext.ui.controls import AT_ONCE, line, small_button
from taesd_ext.ui.markup import notice, outcome

TAKEN = "TAESD draws the live previews from now on."


def offer_html(offer: PreviewOffer) -> str:
    """The line, marked for the page where it may be shown under a generation; "" where there is nothing to offer."""
    method = offer.other_method()
    if not method:
        return ""
    gain = "better" if method == "Approx cheap" else "better and cost less"
    words = f"Live previews are drawn by {method}. TAESD's are {gain}."
    mark = "" if offer.is_dismissed() else f' data-offer="{escape(words)}" data-done="{TAKEN}"'
    return f"<div{mark}>{notice(words)}</div>"


def build_preview_offer(offer: PreviewOffer, page: gr.Blocks) -> None:
    """Add the line to the page that is being built; it takes no room where there is nothing to offer."""
    with gr.Row(elem_id="taesd_offer"):
        said = line(value=offer_html(offer))
        use = small_button("Use TAESD", "taesd_offer_use", variant="primary", scale=0, min_width=130)
    dismiss = small_button("Don't show again", "taesd_offer_dismiss", elem_classes="taesd-ext-hidden")

    def accept() -> dict[Any, Any]:
        answer = outcome(lambda: offer.accept() or TAKEN)
        return {said: answer, **{control: gr.update(value=value()) for control, value in offer.hosts_controls}}

    def never() -> str:
        offer.dismiss()
        return offer_html(offer)

    page.load(lambda: offer_html(offer), None, said, **AT_ONCE)
    use.click(accept, None, [said, *(control for control, _ in offer.hosts_controls)], **AT_ONCE)
    dismiss.click(never, None, said, **AT_ONCE)
