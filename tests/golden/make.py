#!/usr/bin/env python3
"""Golden data: real .npy files, and the pictures that the real `wandb.Image` makes of them.

    make.py inputs               writes inputs/*.npy and inputs/refused/*
    make.py expected PROFILE     writes PROFILE.jsonl from inputs/*.npy

PROFILE is wandb-0.10, wandb-0.20 or wandb-0.29. Each step needs its own
virtual environment with Python 3.11.7. (A newer Python works for all but
wandb-0.10.) The files here were made on Linux x86-64 with these versions:

    inputs       pip install numpy==2.4.6 ml_dtypes==0.6.0
    wandb-0.20   pip install wandb==0.28.2 numpy==2.4.6 pillow==13.0.0
    wandb-0.29   pip install wandb==0.31.0 numpy==2.4.6 pillow==13.0.0
    wandb-0.10   pip install --no-deps wandb==0.10.20
                 pip install numpy==1.23.5 pillow==9.5.0 protobuf==3.20.3 \\
                     'setuptools<70' six python-dateutil PyYAML click requests \\
                     psutil GitPython promise docker-pycreds configparser \\
                     sentry-sdk shortuuid pathtools subprocess32

wandb.Image needs no run, no login and no network. wandb 0.10.20 is older than
Python 3.11: this script restores the `collections` aliases that it imports.
If a float does not fit, NumPy's cast is undefined in C. The files have the
result on x86-64.

Each line of PROFILE.jsonl is a JSON object, one for each case:

    input        "inputs/NAME.npy", relative to this directory
    mode         the `mode` argument of wandb.Image, null if not given
    outcome      "ok" or "error"
  if "ok", read back from the image file that wandb.Image wrote:
    pixels_mode  Pillow's mode of that file
    width, height
    pixels       base64, rows top to bottom, channels interleaved. A byte per
                 channel; "1": a byte for each pixel, 0 or 255; "I;16": two bytes
                 for each pixel, little-endian; "P": a palette index
    palette      "P" only: base64, the file's palette as r,g,b triples
  if "error":
    error        "ValueError: text"

inputs/ has arrays of plain numbers, most of them valid pictures. A file's name
gives the element type, the layout and the kind of values. inputs/refused/ has
no expected results. It has broken files, and real files whose element types
make no picture without guessing or running code.
"""

import base64
import contextlib
import io
import json
import math
import os
import random
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
INPUTS = HERE / "inputs"
REFUSED = INPUTS / "refused"

WANDB_VERSION = {
    "wandb-0.10": "0.10.20",
    "wandb-0.20": "0.28.2",
    "wandb-0.29": "0.31.0",
}
MODES = ["L", "LA", "RGB", "RGBA", "I;16", "1", "P", "CMYK", "XYZ"]

NAN, INF = math.nan, math.inf
GRAY, RGB = (4, 6), (3, 4, 3)
UNSIGNED, SIGNED = ["u1", "u2", "u4", "u8"], ["i1", "i2", "i4", "i8"]
FLOATS, COMPLEX = ["f2", "f4", "f8"], ["c8", "c16"]


# ---------------------------------------------------------------- inputs


def fill(name, edge, more, count):
    """Returns `count` values, shuffled: `edge`, then more(x) for random x in [0,1).

    Uses only random(), because Python promises that its stream does not change.
    """
    rnd = random.Random(name)
    values = list(edge) + [more(rnd.random()) for _ in range(count - len(edge))]
    assert len(values) == count, (name, len(values))
    for i in range(count - 1, 0, -1):
        j = int(rnd.random() * (i + 1))
        values[i], values[j] = values[j], values[i]
    return values


def same(value):
    return [], lambda x: value


