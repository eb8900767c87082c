"""Previews for models that nobody knows yet, learnt from the user's own finished pictures.

Every finished picture comes with the latent that it was decoded from. From the first such pair on, a 3x3 read-out of
the latent, solved in closed form, shows the next job's previews at two pixels a latent position.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from weakref import WeakSet

from torch import Tensor

from taesd_ext.errors import log_once, one_line
from taesd_ext.learning.pairs import LatentKind, Pair, make_pair
from taesd_ext.learning.readout import (
    STEPS,
    Learnt,
    find_learnt,
    kept_kinds,
    learn_readout,
    mean_psnr,
    train_previewer_on,
    write_learnt,
)

MOST_PAIRS = 24
MOST_BYTES = 32 * 2**20
"""Of all formats' pairs together; the oldest ones go first."""

BETTER_BY = 0.2
"""dB that a new previewer must gain to take the place of another way."""

ENOUGH_TO_TRAIN = 4
"""Pairs; below that a trained network is no better than the read-out."""


class FinishedPictures:
    """Pairs of the formats that nobody knows, and the previewers learnt from them. Any thread may call.

    Pairs live in memory only; previewers are kept in the user's cache.
    """

    def __init__(self, folders: Callable[[], Iterable[Path]] = tuple) -> None:
        """``folders`` may hold previewers that others have made."""
        self._folders = folders
        self._pairs: dict[LatentKind, deque[Pair]] = {}
        self._seen: dict[LatentKind, WeakSet[Pair]] = {}
        """The pairs from which what stands was made."""
        self._learnt: dict[LatentKind, Learnt | None] = {}
        self._lock = threading.Lock()

    def add(self, kind: LatentKind, latent: Tensor, picture: Tensor) -> int:
        """Keep a small piece of each picture: (B,C,h,w) latents as the sampler holds them, (B,3,H,W) in [0,1].

        Takes a millisecond. Gives how many pairs of this kind there are, 0 where nothing new can be learnt.
        """
        if latent.ndim != 4 or latent.shape[1] != kind.channels or latent.shape[0] != picture.shape[0]:
            return 0
        found = [make_pair(*both) for both in zip(latent.split(1), picture.split(1), strict=True)]
        pairs = [pair for pair in found if pair]
        with self._lock:
            kept = self._pairs.setdefault(kind, deque(maxlen=MOST_PAIRS))
            kept.extend(pairs)
            while sum(pair.bytes for kept in self._pairs.values() for pair in kept) > MOST_BYTES:
                next(kept for kept in self._pairs.values() if kept).popleft()
            return len(kept) if pairs else 0

    def update(self, kind: LatentKind, others: Sequence[Callable[[Tensor], Tensor]] = ()) -> bool:
        """Solve the read-out again; says whether it took the place of what was there.

        ``others`` are ways to preview that need no learning, as the host's own colour matrix: (1,C,h,w) latent as the
        sampler holds it -> image in [0,1]. What is learnt must be better than each of them, and no worse than what
        stands, on pictures that neither has seen.
        """
        pairs, standing = self._pairs_of(kind), self.find(kind)
        with self._lock:
            seen = self._seen.get(kind, ())
        fresh = [pair for pair in pairs if pair not in seen]
        if not fresh:
            return False
        new = learn_readout(pairs)
        if any(mean_psnr(other, pairs) > new.psnr - BETTER_BY for other in others):
            return False
        # A read-out of the same pictures and some more is no worse: only other previewers are compared with it.
        rival = None if standing is None or (standing.is_readout and seen) else standing
        if rival and mean_psnr(rival.preview, fresh) > learn_readout(pairs, shown=fresh).psnr:
            return False
        self._keep(kind, new, pairs)
        return True

    def train(self, kind: LatentKind, steps: int = STEPS) -> Iterator[bool]:
        """Train a previewer while nobody waits, a step each turn; the last turn says whether it is used from now on."""
        pairs = self._pairs_of(kind)
        if len(pairs) < ENOUGH_TO_TRAIN:
            return
        for found in train_previewer_on(pairs, steps):
            better = found is not None and found[1] > BETTER_BY
            if better:
                self._keep(kind, found[0], pairs)
            yield better

    def find(self, kind: LatentKind) -> Learnt | None:
        """What was learnt for these latents, now or in an earlier run."""
        with self._lock:
            if kind not in self._learnt:
                self._learnt[kind] = find_learnt(kind, self._folders())
            return self._learnt[kind]

    def forget(self, kind: LatentKind) -> None:
        """Pairs and previewer, the kept file too."""
        with self._lock:
            self._pairs.pop(kind, None)
            self._seen.pop(kind, None)
            self._learnt[kind] = None
            kind.file.unlink(missing_ok=True)

    def learnt(self) -> dict[LatentKind, Learnt]:
        """Everything that was learnt, now or in an earlier run."""
        for kind in kept_kinds():
            self.find(kind)
        with self._lock:
            return {kind: learnt for kind, learnt in self._learnt.items() if learnt}

    def _pairs_of(self, kind: LatentKind) -> list[Pair]:
        with self._lock:
            return list(self._pairs.get(kind, ()))

    def _keep(self, kind: LatentKind, learnt: Learnt, pairs: Sequence[Pair]) -> None:
        try:
            write_learnt(kind, learnt, kind.file)
        except OSError as error:
            log_once("previewer not kept", f"A learnt previewer could not be kept: {one_line(error)}.")
        with self._lock:
            self._learnt[kind], self._seen[kind] = learnt, WeakSet(pairs)
