"""CodecRegistry: each codec loaded once, failures remembered, everything let go on request."""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.precision import DtypeChoice, resolve_dtype
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.home import expanded
from taesd_ext.models.computing import computing
from taesd_ext.weights.folders import search_folders
from taesd_ext.weights.installed import candidates
from taesd_ext.weights.tiny_file import PARTS

KEPT = 2
"""Codecs that are kept, of those last used: one for the previews and one for the finished picture. A VAE has 330 MB."""

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 600.0
"""Seconds until a failed load is tried again: doubled at each failure. A change in the files ends the pause."""


class _Key(NamedTuple):
    family: str
    device: str
    dtype: torch.dtype


class _Failure(NamedTuple):
    error: TaesdError
    files: tuple
    retry_at: float
    pause: float


class CodecRegistry:
    """Codecs by family, device and dtype. Any thread may ask; one loads at a time.

    ``folders`` gives the folders of weights to look in first, anew at each load, so that changing them takes effect.
    """

    def __init__(
        self,
        folders: Callable[[], Iterable[Path | str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
        load: Callable[..., Codec] = load_codec,
    ) -> None:
        self._folders = folders
        self._clock = clock
        self._load = load
        self._codecs: dict[_Key, Codec] = {}
        self._failures: dict[_Key, _Failure] = {}
        self._stand_ins: dict[_Key, tuple] = {}
        """The files that there were when an embedded codec was loaded."""
        self._state_lock = threading.Lock()
        self._load_lock = threading.Lock()

    def get(
        self, family: str, *, device: str | torch.device = "cpu", dtype: DtypeChoice = None, wait: bool = True
    ) -> Codec:
        """The codec, loaded if it is not yet. Raises TaesdError, at once where it failed a short while ago.

        ``wait`` False raises rather than waits for another thread that is loading.
        """
        key = _key(family, device, dtype)
        if key in self._stand_ins and self._stand_ins[key] != _files(family, self._present_folders()):
            self.release(family)
        if codec := self._kept(key):
            return codec
        if not self._load_lock.acquire(blocking=wait):
            raise _loading(family)
        try:
            if codec := self._kept(key):
                return codec
            failure = self._failures.get(key)
            folders = self._present_folders()
            files = _files(family, folders)
            if failure and self._clock() < failure.retry_at and failure.files == files:
                raise _anew(failure.error)
            return self._loaded(key, folders, files, failure)
        finally:
            self._load_lock.release()

    def loaded(self, family: str, *, device: str | torch.device = "cpu", dtype: DtypeChoice = None) -> Codec:
        """The codec if it is loaded; never opens a file. For threads that must not wait."""
        key = _key(family, device, dtype)
        if codec := self._kept(key):
            return codec
        failure = self._failures.get(key)
        raise _anew(failure.error) if failure else _loading(family)

    def release(self, family: str | None = None) -> None:
        """Forget a family's codecs and failures, or all of them: the next call reads the files again."""
        with self._state_lock:
            for held in (self._codecs, self._failures, self._stand_ins):
                for key in [key for key in held if family in (None, key.family)]:
                    del held[key]

    def borrow(self, family: str, *, device: str | torch.device = "cpu", dtype: DtypeChoice = None) -> Codec:
        """A codec for one piece of work: the one that is kept, else one that goes with its last user.

        So no tab takes a running job's decoder out of the two that are kept.
        """
        key = _key(family, device, dtype)
        return self._kept(key) or self._load(family, models_dir=self._present_folders(), device=device, dtype=key.dtype)

    def _present_folders(self) -> list[Path | str]:
        """A host's folder may be there only after the first download."""
        return [folder for folder in self._folders() if expanded(folder).is_dir()]

    def _loaded(self, key: _Key, folders: list[Path | str], files: tuple, failure: _Failure | None) -> Codec:
        try:
            # A host may call from inference mode; tensors made there could not be used outside it.
            with computing(key.device):
                codec = self._load(key.family, models_dir=folders, device=key.device, dtype=key.dtype)
        except Exception as error:
            ours = error if isinstance(error, TaesdError) else TaesdError(f"Cannot load {key.family}", one_line(error))
            pause = min(2 * failure.pause, LONGEST_PAUSE) if failure and failure.files == files else FIRST_PAUSE
            with self._state_lock:
                self._failures[key] = _Failure(_anew(ours), files, self._clock() + pause, pause)
            raise ours from error
        with self._state_lock:
            self._codecs[key] = codec
            for oldest in list(self._codecs)[:-KEPT]:
                del self._codecs[oldest]
            self._failures.pop(key, None)
            if codec.source.embedded:
                self._stand_ins[key] = files
        return codec

    def _kept(self, key: _Key) -> Codec | None:
        """A loaded codec, which now is the last to be let go."""
        with self._state_lock:
            codec = self._codecs.pop(key, None)
            if codec:
                self._codecs[key] = codec
            return codec


def _anew(error: TaesdError) -> TaesdError:
    """The same without its traceback, which would keep alive whatever the callers had at hand: models and pictures."""
    return type(error)(error.what, error.why, error.cure)


def _key(family: str, device: str | torch.device, dtype: DtypeChoice) -> _Key:
    return _Key(family, str(device), resolve_dtype(dtype, device))


def _files(family: str, folders: list[Path | str]) -> tuple:
    """The family's files with their sizes and times: a new answer means that it is worth another try."""
    found = []
    for part in PARTS:
        for path in candidates(family, part, search_folders(folders)):
            try:
                stat = path.stat()
            except OSError:
                continue
            found.append((path, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def _loading(family: str) -> TaesdError:
    return TaesdError(f"The weights of {family} are not loaded yet", "they are read when a generation starts")
