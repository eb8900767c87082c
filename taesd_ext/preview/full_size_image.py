"""The preview as a PIL image of the full size, for everybody who reads it from the host."""

import io
import sys
import threading
from collections.abc import Container
from typing import Any

from PIL import Image

from taesd_ext.preview.frame import Frame


class FullSizeImage(Image.Image):
    """A frame at its full size or another, whatever its detail; scaled up when somebody first needs the pixels.

    Hosts save the current preview once for each client that asks: to memory, it is encoded once for each format and
    options. A host's page scales a picture by itself and goes by its content: the modules named ``page_pollers``, which
    answer pages, get the frame's own bytes, so that a page's poll costs nothing.
    """

    _small: Image.Image | None = None

    def __init__(
        self, frame: Frame, page_pollers: Container[str] = (), size: tuple[int, int] | None = None
    ) -> None:
        # Image has no public way to build a subclass from pixels: this holds for Pillow 9.5 to 12.
        vars(self).update(vars(frame.image.picture))
        self.info = {}
        self._image = frame.image
        self._page_pollers = page_pollers
        self._encodings: dict[tuple, bytes] = {}
        self._lock = threading.RLock()
        size = size or frame.full_size
        if size != frame.image.size:
            self._small, self._size = frame.image.picture, size

    def load(self) -> Any:
        if self._small is not None:
            with self._lock:
                if self._small is not None:
                    full = self._small.resize(self._size, Image.Resampling.BILINEAR)
                    vars(self).update({**vars(full), "info": self.info})
                    self._small = None
        return super().load()

    def convert(self, mode: str | None = None, *args: Any, **kwargs: Any) -> Image.Image:
        if mode == self.mode and sys._getframe(1).f_globals.get("__name__") in self._page_pollers:
            return self  # Forge Neo asks for RGB before it saves; a copy would be the film's first frame alone
        return super().convert(mode, *args, **kwargs)

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        if not isinstance(fp, io.BytesIO):
            super().save(fp, format=format, **params)
        elif sys._getframe(1).f_globals.get("__name__") in self._page_pollers:
            fp.write(self._image.data)
        elif format and all(map(_is_plain, params.values())):
            fp.write(self._encoded_as(format.lower(), params))
        else:
            super().save(fp, format=format, **params)

    def _encoded_as(self, format: str, params: dict[str, Any]) -> bytes:
        if format == self._image.wire_format and not params and self.size == self._image.size:
            return self._image.data
        key = (format, *sorted(params.items()))
        with self._lock:
            if key not in self._encodings:
                buffer = io.BytesIO()
                super().save(buffer, format=format, **params)
                self._encodings[key] = buffer.getvalue()
            return self._encodings[key]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, bytes))