def float_families(t):
    """Yields name, values that must occur, and rule for the others, for float type t."""
    unit = [0, 1, 0.5, 0.25, 0.75, 0.999, 1 / 255, 254 / 255]
    sym = [-1, 1, 0, -0.0, 0.5, -0.5, 0.2, -0.999, -1e-3]
    byte = [0, 255, 0.5, 1.5, 127.5, 128, 254.75, 1, 255.0]
    over = {"f2": 1.001, "f4": 1.0001, "f8": 1.0001}[t]  # f2 has no 1.0001
    uni = lambda x: x
    yield "unit", unit, uni
    yield "sym", sym, lambda x: 2 * x - 1
    yield "sym_part", [-0.2, 0.6, 0], lambda x: 0.8 * x - 0.2
    yield "byte", byte, lambda x: 255 * x
    yield "beyond", [-300, 300, 256, 255.9, -1, -0.5, 1000, 511.5, 65504, -255.5], lambda x: 1500 * x - 500
    yield "neg_small", [-1.5, 1.25, -0.2, 0.6], lambda x: 5 * x - 2
    yield "pos_small", [1.25, 0.5, 2, 0, 3.999], lambda x: 4 * x
    yield "over1", unit + [over], uni
    yield "under_minus1", sym + [-over], lambda x: 2 * x - 1
    yield "nan", unit + [NAN], uni
    yield "nan_sym", sym + [NAN], lambda x: 2 * x - 1
    yield "nan_byte", byte + [NAN, -3, 300], lambda x: 255 * x
    yield "pinf", unit + [INF], uni
    yield "pinf_neg", [-0.5, INF, 0, 1], uni
    yield "ninf", unit + [-INF], uni
    yield "nonfinite", byte + [INF, -INF, NAN], lambda x: 255 * x
    yield "all_nan", *same(NAN)
    yield "zero", *same(0.0)
    yield "one", *same(1.0)
    yield "minus_one", *same(-1.0)
    yield "const_neg", *same(-5.25)
    if t == "f2":
        yield "huge", [65504, -65504, 32768, -32768, 40000, 0, 1, 255, 256], lambda x: 65000 * x
        yield "tiny", [6e-8, -6e-8, 1e-7, 6e-5, 0], lambda x: 1e-5 * x
    else:
        yield "huge", [1e10, -1e10, 1e18, -1e19, 1e30, 3e38, 0, 1, 255, 300], lambda x: 1e10 * x
        yield (
            "edge32",
            [2.0**31, -(2.0**31), 2.0**31 - 1, 2.0**31 - 128, -(2.0**31) - 1, -(2.0**31) - 256, 2.0**32]
            + [2.0**32 - 1, 2.0**32 + 512, 2.0**63, 2.0**24 + 2, 65535, 65536, 65791, -65537, 0.5, 1],
            lambda x: float(int(2**32 * x) - 2**31),
        )
        yield "tiny", [1e-8, -1e-8, 1e-38, -1e-40, 1e-45, 0], lambda x: 1e-6 * x
    yield "near", None, None  # write_inputs makes it with nextafter


def int_families(t):
    bits = 8 * int(t[1:])
    signed = t[0] == "i"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    top = min(255, high)
    yield "unit", [0, 1], lambda x: int(2 * x)
    if bits <= 16:
        yield "byte", [0, top, 1, 2, top - 1], lambda x: int((top + 1) * x)
    yield "zero", *same(0)
    yield "one", *same(1)
    if bits > 8:
        yield "beyond", [0, 1, 255, 256, 300, 511, 512], lambda x: int(2000 * x)
    edges = {low, low + 1, high, high - 1, 0, 1, 255, 256, 2**31, 2**31 - 1, 2**32 - 1, -1, -256, -(2**31)}
    edges = sorted(e for e in edges if low <= e <= high)
    if bits > 8 or signed:
        yield "extreme", edges, lambda x: int(high * x)
    if signed:
        yield "sym", [-1, 0, 1], lambda x: int(3 * x) - 1
        yield "neg_small", [-30, 0, 1, 90, -1], lambda x: int(121 * x) - 30  # spread below 127
        if bits == 8:
            yield "neg_wide", [-66, 63, 0, -1], lambda x: int(130 * x) - 66  # spread above 127
        yield "const_neg", *same(-5)
        if bits > 8:
            yield "neg_beyond", [-300, -1, 0, 100, 255, 300, -256, 256], lambda x: int(1200 * x) - 400


