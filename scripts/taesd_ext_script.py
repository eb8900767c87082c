"""Entry point of the WebUI extension: a script that is always visible, and the registration."""

import sys
from pathlib import Path

from modules import scripts

PACKAGE = Path(__file__).resolve().parents[1] / "taesd_ext"
SOURCE = {str(path): path.stat().st_mtime_ns for path in PACKAGE.rglob("*.py")}

if getattr(sys.modules.get("taesd_ext"), "loaded_from", SOURCE) != SOURCE:  # updated since: new code, without a restart
    sys.modules["taesd_ext.host.register"].unregister()
    for name in [name for name in sys.modules if name.partition(".")[0] == "taesd_ext"]:
        del sys.modules[name]

import taesd_ext  # noqa: E402
from taesd_ext.host.accordion import TITLE  # noqa: E402
from taesd_ext.host.register import register  # noqa: E402

taesd_ext.loaded_from = SOURCE
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

    def postprocess_batch(self, p, *args, **kwargs):
        extension.postprocess_batch(p)

    def postprocess(self, p, processed, *args):
        extension.postprocess(p, processed)
