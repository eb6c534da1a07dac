"""The extension `safelight_native`, imported when it is first needed."""

from __future__ import annotations

import functools
import importlib
import sysconfig
from typing import Any, Optional, Protocol, Sequence, Tuple, cast

__all__ = ["Developed", "Native", "native"]

# A picture: the file, its type, mode, size, SHA-256, the JSON of how it was made, and the warnings.
Developed = Tuple[bytes, str, Optional[str], Tuple[int, int], str, Optional[str], "list[str]"]


class Native(Protocol):
    """The functions of `safelight_native`. `record` is the JSON of a line's image options, or empty."""

    def develop(self, data: Any, record: bytes, dtype: str | None = None, fill: int = 0) -> list[Developed]: ...

    def develop_file(self, content: bytes, record: bytes, tensor: str | None = None) -> list[Developed]: ...

    def encode(
        self, pixels: bytes, mode: str, width: int, height: int, small: bool = False, palette: bool = False
    ) -> bytes: ...

    def guess_mode(self, shape: Sequence[int], record: bytes, channels_first: bool = False) -> str: ...

    def to_uint8(self, data: Any, record: bytes, dtype: str | None = None) -> tuple[bytes, list[int]]: ...


@functools.lru_cache(maxsize=None)
def native() -> Native:
    """Imports the extension.

    Raises `ImportError`, with what helps, if it is not installed, is of another version, or does not work in
    this interpreter.
    """
    from . import __version__

    try:
        module = importlib.import_module("safelight_native")
    except ModuleNotFoundError:
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            raise ImportError(
                "the extension safelight-native is not available for free-threaded Python: use a Python with "
                "the GIL, or log to a run and let the daemon make the pictures"
            ) from None
        raise ImportError(
            "this needs the extension safelight-native: pip install safelight[native]"
        ) from None
    if module.__version__ != __version__:
        raise ImportError(
            f"safelight {__version__} needs safelight-native {__version__}, got {module.__version__}: "
            "pip install --upgrade safelight[native]"
        )
    return cast(Native, module)
