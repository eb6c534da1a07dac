"""Logs random values, odd ones too, and prints what `log` returned and which images must come of it.

    python odd.py RUN_DIR SEED N

RUN_DIR must not exist yet. The output is one JSON list, with an object for each of N calls of `log`:

| field | meaning |
| --- | --- |
| `key`, `step` | of its images |
| `n` | how many images there are; null if `log` returned `False` |
| `caption` | the caption of each image, if it is plain text, else null |
| `boxes` | for each image, the number of boxes by set; null without boxes |
| `value` | the options that were given, for messages |
"""

from __future__ import annotations

import decimal
import enum
import fractions
import json
import os
import pathlib
import random
import sys
from typing import Any, Iterator

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import live

import safelight

numpy: Any = live.installed("numpy")
pillow: Any = live.installed("PIL.Image")


class Color(enum.Enum):
    RED = 1


def text(rng: random.Random) -> str:
    letters = 'abé"\\/\n\t\0\x7f\u2028\ud83d\ude00\udce9🙂{}[]:,'
    return "".join(rng.choice(letters) for _ in range(rng.randrange(12)))


def scalar(rng: random.Random) -> Any:
    values = [
        *(None, True, 0, -1, 0.5, 1e300, 5e-324, float("nan"), float("inf"), -float("inf")),
        *((1 << 63) - 1, -(1 << 63), 1 << 64, 10**400, -(1 << 20000)),
        *(
            b"bytes\xff",
            Color.RED,
            decimal.Decimal("1e400"),
            decimal.Decimal("NaN"),
            fractions.Fraction(1, 3),
        ),
        *(1 + 2j, pathlib.Path("/a"), range(3), object, text(rng), "x" * rng.choice([0, 5000])),
    ]
    if numpy is not None:
        values += [numpy.float16(0.1), numpy.int64(-3), numpy.uint64((1 << 64) - 1), numpy.bool_(True)]
        values += [numpy.arange(3), numpy.str_("s"), numpy.datetime64("2026-01-01"), numpy.longdouble(0.1)]
    return rng.choice(values)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any value, nested or not."""
    kind = rng.randrange(8 if depth < 3 else 4)
    if kind < 4:
        return scalar(rng)
    if kind == 4:
        deep = scalar(rng)
        for _ in range(rng.choice([1, 20, 63, 64, 65, 100, 127, 128, 200])):
            deep = [deep] if rng.random() < 0.5 else {"k": deep}
        return deep
    items = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return rng.choice([list, tuple])(items)
    keys = [text(rng), 1, "1", 2.5, None, True, (1, 2), b"k"]
    return {rng.choice(keys): item for item in items}


def boxes(rng: random.Random) -> dict[str, Any]:
    sets: dict[str, Any] = {}
    for name in rng.sample(["gt", "pred", "path", ""], rng.randrange(3)):
        box = {
            "position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75},
            "class_id": rng.choice([1, 1.0, True]),
            "box_caption": "c",
            "scores": {"conf": rng.choice([0.5, fractions.Fraction(1, 3), decimal.Decimal("0.9")])},
        }
        box["mine"] = rng.choice([1, "x" * 300])
        sets[name] = {"box_data": [box] * rng.choice([0, 1, 3, 700]), "class_labels": {1: "car", "2": "é"}}
    return sets


def picture(rng: random.Random, n: int) -> tuple[Any, dict[str, Any]]:
    """A picture, or a batch of `n` of them, and its options."""
    gray = [[0, 128, 255], [1, 2, 3]]
    if n > 1:
        return [gray] * n, {"format": "NHW"}
    kinds: list[Any] = [gray, [[0.5, 0.1]], [[True, False]], live.png()]
    if numpy is not None:
        types = "? u1 u2 u8 i1 i8 f2 f4 f8 >f4 >i2 c8".split()
        array = numpy.arange(24).reshape(4, 6).astype(rng.choice(types))
        kinds += [array, array[::-1, ::2], numpy.asfortranarray(array), array.reshape(2, 4, 3)]
        # No pictures.
        kinds += [array[0], array[:0], array.reshape(2, 2, 3, 2, 1)[..., [0, 0]]]
    if pillow is not None:
        kinds += [pillow.new(mode, (4, 3)) for mode in ("1", "L", "P", "RGB", "I", "F", "I;16", "CMYK")]
    return rng.choice(kinds), {}


def masks(rng: random.Random) -> dict[str, Any]:
    kinds: list[Any] = [[[0, 1, 2], [0, 0, 1]], [[True, False, True]] * 2]
    if numpy is not None:
        kinds += [numpy.zeros((2, 3), rng.choice(["u1", "i8", "?", ">u2"]))]
    if pillow is not None:
        kinds += [pillow.new(mode, (3, 2)) for mode in ("1", "L", "P", "I", "PA")]
    if rng.random() < 0.02:
        # No masks.
        kinds = [3, None, "text", live.png(), [[1], [1, 2]]]
    labels = {i: "label" for i in range(rng.choice([0, 3, 9000]))}
    return {name: {"mask_data": rng.choice(kinds), "class_labels": labels} for name in ("gt", "path")}


def held(rng: random.Random, images: list[Any]) -> Any:
    """The images in some container."""

    def generated() -> Iterator[Any]:
        yield from images

    wrap: list[Any] = [
        list,
        tuple,
        set,
        iter,
        lambda i: generated(),
        lambda i: [i],
        lambda i: dict(enumerate(i)).values(),
    ]
    if numpy is not None:
        wrap.append(lambda i: numpy.array([*i, None], object))
    return rng.choice(wrap)(images)


def write(run: safelight.Run, key: str, rng: random.Random) -> dict[str, Any]:
    """Logs a picture or a batch. Returns what is expected of it."""
    n = rng.choice([1, 1, 2, 64])
    data, options = picture(rng, n)
    step: Any = rng.choice([0, 7, 4096.0, (1 << 64) - 1, fractions.Fraction(3), "5", 2.5, -1])
    if numpy is not None:
        step = rng.choice([step, numpy.int32(9), numpy.float32(16)])
    given: Any = None
    if rng.random() < 0.7:
        caption = options["caption"] = rng.choice([text(rng), value(rng), "c" * (1 << 20)])
        if isinstance(caption, (list, tuple, set)) and n > 1:
            options["caption"] = "plain"
    if rng.random() < 0.3:
        grouping = value(rng)
        options["grouping"] = 1 if isinstance(grouping, (list, tuple)) else grouping
    if rng.random() < 0.5:
        given = [boxes(rng) for _ in range(n)]
        options["boxes"] = given if n > 1 else given[0]
    if rng.random() < 0.3:
        options["masks"] = [masks(rng) for _ in range(n)] if n > 1 else masks(rng)
    if rng.random() < 0.3:
        options["classes"] = [{"id": i, "name": "é"} for i in range(rng.choice([1, 9000]))]
    images = [safelight.Image(data, **options) for _ in range(1 if n > 1 else rng.choice([1, 3]))]
    is_written = run.log({key: held(rng, images)}, step=step)
    said = options.get("caption")
    is_plain = isinstance(said, str) and 0 < len(said) and said.isprintable() and said.isascii()
    sets = [{name: len(one["box_data"]) for name, one in sets.items()} for sets in given or []]
    return {
        "key": key,
        "step": int(step) if is_written else None,
        "n": n * len(images) if is_written else None,
        "caption": said if is_plain else None,
        "boxes": sets if given and n > 1 else sets * len(images) if given else None,
        "value": sorted(options),
    }


if __name__ == "__main__":
    numbers = random.Random(int(sys.argv[2]))
    with safelight.Run(sys.argv[1], config={"odd": value(numbers)}, name=text(numbers)) as odd_run:
        print(json.dumps([write(odd_run, f"k{i}", numbers) for i in range(int(sys.argv[3]))]))
