"""Entry point of the WebUI extension: a script that is always visible, and the registration."""

from __future__ import annotations

from modules import scripts

from taesd_ext.host.accordion import TITLE
from taesd_ext.host.register import register

extension = register()


class TaesdScript(scripts.Script):
    """Per-generation controls of the live previews."""

    def title(self):
        return TITLE

    def show(self, is_img2img):
        return scripts.AlwaysVisible if extension else False

    def ui(self, is_img2img):
        return extension.build_controls(self)

    def before_process(self, p, *args):
        extension.before_process(p, args)

    def process(self, p, *args):
        extension.process(p)

    def process_batch(self, p, *args, **kwargs):
        extension.process_batch(p)

    def post_sample(self, p, ps, *args):
        extension.post_sample(p, ps.samples)

    def postprocess_batch(self, p, *args, **kwargs):
        extension.postprocess_batch(p)

    def postprocess(self, p, processed, *args):
        extension.postprocess(p, processed)
