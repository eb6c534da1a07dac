"""Lets Pillow write PNG files with Safelight's encoder, which is many times faster.

    import safelight.pillow
    safelight.pillow.install()

From then on `Image.save` writes PNG files with the same pixels in a fraction of the time, and so does all code that
saves with Pillow: `wandb.Image`, torchvision, tensorboardX. Pillow itself still writes what this encoder does not
know: palettes, metadata, profiles of colours, resolution, transparency of one colour, and options that it does not
know.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable

from ._native import native

__all__ = ["install", "is_installed", "uninstall"]

# Modes that the encoder has, with Pillow's name of their bytes.
_RAW_MODES = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16"}

# Options of `save` that are understood. Any other one is left to Pillow.
_OPTIONS = {"compress_level", "optimize", "transparency"}

# What a picture may carry that its PNG file would have.
_CARRIED = ("exif", "icc_profile", "transparency")

# Level of zlib from which the file matters more than the time.
_SMALL_LEVEL = 7

# The function that was registered before this encoder. It stays set: other code may have wrapped this encoder.
_pillows: Callable[..., None] | None = None


def install() -> None:
    """Registers the encoder with Pillow. Does nothing if it is registered already.

    Raises `ImportError` without the extension (`pip install safelight[native]`) or without Pillow.
    """
    global _pillows
    native()
    image, plugin = importlib.import_module("PIL.Image"), importlib.import_module("PIL.PngImagePlugin")
    if not is_installed():
        _pillows = image.SAVE.get("PNG", plugin._save)
        image.register_save("PNG", _save)


def uninstall() -> None:
    """Registers Pillow's own encoder again."""
    if is_installed() and _pillows is not None:
        importlib.import_module("PIL.Image").register_save("PNG", _pillows)


def is_installed() -> bool:
    """Whether Pillow writes PNG files with this encoder."""
    return importlib.import_module("PIL.Image").SAVE.get("PNG") is _save


def _save(image: Any, file: Any, name: Any, *args: Any, **options: Any) -> None:
    """Writes a PNG file: what `PIL.Image.Image.save` calls."""
    content = None if args or options else _encoded(image)
    if content is not None:
        file.write(content)
    else:
        assert _pillows is not None, "registered by install"
        _pillows(image, file, name, *args, **options)


def _encoded(image: Any) -> bytes | None:
    """The PNG file of a picture. `None` if Pillow must write it."""
    wanted = getattr(image, "encoderinfo", {})
    raw = _RAW_MODES.get(image.mode)
    width, height = image.size
    if raw is None or not width or not height or not _OPTIONS.issuperset(wanted):
        return None
    for carried in _CARRIED:
        # An option replaces what the picture carries. `None` means: not in the file.
        if wanted.get(carried, image.info.get(carried)) is not None:
            return None
    level = wanted.get("compress_level")
    if level is not None and not (isinstance(level, int) and 1 <= level <= 9):
        return None
    small = bool(wanted.get("optimize")) or (level or 0) >= _SMALL_LEVEL
    mode = image.mode
    if mode == "1":
        image = image.convert("L")
    return native().encode(image.tobytes("raw", raw), mode, width, height, small)
