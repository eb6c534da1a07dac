"""Writes the run directories that the tests of the item and compare pages look at: `golden` with a golden dump of every
dtype, and `harbour` with two steps of what content.py makes. Prints what NumPy prints for each value of `golden`.

    python tests/gallery/items.py OUT

Prints JSON: of each key of `golden` its dtype, its shape, and the texts of its values in C order.
"""

import base64
import json
import shutil
import sys
from pathlib import Path

import content
import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "golden/dumps"
FILES = ["npz/big-endian.npz", "safetensors-0.8/dtypes.safetensors"]
# Of floats that NumPy does not have: bits of the exponent and of the fraction, the exponent's bias, and the codes that
# are NaN and infinite. The highest bit is the sign.
NARROW = {
    "float8_e4m3fn": (4, 3, 7, {0x7F, 0xFF}, {}),
    "float8_e5m2": (5, 2, 15, {0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF}, {0x7C: np.inf, 0xFC: -np.inf}),
    "float8_e4m3fnuz": (4, 3, 8, {0x80}, {}),
    "float8_e5m2fnuz": (5, 2, 16, {0x80}, {}),
}


def narrow(code, dtype):
    """The value of one code."""
    if dtype == "float8_e8m0fnu":
        return np.nan if code == 255 else 2.0 ** (code - 127)
    exponent_bits, fraction_bits, bias, nan, infinite = NARROW[dtype]
    if code in nan:
        return np.nan
    if code in infinite:
        return infinite[code]
    fraction = code & (2**fraction_bits - 1)
    exponent = code >> fraction_bits & (2**exponent_bits - 1)
    sign = -1.0 if code >> (fraction_bits + exponent_bits) else 1.0
    if exponent == 0:
        return sign * fraction * 2.0 ** (1 - bias - fraction_bits)
    return sign * (1 + fraction / 2**fraction_bits) * 2.0 ** (exponent - bias)


def values(data, dtype):
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    if dtype in NARROW or dtype == "float8_e8m0fnu":
        return np.array([narrow(code, dtype) for code in data], np.float32)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def write_golden(out):
    """Writes a run of golden dumps. Returns what NumPy prints for each value."""
    out.mkdir(parents=True)
    expected = {}
    with (out / "golden.media.jsonl").open("w") as log:
        for text in (GOLDEN / "expected.jsonl").read_text().splitlines():
            tensor = json.loads(text)
            file, name, dtype, shape = (tensor[field] for field in ("file", "tensor", "dtype", "shape"))
            # Complex numbers are no picture, and floats of less than a byte are in no run directory.
            is_wanted = file in FILES or file.startswith("npy/")
            if not is_wanted or dtype.startswith(("complex", "float4_", "float6_")):
                continue
            (out / file).parent.mkdir(exist_ok=True)
            shutil.copy(GOLDEN / file, out / file)
            data = {"path": file, "dtype": dtype} if name is None else {"path": file, "tensor": name}
            key = f"{Path(file).parent}/{Path(file).stem}/{dtype}"
            line = {"key": key, "step": 0, "data": data, "format": "HWC"[: len(shape)], "range": [-1, 1]}
            log.write(json.dumps(line) + "\n")
            texts = [str(value) for value in values(base64.b64decode(tensor["bytes"]), dtype)]
            expected[key] = {"dtype": dtype, "shape": shape, "texts": texts}
    return expected


def write_harbour(out):
    content.STEPS = 2
    scenes = [content.Scene(number) for number in range(content.N_SCENES)]
    run = content.Run(out, "harbour", {"lr": 0.01})
    last = content.write_steps(run, scenes, 0, 0.9, 100)
    content.write_odd_things(run, last)
    run.log.close()


def main():
    out = Path(sys.argv[1])
    expected = write_golden(out / "golden")
    write_harbour(out / "harbour")
    print(json.dumps(expected))


if __name__ == "__main__":
    main()
