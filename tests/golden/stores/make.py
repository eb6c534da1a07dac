"""Has a build of Safelight make a small store of a small run directory, and packs both.

    make.py PROGRAM OUT.tar.xz

Only what the first versions could read: npy dumps, media logs, sidecars. Needs nothing but Python.
"""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

# The store remembers where its run directory was: one place, whoever makes it.
FOLDER = Path("/tmp/safelight-golden-store")


def npy(shape, pixels, descr="|u1"):
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, tuple(shape))
    header += " " * ((64 - (10 + len(header) + 1) % 64) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(pixels)


def gray(n):
    return npy((4, 4), struct.pack("<Q", n) + b"\xff" * 8)


def write(path, content):
    path = FOLDER / "run" / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def log(name, lines):
    with open(FOLDER / "run" / name, "a") as file:
        for line in lines:
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")


def begin():
    write("safelight.json", json.dumps({"id": "exp/7", "project": "golden", "tags": ["a"]}).encode())
    for n in range(6):
        write(f"tensors/{n}.npy", gray(n))
        log("a.media.jsonl", [{"key": "val/pred", "step": n // 2, "data": f"tensors/{n}.npy", "caption": f"n {n}"}])
        write(f"dumps/alone/{n:06}.npy", gray(100 + n))
    write("tensors/float.npy", npy((2, 3), struct.pack("<6f", 0, 0.25, 0.5, 0.75, 1, float("nan")), "<f4"))
    log("b.media.jsonl", [{"key": "float", "step": 1, "data": "tensors/float.npy", "lr": 0.1}])
    # Held back, rejected, refused.
    write("tensors/batch.npy", npy((112, 2, 2), bytes(range(112)) * 4))
    log("b.media.jsonl", [
        {"key": "batch", "step": 3, "data": "tensors/batch.npy", "format": "NHW"},
        "rubbish",
        {"key": "missing", "step": 1, "data": "tensors/none.npy"},
        {"commit": 3},
    ])
    write("dumps/odd/000001.npy", b"this is no npy file")
    write("dumps/sheet/000002.npy.json", b'{"format": "NHW", "caption": ["a", "b", "c"]}')
    write("dumps/sheet/000002.npy", npy((3, 2, 2), range(12)))


def go_on():
    """Another version of a dump, more lines, the end."""
    write("dumps/alone/000002.npy", gray(777))
    write("tensors/6.npy", gray(6))
    log("a.media.jsonl", [{"key": "val/pred", "step": 3, "data": "tensors/6.npy"}, {"finish": True}])


def main(program, out):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()

    def run(*args):
        done = subprocess.run([program, *args, "--store", FOLDER / "store"], stdout=subprocess.PIPE)
        assert done.returncode in (0, 3), (args, done.returncode)
        return done.stdout

    begin()
    run("ingest", FOLDER / "run")
    go_on()
    run("ingest", FOLDER / "run")
    (FOLDER / "items.jsonl").write_bytes(run("ls", "--json"))
    subprocess.run(
        ["tar", "-C", FOLDER, "--owner=0", "--group=0", "--numeric-owner", "--sort=name", "-cJf",
         Path(out).absolute(), "run", "store", "items.jsonl"],
        check=True,
    )
    shutil.rmtree(FOLDER)


main(*sys.argv[1:])
