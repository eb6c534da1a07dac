#!/usr/bin/env python3
"""Golden pictures of `torchvision.utils.save_image`, for `safelight.save_image`.

    make.py        writes cases.npz beside itself

Made on Debian 12 with python3-torch 1.13.1+dfsg-4, python3-torchvision 0.14.1-2, python3-numpy 1.24.2 and
python3-pil 9.4.0. For each case i of `cases`, a JSON list:

    tensor     name of the array with the values; bfloat16 values are stored as float32
    dtype      the type that they were converted to before
    options    of save_image
    pixels_i   the pixels of the PNG file that torchvision wrote
    mode       its mode
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.utils import save_image

SHAPES = {
    "gray": (5, 7),
    "one": (1, 5, 7),
    "rgb": (3, 5, 7),
    "rgba": (4, 5, 7),
    "lone": (1, 3, 5, 7),
    "digits": (5, 1, 4, 6),
    "batch": (11, 3, 4, 6),
    "alphas": (3, 2, 4, 6),
}
OPTIONS = [
    {},
    {"nrow": 3, "padding": 0},
    {"pad_value": 0.5, "padding": 3},
    {"normalize": True},
    {"normalize": True, "value_range": (-1, 1), "nrow": 4},
    {"normalize": True, "scale_each": True, "pad_value": 1.0},
    {"normalize": True, "scale_each": True, "value_range": (-2.118, 2.64)},
]


def main() -> None:
    rng = np.random.default_rng(0)
    arrays, cases = {}, []
    for name, shape in SHAPES.items():
        arrays[f"{name}_unit"] = rng.random(shape, "f4")
        arrays[f"{name}_wide"] = rng.standard_normal(shape).astype("f4") * 2
        arrays[f"{name}_flat"] = np.full(shape, 0.3, "f4")
    pixels = {}
    for tensor, values in arrays.items():
        for dtype in ("float32", "float64", "bfloat16"):
            for options in OPTIONS if dtype == "float32" else OPTIONS[::3]:
                file = io.BytesIO()
                given = torch.from_numpy(values.copy()).to(getattr(torch, dtype))
                save_image(given, file, format="png", **options)
                with Image.open(file) as picture:
                    pixels[f"pixels_{len(cases)}"] = np.asarray(picture)
                    cases.append({"tensor": tensor, "dtype": dtype, "options": options, "mode": picture.mode})
    place = Path(__file__).resolve().parent / "cases.npz"
    np.savez_compressed(place, cases=np.array(json.dumps(cases)), **arrays, **pixels)
    print(len(cases), "cases", place.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
