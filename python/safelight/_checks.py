"""What `log` finds wrong with an image before it writes anything."""

from __future__ import annotations

from typing import Any, Mapping

from ._image import Image
from ._limits import over_dump_limit
from ._line import over_limits
from ._values import utf_8

__all__ = ["NOTHING", "Checks"]

# Most keys and kinds of pictures that are known to be within the limits.
_KNOWN_MAX = 1000

NOTHING: Mapping[str, Any] = {}


class Checks:
    """The limits of the daemon, and what was seen to be within them: a training logs the same again and again."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        # Keys, and sizes, shapes and formats of pictures.
        self._known: set[Any] = set()

    def refused(self, key: str, image: Image) -> Mapping[str, Exception]:
        """Returns, by field of the image, why the daemon would refuse it.

        Raises what prevented the image, or `ValueError` if the daemon would refuse the key or the picture.
        """
        if image._error is not None:
            raise image._error
        dump, fields = image._dump, image._fields
        if key not in self._known:
            n_max = self._limits["key_bytes_max"]
            if not 0 < len(utf_8(key)) <= n_max or "\0" in key:
                raise ValueError(f"got key {key[:64]!r}, want 1 to {n_max} bytes without NUL")
            self._remember(key)
        kind = (dump.n_bytes, dump.shape, fields.get("format"))
        if kind not in self._known:
            over = over_dump_limit(*kind, self._limits)
            if over is not None:
                raise ValueError(f"got {over}")
            self._remember(kind)
        return over_limits(fields, image._masks, self._limits) if fields or image._masks else NOTHING

    def _remember(self, known: Any) -> None:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known.add(known)
