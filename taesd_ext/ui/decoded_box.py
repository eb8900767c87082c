"""A picture that was decoded from a kept latent: shown beside another, saved, and sent on."""

from typing import Any

import gradio as gr

from taesd_ext.codec.picture_file import image_to_picture, picture_bytes, picture_to_image, picture_uri
from taesd_ext.commands.compare_page import DIFFERENCE_GAIN, difference_map
from taesd_ext.errors import TaesdError
from taesd_ext.preview.frame import Frame
from taesd_ext.preview.recorded import KeptLatent
from taesd_ext.ui import compat
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.controls import AT_ONCE, small_button
from taesd_ext.ui.decoding import Decoded, decode_again
from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.markup import notice, outcome, slider, stage
from taesd_ext.ui.pictures import offered_file
from taesd_ext.ui.work import Task

NO_IMAGE = "There is no image yet. Generate one first."
NO_DECODER = "No decoder is installed for this image's model. Download one in the Models tab."
NOTHING_TO_SAVE = "Re-decode an image first."
GONE = "This image is no longer in memory. Re-decode it."


def result_html(
    now: Decoded, before: Decoded | None, preview: Frame | None = None, difference: bool = False
) -> str:
    """The picture; beside it another of the same job's, or how that differs, or else the preview of its step."""
    size, words = now.picture.size, now.title
    same = before is not None and (before.kept.job, before.kept.picture) == (now.kept.job, now.kept.picture)
    if same and before.title != words and before.picture.size == size:
        other, name = before.picture, before.title
        if difference:
            apart = difference_map(*map(picture_to_image, (other, now.picture)))
            other, name = image_to_picture(apart), f"difference to {name}, {DIFFERENCE_GAIN}x"
        return slider(picture_uri(other), picture_uri(now.picture), (name, words), size)
    if preview:
        names = (f"preview {preview.detail}", words)
        return slider(preview.image.uri, picture_uri(now.picture), names, size)
    return stage(picture_uri(now.picture), size, words)


def preview_of(actions: PanelActions, kept: KeptLatent) -> Frame | None:
    """The preview that was shown of a latent; those of several pictures are grids."""
    job = next((job for job in actions.jobs() if job.id == kept.job), None)
    moment = job and job.moments.get(kept.step or 0)
    return moment.frame if moment and moment.latents is not None and len(moment.latents) == 1 else None


class DecodedBox:
    """Where such a picture is shown. ``result`` is the line for what is said of saving it."""

    def __init__(
        self, actions: PanelActions, elem_id: str, save: gr.Button, result: gr.HTML, difference: gr.Checkbox,
        empty: str = "",
    ) -> None:  # fmt: skip
        self._actions = actions
        self._decodes: KeptResults[tuple[Decoded, Decoded | None]] = KeptResults()
        self.last = gr.State(None)
        """The key of what the page shows."""
        shown = gr.HTML(empty, elem_id=f"{elem_id}_shown")
        saved = compat.file_box("Picture", interactive=False, visible=False, elem_id=f"{elem_id}_file")
        self.outputs = [shown, self.last]
        if actions.bind_send is not None:
            picture = gr.Image(type="pil", interactive=False, visible=False, elem_id=f"{elem_id}_sent")
            parameters = gr.Textbox(visible=False)
            self.outputs += [picture, parameters]
            with gr.Row():
                for name in ("img2img", "inpaint", "extras"):
                    button = small_button(f"Send to {name}", f"{elem_id}_to_{name}")
                    actions.bind_send(button, name, picture, parameters)
        save.click(self._save, self.last, [result, saved], **AT_ONCE)
        difference.input(self._show, [self.last, difference], shown, **AT_ONCE)

    def decode(
        self, task: Task, kept: KeptLatent | None, name: str | None, last: Any, difference: Any
    ) -> tuple[str, list[Any]]:
        """Decode a latent in turn with the host's own work: (what was done, values of ``outputs``)."""
        if kept is None or not name:
            raise TaesdError(NO_IMAGE if kept is None else NO_DECODER)
        before, _ = self._decodes.get(last) or (None, None)
        now = decode_again(self._actions.codecs, kept, name, task)
        words = f"{now.name}: {1000 * now.seconds:.0f} ms"
        key = self._decodes.keep((now, before), now.size + (before.size if before else 0))
        outputs = [self._show(key, difference), key]
        if self._actions.bind_send is not None:
            outputs += [now.picture, self._actions.parameters(kept, now.codec)]
        return words, outputs

    def meanwhile(self, kept: KeptLatent, last: Any) -> list[Any]:
        """Values of ``outputs`` until this latent is decoded: another job's picture goes."""
        now, _ = self._decodes.get(last) or (None, None)
        same = now is not None and now.kept.job == kept.job
        return [gr.update() if same else "", *[gr.update()] * (len(self.outputs) - 1)]

    def _show(self, last: Any, difference: Any) -> Any:
        now, before = self._decodes.get(last) or (None, None)
        if now is None:
            return gr.update()
        return result_html(now, before, preview_of(self._actions, now.kept), bool(difference))

    def _save(self, last: Any) -> list[Any]:
        now, _ = self._decodes.get(last) or (None, None)
        if now is None:
            return [notice(GONE if last else NOTHING_TO_SAVE, "warning"), gr.update(visible=False)]
        if self._actions.save_picture is None:
            file = offered_file(f"{now.name}_{now.kept.job}_{now.kept.picture}.png", picture_bytes(now.picture))
            return [notice("The image can be downloaded below.", "good"), gr.update(value=file, visible=True)]

        def save() -> str:
            self._actions.require_change()
            return f"Saved as {self._actions.save_picture(now.picture, now.kept, now.codec)}."

        return [outcome(save), gr.update(visible=False)]