def complex_families():
    """The same for complex numbers. NumPy orders them by real, then imaginary part."""
    c = complex
    unit = [c(0, 0.5), c(1, -0.5), c(0.5, 0.25), c(0.25, -9), c(0.75, 300)]
    re = lambda x: c(x, 0)
    both = lambda x: c(x, 50 * x - 20)
    inner = lambda x: c(0.05 + 0.9 * x, 3 * x - 1)
    wide = lambda x: c(255 * x, 100 - 300 * x)
    yield "unit_real", [0, 1, 0.5, 0.25, 0.75, 0.999], re
    yield "unit", unit, both
    yield "sym_real", [-1, 1, 0, 0.5, -0.5, 0.2], lambda x: c(2 * x - 1, 0)
    yield "sym", [c(-1, 0.5), c(1, -0.5), c(0, -7), c(-0.5, 2)], lambda x: c(1.9 * x - 0.95, 5 * x - 2)
    yield "byte", [c(0, 2), c(255, -2), c(1, 1), c(127.5, -400), c(254.75, 1e6)], wide
    yield "beyond", [c(-300, 1), c(300, -1), c(-1, 4), c(256, 4), c(-0.5, 9)], lambda x: c(900 * x - 400, 9 * x)
    yield "neg_small", [c(-1.5, 1), c(1.25, -1)], lambda x: c(5 * x - 2, x)
    yield "over1", unit + [c(1.0001, -8)], both
    yield "tie_max1_pos", [c(1, 0.5), c(1, -0.5), c(0.5, 0)], inner  # 1+0.5j is greater than 1
    yield "tie_max1_neg", [c(1, -0.5), c(1, -7), c(0.5, 0)], inner
    yield "tie_min0_neg", [c(0, -0.5), c(0, 0.5), c(0.5, 0)], inner  # 0-0.5j is less than 0
    yield "tie_min0_pos", [c(0, 0.5), c(0, 0), c(0.5, 0)], inner
    yield "tie_minm1_neg", [c(-1, -0.5), c(-1, 0.5), c(0.5, 0)], inner  # -1-0.5j is less than -1
    yield "tie_minm1_pos", [c(-1, 0.5), c(-1, 0), c(0.5, 0)], inner
    yield "tie_clip", [c(0, -3), c(0, 3), c(255, -2), c(255, 2), c(300, NAN), c(-5, INF), c(9, -INF)], wide
    yield "imag_only", [c(0, 1), c(0, -1), c(0, 300)], lambda x: c(0, 9 * x - 4)
    yield "nan_imag", unit + [c(0.5, NAN)], both
    yield "nan_imag_byte", [c(0, 2), c(255, -2), c(200, NAN), c(-3, NAN), c(300, NAN)], wide
    yield "nan_imag_all", [c(0, NAN), c(1, NAN), c(200, NAN)], lambda x: c(255 * x, NAN)
    yield "nan_real", unit + [c(NAN, 0.5)], both
    yield "inf_imag", unit + [c(0.5, INF), c(0.25, -INF)], both
    yield "inf_imag_sym", [c(-0.5, INF), c(0.5, 0), c(0.25, -INF)], lambda x: c(1.9 * x - 0.95, x)
    yield "pinf_real", unit + [c(INF, 0)], both
    yield "ninf_real", unit + [c(-INF, 0)], both
    yield "all_nan", *same(c(NAN, NAN))
    yield "zero", *same(0j)
    yield "one", *same(c(1, 0))
    yield "const_neg", *same(c(-5, 3))
    yield "huge", [c(1e10, 1), c(-1e10, 1), c(2.0**31, 0), c(2.0**31 - 128, 0), c(1, 1e30)], wide


