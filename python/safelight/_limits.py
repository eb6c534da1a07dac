"""The limits of the reader, by its default configuration.

`_limits.json` is the one table for both sides: a test of the daemon compares it with the daemon's own numbers.
"""

from __future__ import annotations

import json
import os
from typing import Any, Mapping, Sequence

__all__ = ["LIMITS", "RAW_TYPES", "depth", "over_annotation_limit", "over_dump_limit"]


with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "_limits.json"), "rb") as _file:
    _table: Mapping[str, Any] = json.load(_file)

# | name | what |
# | --- | --- |
# | `line_bytes_max` | the longest line of a media log |
# | `annotation_bytes_max` | all files of annotations of one line |
# | `sets_max`, `boxes_max`, `classes_max` | sets of an image, boxes of a set, classes or labels |
# | `depth_max` | nested lists and dicts in a value that is kept with an image |
# | `key_bytes_max`, `session_bytes_max` | the longest key, and the longest name of a session |
# | `identity_bytes_max` | `safelight.json` |
# | `dump_bytes_max`, `file_bytes_max` | an array, an image file |
# | `batch_max`, `pixels_max` | pictures in an array, pixels of a picture |
LIMITS: Mapping[str, int] = _table["limits"]

# Element types that npy files cannot name. They are written as raw bytes.
RAW_TYPES: frozenset[str] = frozenset(_table["raw_types"])


def depth(value: Any) -> int:
    """Returns the depth of nesting: 0 for a scalar, 1 for a flat list or dict."""
    if isinstance(value, Mapping):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, (list, tuple)):
        return 1 + max(map(depth, value), default=0)
    return 0


def over_annotation_limit(field: str, value: Any, limits: Mapping[str, int]) -> str | None:
    """Returns why the reader would refuse `classes`, `boxes` or `masks`, or `None`."""
    if field == "classes":
        n, n_max = len(value) if isinstance(value, list) else 0, limits["classes_max"]
        return f"{n} classes, the daemon reads at most {n_max}" if n > n_max else None
    for sets in value if isinstance(value, list) else [value]:
        if not isinstance(sets, Mapping):
            continue
        if len(sets) > limits["sets_max"]:
            return f"{len(sets)} sets, the daemon reads at most {limits['sets_max']}"
        for name, one in sets.items():
            of_set = one if isinstance(one, Mapping) else {}
            for part, n_max in (("box_data", limits["boxes_max"]), ("class_labels", limits["classes_max"])):
                entries = of_set.get(part)
                n = len(entries) if isinstance(entries, (list, dict)) else 0
                if n > n_max:
                    return f"{name}: {n} entries in {part}, the daemon reads at most {n_max}"
    return None


def over_dump_limit(
    n_bytes: int, shape: Sequence[int] | None, format: Any, limits: Mapping[str, int]
) -> str | None:
    """Returns why the reader would refuse an array or, if `shape` is `None`, an image file; or `None`.

    Without a `format`, only an array of two axes says how large its pictures are.
    """
    if shape is None:
        n_max, what = limits["file_bytes_max"], "an image file"
    else:
        n_max, what = limits["dump_bytes_max"], "an array"
    if shape is not None and (len(shape) < 2 or 0 in shape or sum(n != 1 for n in shape) > 4):
        return f"an array of shape {tuple(shape)}, a picture has 2 to 4 axes, none of length 0"
    if n_bytes > n_max:
        return f"{what} of {n_bytes} bytes, the daemon reads at most {n_max}"
    axes = format if isinstance(format, str) else "HW"
    if shape is None or len(shape) != len(axes):
        return None
    length = dict(zip(axes, shape))
    n_pixels = length.get("H", 0) * length.get("W", 0)
    if n_pixels > limits["pixels_max"]:
        return f"a picture of {n_pixels} pixels, the daemon makes at most {limits['pixels_max']}"
    if length.get("N", 0) > limits["batch_max"]:
        return f"{length['N']} pictures in one array, the daemon makes at most {limits['batch_max']}"
    return None
