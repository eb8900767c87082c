"""The extension goes into the host, and comes out again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from taesd_ext.errors import log, log_once, one_line
from taesd_ext.host import accordion, infotext, runtime
from taesd_ext.host.axes import add_axes
from taesd_ext.host.hooks import Hooks
from taesd_ext.host.runtime import Runtime
from taesd_ext.host.webui import webui
from taesd_ext.ui.markup import cost_words
from taesd_ext.ui.work import leave_all


class Extension:
    """What is in force between register() and unregister(). The host's callbacks and script hooks end here."""

    def __init__(self) -> None:
        self.host = webui()
        self.runtime = Runtime(self.host)
        self.hooks = Hooks(self.runtime)
        self._evaluation: tuple[int, int] | None = None
        self._closed = False

    def listen(self) -> None:
        """Register for what the host calls; it forgets all of it on Reload UI."""
        for event, callback in (
            ("before_ui", self.before_ui),
            ("ui_settings", self.add_options),
            ("model_loaded", self.model_loaded),
            ("cfg_denoiser", self.evaluation_begins),
            ("cfg_after_cfg", self.evaluation_done),
            ("ui_tabs", self.build_tab),
            ("app_started", self.add_routes),
            ("script_unloaded", unregister),
        ):
            if not self.host.on(event, callback):
                log_once(f"callback {event}", f"This WebUI has no callback on_{event}.")

    def before_ui(self) -> None:
        self.hooks.apply()
        add_axes(self.host)

    def add_options(self) -> None:
        if "options" in self.host.supports:
            self.runtime.options.add()

    def build_tab(self) -> list[Any]:
        # Imported here: a panel that this host's gradio cannot show does not take the previews with it.
        from taesd_ext.host import tab

        return tab.build(self.runtime)

    def add_routes(self, _page: Any, app: Any) -> None:
        from taesd_ext.host import api, tab

        api.add_routes(app, self.runtime, tab.HostActions(self.runtime).actions())

    def model_loaded(self, model: Any) -> None:
        """A checkpoint is there, perhaps in the middle of a generation: have its decoder ready."""
        self.runtime.preload_beside()

    def evaluation_begins(self, params: Any) -> None:
        """The sampler asks its model once more; second-order samplers do so twice a step."""
        denoiser = getattr(params, "denoiser", None)
        step, total = getattr(denoiser, "step", None), getattr(denoiser, "total_steps", None)
        self._evaluation = (step, total) if isinstance(step, int) and isinstance(total, int) and total > 0 else None

    def evaluation_done(self, params: Any) -> None:
        self.runtime.final.sampling()
        steps = int(params.total_sampling_steps or 0)
        if self._evaluation is None:
            self.runtime.step_done(int(params.sampling_step) + 1, steps)
            return
        evaluation, total = self._evaluation
        if evaluation == 0:
            self.runtime.step_done(0, steps)
        self.runtime.step_done(math.ceil((evaluation + 1) * steps / total), steps)

    def close(self) -> None:
        self._closed = True
        leave_all()
        self.hooks.undo()
        self.runtime.close()

    # Script hooks

    def build_controls(self, script: Any) -> list[Any]:
        final, options = self.runtime.final, self.runtime.options
        controls = accordion.build(
            script.elem_id, self.runtime.generations.change, final.vae.choices(),
            lambda: cost_words(self.runtime.session.stats),
        )  # fmt: skip
        chosen = controls[accordion.ARGUMENTS.index("final_vae")]
        script.infotext_fields = [
            (chosen, lambda parameters: accordion.pasted_final_vae(parameters, options.value("final_vae")))
        ]
        return controls

    # What the host tells of a generation; after a Reload UI a job goes on with the scripts of before.

    def before_process(self, processing: Any, arguments: Sequence[Any]) -> None:
        """The generation's choices are known; the options are not yet overridden."""
        if self._closed:
            return
        self.hooks.apply()
        infotext.begin(processing)
        choices, page = accordion.choices_of(arguments), accordion.page_of(arguments)
        self.runtime.generations.begin(processing, choices, self.host.job(), page)

    def process(self, processing: Any) -> None:
        """Options and model are those of the generation; sampling is next."""
        if self._closed:
            return
        self.runtime.generations.fix(processing, self.runtime.final.choices_now())
        self.runtime.preload_beside(runtime.PATIENCE)
        self.runtime.begin_previews(int(getattr(processing, "steps", 0) or 0))

    def process_batch(self, processing: Any) -> None:
        """A batch is about to be sampled."""
        self.runtime.generations.open(processing, True)
        self.runtime.history.batch(processing)

    def postprocess_batch(self, processing: Any) -> None:
        """A batch is decoded; scripts may work on its pictures now, and decode others."""
        self.runtime.generations.open(processing, False)

    def postprocess(self, processing: Any, processed: Any = None) -> None:
        self.runtime.history.saved(processing, processed)
        self.runtime.generations.end(processing)
        if self.runtime.generations.current is None:
            self.runtime.session.finish()


_extension: Extension | None = None


def register() -> Extension | None:
    """Put the extension into the host, once; None, and a line in the log, where that cannot be done."""
    global _extension
    if _extension is None:
        try:
            extension = Extension()
            extension.listen()
        except Exception as error:
            log.error("[TAESD] The extension is off: %s", one_line(error))
            return None
        _extension = extension
    return _extension


def unregister() -> None:
    """Take everything out of the host again."""
    global _extension
    if _extension is not None:
        _extension.close()
        _extension = None
