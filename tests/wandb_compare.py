"""Compares two W&B runs that a stand-in server recorded: rows, and the pixels of every picture.

    wandb_compare.py SERVER_URL FILES PLAIN_RUN OTHER_RUN

`FILES` is the server's folder of files. Where the other run has another PNG file, its digest and size are compared with
that file, if the row has them. The digits of a file's name, which are those of the digest, are not compared. Prints a
summary; exits with 1 if anything differs.
"""

import hashlib
import io
import json
import pathlib
import re
import sys
import urllib.request

from PIL import Image

url, folder, *names = sys.argv[1:]
folder = pathlib.Path(folder)
with urllib.request.urlopen(f"{url}/recorded") as answer:
    recorded = json.load(answer)
plain, other = (recorded[f"mine/vision/{name}"] for name in names)
differences = []
counts = {"rows": 0, "pictures": 0, "handed over": 0, "other files": 0}

DIGITS = re.compile(r"_[0-9a-f]{20}(?=\.(?:mask\.)?png$)")


def content(run, path):
    return (folder / "mine/vision" / run / path).read_bytes()


def differ(what, *found):
    differences.append(f"{what}: {' | '.join(str(one)[:300] for one in found)}")


def compare_files(where, path, other_path):
    """Compares two files by their pixels, or byte by byte if they are no PNG files."""
    try:
        files = content(names[0], path), content(names[1], other_path)
    except OSError as error:
        return differ(where, error)
    if not path.endswith(".png"):
        counts["other files"] += 1
        if files[0] != files[1]:
            differ(f"{where} {path}", *files)
        return
    counts["pictures"] += 1
    counts["handed over"] += path != other_path
    a, b = (Image.open(io.BytesIO(file)) for file in files)
    if (a.mode, a.size, a.tobytes()) != (b.mode, b.size, b.tobytes()):
        differ(f"{where} {path}", (a.mode, a.size, list(a.tobytes())[:12]), (b.mode, b.size, list(b.tobytes())[:12]))


def check_digest(where, value):
    """Checks the digest and size in a row of the other run, if it has them, against its file."""
    try:
        file = content(names[1], value["path"])
    except (OSError, KeyError) as error:
        return differ(where, error)
    found = {"sha256": hashlib.sha256(file).hexdigest(), "size": len(file)}
    if any(value.get(name, found[name]) != found[name] for name in found):
        differ(f"{where} digest", {name: value.get(name) for name in found}, found)


def compare(where, a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        if "_type" in a and str(a.get("path", "")).endswith(".png") and a.get("sha256") != b.get("sha256"):
            # The two runs have different encoders. `compare_files` compares the pixels.
            check_digest(where, b)
            a, b = ({name: value for name, value in side.items() if name not in ("sha256", "size")} for side in (a, b))
        if set(a) != set(b):
            return differ(f"{where} names", sorted(a), sorted(b))
        for name in sorted(a):
            compare(f"{where}/{name}", a[name], b[name])
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b)):
            compare(f"{where}[{i}]", *pair)
    elif isinstance(a, str) and isinstance(b, str) and a.startswith("media/"):
        if DIGITS.sub("", a) != DIGITS.sub("", b):
            return differ(where, a, b)
        compare_files(where, a, b)
    elif a != b and not where.endswith(("/_timestamp", "/_runtime")):
        differ(where, a, b)


rows = [run["history"] for run in (plain, other)]
if len(rows[0]) != len(rows[1]):
    differ("number of rows", *map(len, rows))
for a, b in zip(*rows):
    counts["rows"] += 1
    compare(f"step {a.get('_step')}", a, b)
for kind in ("mask/class_labels", "bounding_box/class_labels"):
    compare(kind, *(run["config"].get("_wandb", {}).get("value", {}).get(kind) for run in (plain, other)))
media = [{DIGITS.sub("", path) for path in run["files"] if path.startswith("media/")} for run in (plain, other)]
if media[0] != media[1]:
    differ("files", sorted(media[0] - media[1]), sorted(media[1] - media[0]))
twice = {path: n for path, n in other["files"].items() if n > 1 and path.startswith("media/")}
if twice and not any(n > 1 and path.startswith("media/") for path, n in plain["files"].items()):
    differ("uploaded more than once", twice)
compare("exit codes", plain["ends"], other["ends"])
print(json.dumps({**counts, "differ": len(differences)}))
for difference in differences[:40]:
    print(difference)
sys.exit(bool(differences))
