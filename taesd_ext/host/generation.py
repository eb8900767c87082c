"""What belongs to one generation: its processing object, its choices, its thread."""

import threading
import weakref
from dataclasses import dataclass, replace
from typing import Any

from taesd_ext.settings import PreviewSettings


@dataclass(frozen=True)
class Choices:
    """The per-generation controls; None = as in the settings."""

    enabled: bool = True
    family: str | None = None
    interval: int | None = None
    detail: str | None = None
    final_vae: str | None = None
    final_vae_first: str | None = None

    def apply(self, settings: PreviewSettings) -> PreviewSettings:
        chosen = {name: getattr(self, name) for name in ("family", "interval", "detail")}
        return replace(
            settings, enabled=self.enabled, **{name: value for name, value in chosen.items() if value is not None}
        )


@dataclass(frozen=True)
class FinalChoices:
    """What makes and reads finished pictures. Fixed when a job begins: nothing that is set meanwhile changes it."""

    vae: str
    """The host's own, TAESD, or a full VAE's name."""
    first_vae: str
    """The same for what hires fix enlarges."""
    family: str
    on_failure: str


@dataclass
class Generation:
    """One run of the host's ``process_images``."""

    processing: Any
    """Weak reference to the host's processing object."""
    choices: Choices
    job: object
    """What tells one job of the host from the next."""
    page: str
    """The page that started it; empty for the API."""
    thread: int
    final: FinalChoices | None = None
    open: bool = True
    """Whether what is decoded or encoded now is its own: not while scripts work on its finished pictures, perhaps by a
    generation of theirs of which nobody tells us."""


class Generations:
    """The generations that run now, innermost last: some extensions start one inside another.

    A generation that ended by an exception never says so; it is dropped when the next job begins.
    """

    def __init__(self) -> None:
        self._stack: list[Generation] = []
        self._lock = threading.Lock()

    def begin(self, processing: Any, choices: Choices, job: object, page: str = "") -> None:
        with self._lock:
            # By identity: processing objects compare by their fields, and tensors among these cannot be compared.
            self._stack = [
                running
                for running in self._stack
                if running.job == job and (other := running.processing()) is not None and other is not processing
            ]
            self._stack.append(Generation(weakref.ref(processing), choices, job, page, threading.get_ident()))

    def update(self, processing: Any, **changes: Any) -> None:
        """Something of this generation is known now, or is another: its ``final`` choices, whether it is ``open``."""
        with self._lock:
            for running in self._stack:
                if running.processing() is processing:
                    vars(running).update(changes)

    def change(self, choices: Choices, page: str) -> None:
        """Change the previews of the running generations that this page started; their pictures stay what they are."""
        with self._lock:
            for running in self._stack:
                if page and running.page == page:
                    mine = running.choices
                    running.choices = replace(choices, final_vae=mine.final_vae, final_vae_first=mine.final_vae_first)

    def end(self, processing: Any) -> None:
        """Forget a generation, and those that were started inside it."""
        with self._lock:
            for index, running in enumerate(self._stack):
                if running.processing() is processing:
                    del self._stack[index:]
                    return

    def clear(self) -> None:
        with self._lock:
            self._stack.clear()

    @property
    def current(self) -> Generation | None:
        stack = self._stack
        return stack[-1] if stack else None

    @property
    def processing(self) -> Any:
        """The host's object of the running generation, or None."""
        current = self.current
        return current and current.processing()

    @property
    def in_first_pass(self) -> bool:
        """Whether hires fix is still to enlarge what is made now."""
        processing = self.processing
        return bool(getattr(processing, "enable_hr", False)) and not getattr(processing, "is_hr_pass", False)

    @property
    def nested(self) -> bool:
        """Whether the running generation was started inside another."""
        return len(self._stack) > 1

    @property
    def choices(self) -> Choices:
        current = self.current
        return current.choices if current else Choices()

    def in_sampling_thread(self) -> bool:
        """Whether the caller is the thread in which a generation runs."""
        current = self.current
        return current is not None and current.thread == threading.get_ident()
