"""What was learnt from finished images, in the Models tab."""

from types import SimpleNamespace

import gradio as gr
from events import pressed

from taesd_ext.learning.pairs import LatentKind
from taesd_ext.ui.actions import LearntPreviewers
from taesd_ext.ui.learnt_box import build_learnt_box
from taesd_ext.ui.playground import Playground


def test_what_was_learnt_is_shown_and_forgotten_by_name_only(no_weights):
    kinds = {LatentKind("Invented", 24, "ab" * 8): SimpleNamespace(psnr=27.25, pictures=8)}
    actions = Playground(no_weights).actions()
    with gr.Blocks() as page, gr.Tabs(), gr.Tab("Models") as tab:
        build_learnt_box(actions, LearntPreviewers(lambda: kinds, kinds.pop), tab, page)
    press = pressed(page, "taesd_learnt_forget")
    for forged in (None, "/etc/passwd", ["x"]):
        said, shown, _ = press(forged)
        assert said
        assert "27.2 dB" in shown
        assert "Invented" in shown
    said, shown, _ = press(next(iter(kinds)).title)
    assert not said
    assert not kinds