C8_FAMILIES = """unit_real unit sym byte beyond tie_max1_pos tie_min0_neg tie_minm1_neg tie_clip
    nan_imag nan_imag_byte nan_real inf_imag inf_imag_sym all_nan zero one const_neg huge""".split()

SHAPES = """4x5 1x9 9x1 1x1 4x5x3 4x5x4 4x5x2 4x5x5 3x4x5 3x5x4 3x5x3
    4x5x1 1x4x5 1x4x5x1 1x1x4x5 1x4x5x3 4x5x1x3 4x5x3x1 2x1x3x1x4
    1x5x3 4x1x3 1x5x4 4x1x4 1x5x2 1x1x2 1x1x3 1x1x4 3x1x1 1x1x1 1x1x1x1 1x5x1 1x3x1 1x4x1
    2x3x3x3 2x3x2x4 2x3x2x2 2x3x2x5 2x2x2x2x3
    1 2 3 4 5 scalar 0 0x5 5x0 0x0 0x5x3 5x0x3 4x5x0 1x0x3 0x2x2x3""".split()


def shape_of(word):
    return () if word == "scalar" else tuple(int(n) for n in word.split("x"))


# Rows of section A.5 of docs/spec/image.md.
ROWS = {
    "f4_unit": [0, 0.25, 0.5, 0.75, 1, 0.999],
    "f4_sym": [-1, -0.5, 0, 0.5, 1, 0.2],
    "f8_part": [-0.2, 0.6],
    "f4_two": [-2, -1, 0, 1, 2, 1.5],
    "i2_neg": [-300, -1, 0, 100, 255, 300],
    "f4_neg": [-300, -1, 0, 100.7, 255.9, 300],
    "u2_wide": [0, 256, 1000, 40000, 65535],
    "b1_bits": [0, 1, 1],
    "u1_bits": [0, 1, 1],
    "f4_nan": [0, 0.5, NAN, 1, 0.25],
    "f4_pinf": [0, 0.5, INF, 1],
    "f4_ninf": [0, 0.5, -INF, 1],
    "i4_const": [-5, -5],
    "f4_cliff": [1.25, 0.5],
}


