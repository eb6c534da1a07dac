"""Writes golden.json: digests of the values of 100 x 100 pixels of every element type, as NumPy reads them.

    pip install numpy==2.4.6 ml_dtypes==0.6.0
    python make.py > golden.json

The bytes of a tensor come from a small generator, which the test repeats, with the number of the type as seed:
    state = (state * 6364136223846793005 + 1442695040888963407) mod 2**64
    8 bytes: state, little-endian
A digest is that of the elements as `values.npy` shows them: bfloat16 and floats of 8 bits as float32, complex
numbers as their real part, bool as 0 and 1; each NaN as the quiet one without sign.
"""

import hashlib
import json
import struct

import ml_dtypes
import numpy as np

NAMES = """bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz
float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float32 float64 complex64 complex128""".split()
N = 10_000


def tensor(number, n_bytes):
    state, words = number, []
    for _ in range(-(-n_bytes // 8)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        words.append(state)
    return struct.pack(f"<{len(words)}Q", *words)[:n_bytes]


def shown(name, number):
    is_narrow = hasattr(ml_dtypes, name)
    dtype = np.dtype(getattr(ml_dtypes, name) if is_narrow else name)
    raw = np.frombuffer(tensor(number, N * dtype.itemsize), dtype=np.uint8)
    if name == "bool":
        return (raw != 0).astype("uint8")
    values = raw.view(dtype)
    if is_narrow:
        values = values.astype("float32")
    values = values.real.copy()
    if values.dtype.kind == "f":
        values[np.isnan(values)] = np.nan
    return values


digests = {}
for number, name in enumerate(NAMES):
    digests[name] = hashlib.sha256(shown(name, number).tobytes()).hexdigest()
versions = {"numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__}
print(json.dumps({"versions": versions, "sha256": digests}, indent=1))
