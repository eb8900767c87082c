"""What went wrong, why, and what to do: one line for a person, said once."""

import logging
import threading

log = logging.getLogger("taesd_ext")

_MOST_SAID = 500
"""Keys that are remembered: some hold what came from outside."""

_said: dict[str, None] = {}
_said_lock = threading.Lock()


class TaesdError(Exception):
    """An error that a person can act on.

    ``what`` happened, ``why`` it happened, and the ``cure``: what to do about it. ``str()`` gives all three in one
    line, without line breaks or control characters, whatever the parts hold.
    """

    def __init__(self, what: str, why: str = "", cure: str = "") -> None:
        self.what, self.why, self.cure = (_printable(part) for part in (what, why, cure))
        super().__init__(self.what, self.why, self.cure)

    def __str__(self) -> str:
        line = self.what.rstrip(".")
        if self.why:
            line += f": {self.why.rstrip('.')}"
        line += "."
        if self.cure:
            line += f" {self.cure.rstrip('.')}."
        return line


class UnusableWeights(TaesdError):
    """A sound file that cannot be used here: a newer kind, another one, or beyond our limits."""


def _printable(text: str) -> str:
    """One line. Names in a hostile file may hold anything, also what steers a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def one_line(error: BaseException) -> str:
    """The error as one line: its type's name is added where it is not one of ours."""
    if isinstance(error, TaesdError):
        return str(error)
    text = _printable(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def log_once(key: str, message: str) -> bool:
    """Log ``message`` the first time that ``key`` is seen; say whether it was logged."""
    with _said_lock:
        if key in _said:
            return False
        _said[key] = None
        if len(_said) > _MOST_SAID:
            del _said[next(iter(_said))]
    log.warning("[TAESD] %s", message)
    return True
