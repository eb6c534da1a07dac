"""Stores of any size, made without dumps.

The program writes the journal line of one item. This script repeats it with other values. The program then builds the
index from the journal.

    python tests/measure/made_stores.py digits FOLDER [--items 1000000]
    python tests/measure/made_stores.py photographs FOLDER [--steps 10000]

`digits` makes 10 keys of 28 x 28 pixels. `photographs` makes 6 keys of 512 x 512 pixels. Each picture carries its step
as a code of black and white squares, so that a test that sees the picture knows its step: see `code`.
"""

import argparse
import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

from common import PROGRAM, npy

SEGMENT_BYTES = 64 << 20

# The code of a step: so many bits as squares, the lowest first, in a grid that fills the picture's width.
CODE_COLUMNS, CODE_ROWS = 7, 4

# How many different photographs a key has. They take turns: a million files of their own would fill a disk.
PHOTOGRAPHS = 100


def safelight(*args):
    done = subprocess.run([PROGRAM, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"safelight {' '.join(map(str, args))}: exit code {done.returncode}\n{done.stderr.decode()}")
    return done.stdout.decode()


class JournalWriter:
    """Writes the journal of one run: lines that are like the program's own line, with other values.

    `fields` names the fields that differ by their path, such as ("source", "path"). `write` takes their values as
    JSON, in the same order.
    """

    def __init__(self, journal, fields):
        self.journal = journal
        lines = (journal / "00000001.jsonl").read_bytes().splitlines(keepends=True)
        line = json.loads(lines[-1])
        assert line["kind"] == "media", line
        del line["crc"]
        for number, path in enumerate((("seq",), *fields)):
            place = line
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = f"@{number}@"
        pattern = json.dumps(line, separators=(",", ":")).replace("%", "%%")
        order = [int(number) for number in re.findall('"@(.*?)@"', pattern)]
        self.order = order
        self.pattern = re.sub('"@.*?@"', "%s", pattern)[:-1]
        self.seq = len(lines)
        self.segment, self.length = 1, sum(map(len, lines[:-1]))
        (journal / "00000001.jsonl").write_bytes(b"".join(lines[:-1]))
        self.file = open(journal / "00000001.jsonl", "ab")

    def write(self, *values):
        values = (self.seq, *values)
        body = (self.pattern % tuple([values[number] for number in self.order])).encode()
        body += b',"crc":"%08x"}\n' % zlib.crc32(body)
        if self.length >= SEGMENT_BYTES:
            self.file.close()
            self.segment, self.length = self.segment + 1, 0
            self.file = open(self.journal / f"{self.segment:08}.jsonl", "ab")
        self.file.write(body)
        self.length += len(body)
        self.seq += 1

    def close(self):
        self.file.close()


def png(width, height, color, rows):
    """A PNG of 8 bits. `color`: 0 for gray, 2 for RGB. `rows`: bytes of all rows."""
    per_row = width * (3 if color == 2 else 1)
    lines = b"".join(b"\0" + rows[at:at + per_row] for at in range(0, len(rows), per_row))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 1)) + chunk(b"IEND", b"")


def code(step, side):
    """A gray square picture, as bytes: CODE_ROWS rows of CODE_COLUMNS squares that are white for the bits of `step`."""
    square = side // CODE_COLUMNS
    rows = []
    for row in range(CODE_ROWS):
        bits = [step >> (row * CODE_COLUMNS + column) & 1 for column in range(CODE_COLUMNS)]
        line = b"".join(b"\xff" * square if bit else b"\0" * square for bit in bits)
        rows.append((line + b"\x80" * (side - len(line))) * square)
    above = b"".join(rows)
    return above + b"\x80" * (side * side - len(above))


def begin(folder, key, shape):
    """Has the program make a store with one item of `key`. Returns the store."""
    store, source = folder / "store", folder / "runs/run"
    place = source / "dumps" / key
    place.mkdir(parents=True)
    n_bytes = 1
    for n in shape:
        n_bytes *= n
    (place / "00000000.npy").write_bytes(npy("|u1", shape, bytes(range(256)) * (n_bytes // 256) + bytes(n_bytes % 256)))
    safelight("ingest", source, "--store", store)
    shutil.rmtree(source / "dumps")
    shutil.rmtree(store / "index")
    shutil.rmtree(store / "runs/run/media")
    return store


FIELDS = (("key",), ("step",), ("path",), ("size",), ("sha256",), ("source", "path"),
          ("cursor", "dump", "path"), ("cursor", "dump", "stamp", "ino"))


def fill(store, items):
    """Adds items: key, step, path of the media file, its size and its digest."""
    writer = JournalWriter(store / "runs/run/journal", FIELDS)
    for number, (key, step, path, size, digest) in enumerate(items):
        dump = json.dumps(f"dumps/{key}/{step:08}.npy")
        writer.write(json.dumps(key), step, json.dumps(path), size, json.dumps(digest), dump, dump, 10**6 + number)
    writer.close()
    return safelight("reindex", "--store", store, "--json")


def media_file(store, name, content):
    """Writes a media file. Returns its path as in the journal, its size and its digest."""
    digest = hashlib.sha256(content).hexdigest()
    path = f"media/images/{name}_{digest[:20]}.png"
    file = store / "runs/run" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return path, len(content), digest


def digits(folder, n_items):
    """10 keys of 28 x 28. All keys share the picture of a step, so that there are a tenth as many files."""
    store = begin(folder, "val/digits0", (28, 28))

    def items():
        for step in range(n_items // 10):
            file = media_file(store, f"steps/{step // 1000}/{step}", png(28, 28, 0, code(step, 28)))
            for key in range(10):
                yield (f"val/digits{key}", step, *file)

    return fill(store, items())


def photographs(folder, n_steps):
    """6 keys of 512 x 512 x 3: a gradient with noise, and the code of the picture's number in the upper half."""
    import random
    side = 512
    store = begin(folder, "val/photo0", (side, side, 3))
    files = []
    for key in range(6):
        randomness = random.Random(key)
        of_key = []
        for number in range(PHOTOGRAPHS):
            squares = code(number, side)
            noise = randomness.randbytes(side * side)
            base = [randomness.randrange(128) for _ in range(3)]
            rows = bytearray(3 * side * side)
            for channel in range(3):
                plane = bytearray((base[channel] + (at % side) // 8 + (noise[at] >> 4)) & 255 for at in range(side * side))
                n_code = side * (side // CODE_COLUMNS) * CODE_ROWS
                plane[:n_code] = squares[:n_code]
                rows[channel::3] = plane
            of_key.append(media_file(store, f"photo{key}/{number}", png(side, side, 2, bytes(rows))))
        files.append(of_key)
    return fill(store, ((f"val/photo{key}", step, *files[key][step % PHOTOGRAPHS])
                        for step in range(n_steps) for key in range(6)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("digits", "photographs"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args()
    if args.folder.exists():
        sys.exit(f"{args.folder} exists")
    args.folder.mkdir(parents=True)
    made = digits(args.folder, args.items) if args.kind == "digits" else photographs(args.folder, args.steps)
    print(json.loads(made)["items"], "items")


if __name__ == "__main__":
    main()
