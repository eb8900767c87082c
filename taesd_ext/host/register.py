"""The extension goes into the host, and comes out again."""

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.errors import log, log_once, one_line
from taesd_ext.host import accordion, infotext
from taesd_ext.host.axes import add_axes
from taesd_ext.host.final_decode import FinalDecode
from taesd_ext.host.final_vae import FinalVAE
from taesd_ext.host.generation import Generations
from taesd_ext.host.history import History
from taesd_ext.host.hooks import Hooks
from taesd_ext.host.idle import IdleLearning
from taesd_ext.host.kept_pictures import KeptPictures
from taesd_ext.host.learnt_previews import LearntPreviews
from taesd_ext.host.options import HostOptions
from taesd_ext.host.preview_step import PreviewStep
from taesd_ext.host.previews import Previews
from taesd_ext.host.webui import webui
from taesd_ext.settings import AS_FINAL, FINAL_VAES
from taesd_ext.ui.markup import cost_words
from taesd_ext.ui.work import leave_all
from taesd_ext.weights.folders import search_folders
from taesd_ext.weights.installed import candidates

PATIENCE = 0.05
"""Seconds that a generation waits for what it will need: as good as nothing, and enough for what is loaded already."""


class Extension:
    """What is in force between register() and unregister(): its parts, and the host's callbacks and script hooks."""

    def __init__(self) -> None:
        self.host = host = webui()
        vae = FinalVAE(host)
        self.options = HostOptions(host, vae.choices)
        self.registry = CodecRegistry(host.weights_folders, load=partial(load_codec, embedded=False))
        self.generations = Generations()
        self.history = History(host, self.generations, self.options.value)
        self.final = FinalDecode(host, self.registry, self.generations, self.options.value, vae)
        self.learning = IdleLearning(host.is_busy)
        self.learnt = LearntPreviews(
            host, lambda: self.options.value("learn") and host.allows_changes(), self._has_decoder,
            self.learning.want_work,
        )  # fmt: skip
        self.previews = Previews(host, self.registry, self.generations, self.options, self.history, self.learnt.find)
        self.pictures = KeptPictures(
            host, self.generations, self.final, self.history.jobs, lambda: self.previews.session.frame
        )
        self.preview_step = PreviewStep(host, self.history)
        self.hooks = Hooks(host, self.generations, self.previews, self.final, self.history, self.learnt.finished)
        self._evaluation: tuple[int, int] | None = None
        self._closed = False
        self._has_pages = False

    def listen(self) -> None:
        """Register for what the host calls; it forgets all of it on Reload UI."""
        self.host.listen(
            before_ui=self.before_ui,
            model_loaded=lambda _model: self.preload_beside(),  # perhaps in the middle of a generation
            script_unloaded=unregister,
        )

    def close(self) -> None:
        self._closed = True
        leave_all()
        self.hooks.undo()
        self.learning.close()
        self.previews.session.cancel()
        self.generations.clear()
        self.registry.release()
        self.final.vae.keep(())

    # Pages and settings

    def before_ui(self) -> None:
        if not self._has_pages:
            # Not while our script is imported: the host looks through the stack for each callback's file, and for every
            # frame of an import through all modules, which takes some 50 ms.
            self.host.listen(
                ui_settings=self.add_options,
                cfg_denoiser=self.evaluation_begins,
                cfg_after_cfg=self.evaluation_done,
                ui_tabs=self.build_tab,
                app_started=self.add_routes,
            )
            self._has_pages = True
        self.hooks.apply()
        add_axes(self.host, self.final.vae.choices)

    def add_options(self) -> None:
        if "options" in self.host.supports:
            self.options.add()

    def build_tab(self) -> list[Any]:
        # Imported here: a panel that this host's gradio cannot show does not take the previews with it.
        from taesd_ext.ui.panel import build_page

        return [(build_page(self.actions()), "TAESD", "taesd_ext")]  # page, title, id

    def add_routes(self, _page: Any, app: Any) -> None:
        from taesd_ext.host import api
        from taesd_ext.host.second_screen import SecondScreen

        SecondScreen(self.host, self.previews, self.pictures.save_preview).add_to(app)
        api.add_routes(app, self.host.command_line, self.previews.status, self.actions())

    def actions(self) -> Any:
        from taesd_ext.host.tab import HostActions

        parts = HostActions(self.host, self.options, self.registry, self.previews, self.final, self.pictures)
        return parts.actions(self.history.jobs, self.learnt)

    def build_controls(self, script: Any) -> list[Any]:
        """The accordion of a script of ours."""
        controls = accordion.build(
            script.elem_id, self.generations.change, self.final.vae.choices(),
            lambda: cost_words(self.previews.session.stats), self.host.allows_changes(),
            hires_fix=not getattr(script, "is_img2img", False),
        )  # fmt: skip
        pasted = {"final_vae": accordion.pasted_final_vae, "final_vae_first": accordion.pasted_first_vae}
        places = {name: accordion.ARGUMENTS.index(name) for name in pasted}
        script.infotext_fields = [(controls[places[name]], partial(self._pasted, pasted[name])) for name in pasted]
        return controls

    def _pasted(self, choice: Callable[[Any, str], str], parameters: Any) -> str:
        passes = {self.options.value(name) for name in FINAL_VAES if name != "final_vae"}
        return choice(parameters, self.options.value("final_vae") if passes == {AS_FINAL} else "")

    # Loading

    def preload(self) -> None:
        """Load what the settings will need, before sampling begins. What fails is reported when it is needed."""
        self.final.preload()
        self.learnt.begin()
        if codec := self.previews.preload():
            self.learning.want(codec)

    def preload_beside(self, patience: float = 0.0) -> None:
        """The same in a thread of its own, for which the host's waits so many seconds at most.

        Polls that come before it is ready get a rougher preview; the finished picture waits for what it needs.
        """
        thread = threading.Thread(target=self._preload_quietly, name="taesd-ext-preload", daemon=True)
        thread.start()
        thread.join(patience)

    def _preload_quietly(self) -> None:
        try:
            self.preload()
        except Exception as error:  # the model may be swapped once more meanwhile
            log_once(f"preload {one_line(error)}", one_line(error))

    def _has_decoder(self, family: str) -> bool:
        return bool(candidates(family, "decoder", search_folders(self.host.weights_folders())))

    # What the host tells of a generation; after a Reload UI a job goes on with the scripts of before.

    def before_process(self, processing: Any, arguments: Sequence[Any]) -> None:
        """The generation's choices are known; the options are not yet overridden."""
        if self._closed:
            return
        self.hooks.apply()
        infotext.begin(processing)
        choices, page = accordion.choices_of(arguments), accordion.page_of(arguments)
        self.generations.begin(processing, choices, self.host.job(), page)

    def process(self, processing: Any) -> None:
        """Options and model are those of the generation; sampling is next."""
        if self._closed:
            return
        self.generations.update(processing, final=self.final.choices_now())
        self.preload_beside(PATIENCE)
        self.previews.begin(int(getattr(processing, "steps", 0) or 0))

    def process_batch(self, processing: Any) -> None:
        """A batch is about to be sampled."""
        self.generations.update(processing, open=True)
        self.history.batch(processing)
        self.preview_step.batch(processing)

    def evaluation_begins(self, params: Any) -> None:
        """The sampler asks its model once more; second-order samplers do so twice a step."""
        denoiser = getattr(params, "denoiser", None)
        step, total = getattr(denoiser, "step", None), getattr(denoiser, "total_steps", None)
        self._evaluation = (step, total) if isinstance(step, int) and isinstance(total, int) and total > 0 else None

    def evaluation_done(self, params: Any) -> None:
        self.final.sampling()
        steps = int(params.total_sampling_steps or 0)
        if self._evaluation is None:
            self.previews.step_done(int(params.sampling_step) + 1, steps)
            return
        evaluation, total = self._evaluation
        if evaluation == 0:
            self.previews.step_done(0, steps)
        self.previews.step_done(math.ceil((evaluation + 1) * steps / total), steps)

    def postprocess_batch(self, processing: Any) -> None:
        """A batch is decoded; scripts may work on its pictures now, and decode others."""
        self.generations.update(processing, open=False)

    def postprocess(self, processing: Any, processed: Any = None) -> None:
        job, every = self.history.saved(processing, processed), self.options.value("save_every")
        if every:
            self.pictures.save_steps(job, every)
        self.generations.end(processing)
        if self.generations.current is None:
            self.previews.session.finish()


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
