"""HostPatch: one function of the host replaced, and put back as it was found."""

import functools
import threading
from collections.abc import Callable
from typing import Any

from taesd_ext.errors import log_once

MARK = "__taesd_ext__"
"""Attribute of every function that we put into a host."""


class HostPatch:
    """Replaces ``owner.name`` by a function that calls ``replacement(original, *args, **kwargs)``.

    ``apply`` and ``undo`` may be called any number of times in any order. Who wrapped our function after us is not
    disturbed: then ``undo`` leaves it in place as a mere pass-through to the original. While one of our functions runs
    in a thread, another one of ours below it in the chain passes through too, so that nothing is done twice.
    """

    def __init__(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        self.owner = owner
        self.name = name
        self._replacement = replacement
        self._installed: Callable[..., Any] | None = None
        self._original: Callable[..., Any] | None = None
        self._own = False
        self._active: object | None = None
        self._lock = threading.RLock()
        self._thread = threading.local()

    @property
    def applied(self) -> bool:
        return self._active is not None

    def apply(self) -> bool:
        """Put the replacement in; say whether it is in force."""
        with self._lock:
            current = getattr(self.owner, self.name, None)
            if self._installed is not None and current is self._installed:
                self._active = self._installed.token
                return True
            if self._active is not None:
                return True  # wrapped by another since, which calls ours
            # The mark may be a retired patch's: another's functools.wraps copies it, and Reload UI retires us.
            marked_by = getattr(current, MARK, self)
            if current is None or (marked_by is not self and getattr(marked_by, "applied", True)):
                why = "another copy of this extension is active" if current else "this WebUI has no such function"
                log_once(f"patch {self.name}", f"{self.name} is left alone: {why}.")
                return False
            self._own = self.name in vars(self.owner)
            self._original = vars(self.owner)[self.name] if self._own else current
            self._installed = self._wrapper(current)
            self._active = self._installed.token
            setattr(self.owner, self.name, self._installed)
            return True

    def undo(self) -> None:
        """Take the replacement out, or make it a pass-through where another wrapped it."""
        with self._lock:
            self._active = None
            if self._installed is None or getattr(self.owner, self.name, None) is not self._installed:
                return
            if self._own:
                setattr(self.owner, self.name, self._original)
            else:
                delattr(self.owner, self.name)
            self._installed = None

    def _wrapper(self, original: Callable[..., Any]) -> Callable[..., Any]:
        token = object()

        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            if self._active is not token or getattr(self._thread, "inside", False):
                return original(*args, **kwargs)
            self._thread.inside = True
            try:
                return self._replacement(original, *args, **kwargs)
            finally:
                self._thread.inside = False

        setattr(patched, MARK, self)
        patched.token = token
        return patched
