"""Long work that a page starts: it runs in a thread of its own, shows how far it is, and ends when the page is gone.

No gradio event lasts as long as the work. gradio 3.41 never ends a generator whose page was closed, and then waits for
it for ever when the server is to close. So one event starts the work, and javascript/taesd_ext.js presses a hidden
button until the answer says that it is done.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from torch.overrides import TorchFunctionMode

from taesd_ext.errors import one_line
from taesd_ext.ui.controls import AT_ONCE
from taesd_ext.ui.markup import notice, progress_bar

LEFT = "/internal/taesd/left"
"""Where javascript/taesd_ext.js says that a page is being closed; the task's key comes as ``?task=``."""

PATIENCE = 30.0
"""Seconds without a question after which a page is taken for gone: one that crashed, or lost its network. A busy server
may answer late, and a phone lets a page sleep for a while."""

REPLACED_SECONDS = 5.0
"""For which a task that another took the place of answers with nothing: a late answer would hide the other's bar, and
nobody would ask for it any longer."""

_KEPT = 32
"""Finished tasks whose last answer may be asked for again."""

CANCELLED = "Cancelled."
STILL_RUNNING = "This is already running, perhaps on another page. Wait for it, or cancel it."

Work = Callable[..., "tuple[str, Sequence[Any]]"]
"""(task, values of the inputs) -> (what was done, in words; values of the outputs). May raise TaesdError."""


class Stopped(BaseException):
    """The user cancelled, or left. No Exception, for those who go on after any of these."""


class Task:
    """One piece of work, as the thread that does it and the page that waits for it see it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.key = secrets.token_urlsafe(12)  # who knows it may cancel
        self.stop = threading.Event()
        self.share, self.words, self.error, self.done = 0.0, "", "", False
        self.shown: Sequence[Any] | None = None
        """Values of the outputs, None while there are none."""
        self._clock = clock
        self._asked = clock()
        self._replaced: float | None = None

    def report(self, share: float, words: str, shown: Sequence[Any] | None = None) -> None:
        """Say how far the work is, in [0,1]; with ``shown`` also what is there so far."""
        self.share, self.words = min(1.0, max(0.0, share)), words
        self.shown = shown if shown is not None else self.shown

    def replace(self) -> None:
        """Stop it for another of the same kind."""
        self._replaced = self._clock()
        self.stop.set()

    @property
    def is_wanted(self) -> bool:
        return not (self.done or self.stop.is_set())

    @property
    def was_just_replaced(self) -> bool:
        return self._replaced is not None and self._clock() - self._replaced < REPLACED_SECONDS

    def check(self) -> None:
        """Raises Stopped once the work is to end."""
        if self.stop.is_set():
            raise Stopped

    def asked(self) -> None:
        """The page still wants to know."""
        self._asked = self._clock()

    def run(self, work: Work, values: Sequence[Any]) -> None:
        threading.Thread(target=self._watch, name="taesd_ext page", daemon=True).start()
        try:
            words, shown = work(self, *values)
            self.check()
            self.words, self.shown = words, shown
        except Stopped:
            self.words, self.error = "", CANCELLED
        except Exception as error:
            self.error = one_line(error)
        self.done = True

    def _watch(self) -> None:
        while not self.done and not self.stop.wait(0.2):
            if self._clock() - self._asked > PATIENCE:
                self.stop.set()


class interruptible(TorchFunctionMode):
    """Within it, in this thread, the next function of torch raises Stopped once the task is to end."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._check = task.check

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._check()
        return function(*args, **(kwargs or {}))


_tasks: dict[str, Task] = {}
_lock = threading.Lock()


def leave(task: str) -> None:
    """The page that waits for this task is gone."""
    with _lock:
        found = _tasks.get(task)
    if found:
        found.stop.set()


def leave_all() -> None:
    """Nobody waits any longer: the server closes."""
    with _lock:
        for task in _tasks.values():
            task.stop.set()


class LongAction:
    """What a button starts."""

    def __init__(self, work: Work, outputs: int, poll_id: str) -> None:
        self._work, self._poll_id = work, poll_id
        self._same = [gr.update()] * outputs
        self._task: Task | None = None

    def start(self, *values: Any) -> list[Any]:
        """Once at a time, whoever comes second is told to wait: [progress, key, *outputs]."""
        with _lock:
            if self._task and self._task.is_wanted:
                return [notice(STILL_RUNNING, "warning"), "", *self._same]
            task = self._task = self._listed()
        return self._begin(task, values)

    def start_anew(self, key: str | None, *values: Any) -> list[Any]:
        """The same at any time, in place of what the page started before."""
        with _lock:
            before = _tasks.get(key or "")
            if before and before.is_wanted:
                before.replace()
            task = self._listed()
        return self._begin(task, values)

    def _listed(self) -> Task:
        task = Task()
        _tasks[task.key] = task
        for key in [key for key, old in _tasks.items() if old.done][:-_KEPT]:
            del _tasks[key]
        return task

    def _begin(self, task: Task, values: Sequence[Any]) -> list[Any]:
        threading.Thread(target=task.run, args=(self._work, values), name="taesd_ext work", daemon=True).start()
        return [self._progress(task), task.key, *self._same]

    def start_once(self, *values: Any) -> list[Any]:
        """The same for a page that opens: where it was started before, by any page, what came of that."""
        if self._task is None:
            return self.start(*values)
        return ["", "", *(self._task.shown or self._same)]

    def look(self, key: str | None) -> list[Any]:
        """[progress, *outputs]"""
        with _lock:
            task = _tasks.get(key or "")
        if task is None:
            return [notice(CANCELLED) if key else "", *self._same]
        task.asked()
        if task.was_just_replaced:
            return [gr.update(), *self._same]
        done = task.done  # before the rest: what is set last is read first
        shown = self._same if task.shown is None else task.shown
        if not done:
            return [self._progress(task), *shown]
        kind = "info" if task.stop.is_set() else "bad" if task.error else "good"
        return [notice(task.error or task.words, kind), *shown]

    def _progress(self, task: Task) -> str:
        waits = {"task": task.key, "poll": self._poll_id, "beat": secrets.token_urlsafe(6)}
        return progress_bar(task.share, task.words, waits)


def long_action(
    event: Any, cancel: Any, inputs: Any, progress: Any, outputs: list[Any], work: Work, elem_id: str,
    alone: bool = True, opening: Any = None,
) -> gr.State:  # fmt: skip
    """Have ``event`` (a button's ``click``, say) start the work, and show it in ``progress`` and ``outputs``.

    ``progress`` is this action's alone: another's answer would hide its bar. ``cancel`` is the button that ends it, or
    None. What is not ``alone`` takes the place of what the page started before. ``opening`` is a page's event that
    starts it too, the first time. Gives the key of the page's last task.
    """
    action = LongAction(work, len(outputs), f"{elem_id}_poll")
    key = gr.State("")
    poll = gr.Button("", elem_id=f"{elem_id}_poll", elem_classes="taesd-ext-hidden")
    start, given = (action.start, inputs) if alone else (action.start_anew, [key, *inputs])
    event(start, given, [progress, key, *outputs], **AT_ONCE)
    if opening is not None:
        opening(action.start_once, inputs, [progress, key, *outputs], **AT_ONCE)
    poll.click(action.look, key, [progress, *outputs], **AT_ONCE)
    if cancel is not None:
        cancel.click(leave, key, None, **AT_ONCE)
    return key