def write_inputs():
    import numpy as np

    REFUSED.mkdir(parents=True, exist_ok=True)
    for old in [*INPUTS.glob("*.npy"), *REFUSED.glob("*.npy")]:
        old.unlink()

    def save(name, array, version=None):
        path = INPUTS / (name + ".npy")
        assert not path.exists(), name
        with open(path, "wb") as f:
            if version is None:
                np.save(f, array, allow_pickle=False)
            else:
                np.lib.format.write_array(f, array, version=version, allow_pickle=False)

    def array(values, dtype, shape):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.array(values, dtype=dtype).reshape(shape)

    def family(dtype, layout, name, edge, more):
        shape = GRAY if layout == "gray" else RGB
        name = f"{dtype}_{layout}_{name}"
        save(name, array(fill(name, edge, more, math.prod(shape)), dtype, shape))

    # Every element type with every family of values.
    for layout in "gray", "rgb":
        for name, edge, more in int_families("u1"):
            if layout == "gray" and name in ("unit", "zero", "one"):
                family("b1", layout, name, edge, more)
        for t in UNSIGNED + SIGNED:
            for name, edge, more in int_families(t):
                if layout == "gray" or name == ("byte" if t == "u1" else "extreme"):
                    family(t, layout, name, edge, more)
        for t in FLOATS:
            for name, edge, more in float_families(t):
                if name == "near":
                    if layout == "gray":
                        k = np.array([1, 2, 3, 63, 64, 127, 128, 253], dtype=t) / np.array(255, dtype=t)
                        up, down = np.array(2, dtype=t), np.array(-1, dtype=t)
                        save(f"{t}_gray_near", np.stack([np.nextafter(k, down), k, np.nextafter(k, up)]))
                elif layout == "gray" or name in ("unit", "beyond") or (t == "f4" and name in ("sym", "byte", "nan")):
                    family(t, layout, name, edge, more)
        for t in COMPLEX:
            for name, edge, more in complex_families():
                if layout == "rgb":
                    wanted = name in ("unit", "beyond")
                else:  # rare families for c16 only
                    wanted = t == "c16" or name in C8_FAMILIES
                if wanted:
                    family(t, layout, name, edge, more)
    save("b1_rgb_unit", array(fill("b1_rgb_unit", [0, 1], lambda x: int(2 * x), 36), "b1", RGB))

    # NaN in the imaginary part only: min() and max() return the first such element in
    # memory order, and its real part may still pass the range checks of wandb-0.20.
    i = complex(0, NAN)
    for name, grid in {
        "nan_first_in": [[300, -5, 0.25 + i, 9 + i], [2, 0.5, 1, -0.5 + i]],
        "nan_first_out": [[300, -5, 9 + i, 0.25 + i], [2, 0.5, 1, -0.5 + i]],
        "nan_first_sym": [[300, -5, -0.25 + i, 9 + i], [2, 0.5, 1, 0.5 + i]],
        "nan_first_zero": [[300, -5, i, 9 + i], [2, 0.5, 1, 0.5 + i]],
        "nan_first_one": [[300, -5, 1 + i, 9 + i], [2, 0.5, 1, 0.5 + i]],
        "nan_memory": [[300, 0.25, 0.5 + i, 9], [2, 9 + i, 1, -3]],
    }.items():
        for t in COMPLEX:
            save(f"{t}_gray_{name}", array(grid, t, (2, 4)))
        if name == "nan_memory":
            save(f"c16_fortran_{name}", np.asfortranarray(array(grid, "c16", (2, 4))))

    # Exact ramps, 16 x 16: computed as f8, then rounded to the type.
    k = np.arange(256.0).reshape(16, 16)
    for t in FLOATS:
        save(f"{t}_ramp_div255", (k / 255).astype(t))
        save(f"{t}_ramp_div127", (k / 127.5 - 1).astype(t))
        save(f"{t}_ramp_half", (k + 0.5).astype(t))

    # Every shape.
    for word in SHAPES:
        shape = shape_of(word)
        bytes_ = [(37 * k + 11) % 256 for k in range(math.prod(shape))]
        save(f"shape_u1_{word}", array(bytes_, "u1", shape))
        save(f"shape_f4_{word}", array([b + 0.25 for b in bytes_], "f4", shape))

    # Byte orders, memory orders, and versions of the file format.
    for t in ["u2", "u4", "u8", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]:
        values = [(53 * k) % 300 - (0 if t[0] == "u" else 40) for k in range(24)]
        save(f"{t}_big_gray", array(values, ">" + t, GRAY))
    save("f4_big_rgb", array([k / 35 for k in range(36)], ">f4", RGB))
    for t, shape in [("u1", GRAY), ("u1", RGB), ("f4", GRAY), ("f4", RGB), ("f8", (3, 4, 4)),
                     ("i2", (1, 5, 3)), (">u2", RGB), (">f4", (2, 3, 3, 3)), ("c8", GRAY)]:  # fmt: skip
        values = [(37 * k + 11) % 256 for k in range(math.prod(shape))]
        name = ("big_" if t[0] == ">" else "") + "x".join(map(str, shape))
        save(f"{t.lstrip('>')}_fortran_{name}", np.asfortranarray(array(values, t, shape)))
    for v in 1, 2, 3:
        save(f"u1_npy{v}_gray", array([10 * k for k in range(24)], "u1", GRAY), (v, 0))
        save(f"f4_npy{v}_rgb", array([k / 35 for k in range(36)], "f4", RGB), (v, 0))
    save("i2_npy2_fortran_big", np.asfortranarray(array(range(-9, 27), ">i2", RGB)), (2, 0))
    save("f8_npy3_fortran", np.asfortranarray(array([k / 23 for k in range(24)], "f8", GRAY)), (3, 0))

    # The examples of the specification.
    for name, row in ROWS.items():
        save("row_" + name, array([row], name[:2], (1, len(row))))
    j1 = [-1, 1, 0.276611328125, 0.1617431640625, 0.133056640625, -0.74267578125]
    save("vector1_f2", array(j1, "f2", (2, 3)))
    save("vector2_i1", array([-40, 63, -66, 30, 15, 38], "i1", (2, 3)))
    save("vector3_u1", array([7 * k for k in range(15)], "u1", (1, 5, 3)))
    save("vector4_u1", array([7 * k for k in range(16)], "u1", (2, 2, 4)))
    save("vector5_u1", array([7 * k for k in range(8)], "u1", (2, 2, 2)))

    # For the cases with a mode.
    for name, shape in ("l", (6, 10)), ("la", (5, 6, 2)), ("rgb", (4, 5, 3)), ("rgba", (3, 5, 4)):
        n = math.prod(shape)
        save(f"mode_u1_{name}", array(fill("mode_" + name, [0, 255], lambda x: int(256 * x), n), "u1", shape))
        save(f"mode_f4_{name}", array([(k + 1) / (n + 1) for k in range(n)], "f4", shape))
    save("mode_u1_l_ramp", array([4 * k for k in range(60)], "u1", (6, 10)))
    save("mode_u1_rgb_wide", array(fill("mode_wide", [], lambda x: int(256 * x), 60), "u1", (2, 10, 3)))

    # Files to refuse.
    import ml_dtypes

    def refuse(name, array, allow_pickle=False):
        np.save(REFUSED / (name + ".npy"), array, allow_pickle=allow_pickle)
        with open(REFUSED / (name + ".npy"), "rb") as f:
            version = np.lib.format.read_magic(f)
            size = int.from_bytes(f.read(2 if version == (1, 0) else 4), "little")
            print(f"  refused/{name}.npy  {version}  {f.read(size).decode('utf-8').strip()}")

    objects = np.empty((2, 2), dtype=object)
    objects[:] = [[1, 2.5], ["three", None]]
    refuse("object", objects, allow_pickle=True)
    refuse("object_numbers", np.array([[1, 2], [3, 4]], dtype=object), allow_pickle=True)
    refuse("text_U", np.array([["a", "bc"], ["12", "\u732b"]]))
    refuse("text_S", np.array([[b"a", b"bc"], [b"12", b""]]))
    refuse("void", np.zeros((2, 2), dtype="V3"))
    refuse("struct", np.zeros((2, 2), dtype=[("a", "u1"), ("b", "<f4")]))
    refuse("struct_padded", np.zeros((2, 2), dtype=np.dtype([("a", "u1"), ("b", "<f4")], align=True)))
    refuse("struct_sub", np.zeros((2, 2), dtype=[("a", "<f4", (3,))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refuse("struct_unicode", np.zeros((2, 2), dtype=[("cl\u00e9\u732b", "u1")]))
    refuse("datetime64", np.array([["2020-01-01", "2021-02-03"]], dtype="datetime64[D]"))
    refuse("timedelta64", np.array([[1, 2], [3, 4]], dtype="timedelta64[s]"))
    for name, t in ("longdouble", np.longdouble), ("complex256", np.clongdouble):
        wide = np.array([[0, 0.25], [0.5, 1]], dtype=t)
        wide.view("u1").reshape(-1, 16)[:, 10:] = 0  # x87 padding has undefined content
        refuse(name, wide)
    for name in "bfloat16", "float8_e4m3fn", "float8_e5m2":
        refuse(name, np.array([[0, 0.25, 0.5], [0.75, 1, -1]], dtype=getattr(ml_dtypes, name)))

    whole = io.BytesIO()
    np.save(whole, np.arange(24, dtype="u1").reshape(GRAY))
    whole = whole.getvalue()
    (REFUSED / "empty.npy").write_bytes(b"")
    (REFUSED / "short_magic.npy").write_bytes(whole[:5])
    (REFUSED / "short_header.npy").write_bytes(whole[:60])
    (REFUSED / "no_data.npy").write_bytes(whole[:128])
    (REFUSED / "short_data.npy").write_bytes(whole[:-5])
    (REFUSED / "not_npy.npy").write_bytes(b"PK\x03\x04" + whole)

    print("numpy", np.__version__, "ml_dtypes", ml_dtypes.__version__)
    for folder in INPUTS, REFUSED:
        sizes = [p.stat().st_size for p in folder.glob("*.npy")]
        print(f"{folder.name}: {len(sizes)} files, {sum(sizes)} bytes")


# -------------------------------------------------------------- expected


def cases(profile):
    names = sorted(p.stem for p in INPUTS.glob("*.npy"))
    for name in names:
        yield name, None
    if profile == "wandb-0.10":
        return  # in wandb-0.10 a mode only relabels the bytes
    for name in names:
        if name.startswith("mode_") or name in ("vector4_u1", "vector5_u1"):
            for mode in MODES:
                yield name, mode
    # Shapes for which a mode may change the result.
    for word in "1 3 5 scalar 4x5x5 2x3x3x3 0x5 1x5x3 4x5x1".split():
        for mode in "L", "RGB":
            yield "shape_u1_" + word, mode


def outcome(wandb, Image, np, path, mode):
    try:
        data = np.load(path, allow_pickle=False)
        image = wandb.Image(data) if mode is None else wandb.Image(data, mode=mode)
    except Exception as e:
        return {"outcome": "error", "error": f"{type(e).__name__}: {e}"}
    with Image.open(image._path) as stored:
        stored.load()
    os.remove(image._path)
    result = {
        "outcome": "ok",
        "pixels_mode": stored.mode,
        "width": stored.width,
        "height": stored.height,
    }
    # tobytes() packs "1" into bits. convert("L") gives 0 and 255.
    pixels = (stored.convert("L") if stored.mode == "1" else stored).tobytes()
    size = {"L": 1, "1": 1, "P": 1, "LA": 2, "I;16": 2, "RGB": 3, "RGBA": 4}[stored.mode]
    assert len(pixels) == stored.width * stored.height * size
    result["pixels"] = base64.b64encode(pixels).decode()
    if stored.mode == "P":
        result["palette"] = base64.b64encode(bytes(stored.getpalette("RGB"))).decode()
    return result


def write_expected(profile):
    if profile == "wandb-0.10":
        import collections
        import collections.abc

        for name in collections.abc.__all__:
            setattr(collections, name, getattr(collections.abc, name))
    os.environ.update(WANDB_MODE="disabled", WANDB_SILENT="true")
    warnings.simplefilter("ignore")

    import numpy as np
    import PIL
    import wandb
    from PIL import Image

    print(profile, "wandb", wandb.__version__, "numpy", np.__version__, "pillow", PIL.__version__)
    if wandb.__version__ != WANDB_VERSION[profile]:
        sys.exit(f"{profile} wants wandb {WANDB_VERSION[profile]}")
    warnings.simplefilter("ignore")
    lines = []
    failed = 0
    for name, mode in cases(profile):
        with contextlib.redirect_stderr(io.StringIO()):  # hides wandb's warnings
            result = outcome(wandb, Image, np, INPUTS / (name + ".npy"), mode)
        failed += result["outcome"] == "error"
        case = {"input": f"inputs/{name}.npy", "mode": mode, **result}
        lines.append(json.dumps(case, separators=(",", ":")) + "\n")
    (HERE / f"{profile}.jsonl").write_text("".join(lines), encoding="ascii")
    print(f"{profile}.jsonl: {len(lines)} cases, {failed} of them errors")


if __name__ == "__main__":
    if sys.argv[1:] == ["inputs"]:
        write_inputs()
    elif len(sys.argv) == 3 and sys.argv[1] == "expected" and sys.argv[2] in WANDB_VERSION:
        write_expected(sys.argv[2])
    else:
        sys.exit("usage: make.py inputs | make.py expected " + "|".join(WANDB_VERSION))
