"""What the daemon accepts as an option of an image, so that `log` reports what the daemon would reject.

`_choices.py` has the names. A test of the daemon writes it, and compares both sides for many values.
"""

from __future__ import annotations

import math
import re
from typing import Any, Mapping, Optional, get_args

from . import _choices

__all__ = ["box_problems", "option_problem"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "mode": get_args(_choices.Mode),
    "file_type": get_args(_choices.FileType),
    "format": get_args(_choices.Format),
    "profile": get_args(_choices.Profile),
    "colormap": get_args(_choices.Colormap),
    "compression": get_args(_choices.Compression),
    "alpha": get_args(_choices.Alpha),
}

_COLOR = re.compile(r"#[0-9a-fA-F]{6}\Z")

# Least and greatest value.
_WHOLE = {"quality": (1, 100), "downscale": (1, (1 << 32) - 1)}
_GRID = {"nrow": (1, (1 << 32) - 1), "padding": (0, 1024)}

_POSITION = "a position with minX, maxX, minY and maxY, or middle, width and height"


def option_problem(name: str, value: Any) -> Optional[str]:
    """Returns why the daemon would reject an option of an image, or `None`. `value` is plain JSON."""
    if name in _CHOICES:
        names = _CHOICES[name]
        # A list, for example, may not be hashed.
        if isinstance(value, str) and value in names:
            return None
        want = ", ".join(names)
    elif name in ("nan_color", "background"):
        if isinstance(value, str) and _COLOR.match(value):
            return None
        want = "a colour such as #ff00ff"
    elif name in _WHOLE:
        if _is_within(value, _WHOLE[name]):
            return None
        want = "a whole number from {} to {}".format(*_WHOLE[name])
    elif name == "range":
        if isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)):
            low, high = map(float, value)
            if low < high and math.isfinite(high - low):
                return None
        want = "(low, high), two finite numbers with low < high"
    elif name == "palette":
        if isinstance(value, bool):
            return None
        want = "True or False"
    elif name == "grid":
        if isinstance(value, bool) or _is_grid(value):
            return None
        want = 'True, False or {"nrow": 8, "padding": 2} with a padding of at most 1024'
    else:
        return None
    return f"got {value!r:.64}, want {want}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_within(value: Any, bounds: tuple[int, int]) -> bool:
    """Whether a value is a whole number, which may be a float, within bounds."""
    return _is_number(value) and value == value // 1 and bounds[0] <= value <= bounds[1]


def _is_grid(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in _GRID and _is_within(number, _GRID[name]) for name, number in value.items()
    )


def box_problems(boxes: Any) -> dict[str, str]:
    """Returns, by the place of a box, why the daemon would drop it. `boxes` are plain: the sets of an image, or a
    list of those of a batch."""
    problems: dict[str, str] = {}
    for sets in boxes if isinstance(boxes, list) else [boxes]:
        for name, one in sets.items() if isinstance(sets, dict) else ():
            of_set = one.get("box_data") if isinstance(one, dict) else None
            for i, box in enumerate(of_set if isinstance(of_set, list) else ()):
                if not _has_position(box):
                    problems[f"boxes/{name}/{i}"] = f"got {box!r:.64}, want {_POSITION}"
    return problems


def _has_position(box: Any) -> bool:
    position = box.get("position") if isinstance(box, dict) else None
    if not isinstance(position, dict):
        return False
    if "middle" in position:
        return "width" in position and "height" in position
    return "minX" in position and "maxX" in position and "minY" in position and "maxY" in position
