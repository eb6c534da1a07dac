"""Lines of a media log, within the limits of the reader."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ._image import ANNOTATIONS, TEXTS
from ._limits import depth, over_annotation_limit
from ._values import json_bytes

__all__ = ["fit", "over_limits"]

# Length of a line, in bytes, above which its annotations go to files.
_LONG_BYTES = 1 << 16

# Writes the JSON of an annotation into a file of its own. Returns the value that names the file in the line.
Beside = Callable[[str, bytes], Any]


def over_limits(fields: Mapping[str, Any], masks: Any, limits: Mapping[str, int]) -> dict[str, Exception]:
    """Returns, by field of a line, why the daemon would refuse it."""
    problems: dict[str, Exception] = {}
    for name in TEXTS:
        if name in fields and depth(fields[name]) > limits["depth_max"]:
            problems[name] = ValueError(f"got nested deeper than {limits['depth_max']} levels")
    for name in ANNOTATIONS:
        value = masks if name == "masks" else fields.get(name)
        problem = None if value is None else over_annotation_limit(name, value, limits)
        if problem is not None:
            problems[name] = ValueError(f"got {problem}")
    return problems


def fit(
    line: Mapping[str, Any], limits: Mapping[str, int], beside: Beside
) -> tuple[bytes, dict[str, Exception]]:
    """Moves large annotations of a line into files, and removes what is still too long for a line. Returns
    the line's text and, by field, why something was removed."""
    left_out: dict[str, Exception] = {}
    has_annotations = any(name in line for name in ANNOTATIONS)
    text = b"" if has_annotations else json_bytes(line)
    if has_annotations or len(text) > _LONG_BYTES:
        # Each field is encoded once: boxes of a batch take milliseconds.
        fields = {name: json_bytes(value) for name, value in line.items()}
        _shorten(fields, limits, beside, left_out)
        text = b"{%s}" % b",".join(b"%s:%s" % (json_bytes(name), value) for name, value in fields.items())
    return text, left_out


def _shorten(
    fields: dict[str, bytes], limits: Mapping[str, int], beside: Beside, left_out: dict[str, Exception]
) -> None:
    """Makes a line shorter, whose fields are JSON already. The largest fields come first."""
    n_beside, beside_max = 0, limits["annotation_bytes_max"]
    line_max = limits["line_bytes_max"]
    n_bytes = sum(map(len, fields.values())) + sum(len(name) + 4 for name in fields) + 2
    for name in sorted(fields, key=lambda name: len(fields[name]), reverse=True):
        n = len(fields[name])
        if name in ANNOTATIONS and n_bytes > _LONG_BYTES:
            if n_beside + n <= beside_max:
                fields[name] = json_bytes(beside(f".{name}.json", fields[name]))
                n_beside += n
                n_bytes += len(fields[name])
            else:
                problem = f"got {n} bytes, the daemon reads at most {beside_max} beside a line"
                left_out[name] = ValueError(problem)
                del fields[name]
            n_bytes -= n
    for name in sorted(set(TEXTS) & set(fields), key=lambda name: len(fields[name]), reverse=True):
        if n_bytes > line_max:
            n = len(fields.pop(name))
            left_out[name] = ValueError(f"got {n} bytes, a line of the log may have {line_max}")
            n_bytes -= n
