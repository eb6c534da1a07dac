"""Measures how long it takes to look at a fleet: 1,000 boxes listed, and a run of 1,000 manifests opened.

    python3 tests/measure/fleet_look.py [--boxes 1000] [--manifests 1000] [--lines 100]

From a directory, and from SeaweedFS if SAFELIGHT_WEED names its program. The goals: 0.03 s for a list of the boxes
alone, and 1.8 s for the run.
"""

import argparse
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

from common import PROGRAM, fresh_folder, say

KEYS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "SKTESTSKTEST"}


def line(box, run, seq):
    sha256 = hashlib.sha256(f"{box} {run} {seq}".encode()).hexdigest()
    return {
        "box": box, "project": "vision", "run": run, "v": 1, "seq": seq, "time": 1.8e9 + seq,
        "key": f"val/{seq % 6}", "step": seq // 6, "index": 0, "state": "image", "reason": None, "class": None,
        "path": f"runs/{run}/media/images/val/{seq % 6}_{seq // 6}_{sha256[:20]}.png", "file_type": "png",
        "mode": "RGB", "width": 256, "height": 256, "size": 91_000, "sha256": sha256,
        "caption": f"epoch {seq // 600}: loss 0.{seq % 1000:03}", "grouping": None, "profile": "auto",
        "rule": "x255", "format": "CHW",
        "stats": {"min": 0.0, "max": 1.0, "mean": 0.41, "std": 0.2, "nan": 0, "inf": 0, "clipped": 0.0,
                  "constant": False},
        "source": {"path": f"dumps/{seq:08}.npy", "xxh3": sha256[:32], "log": "train.media.jsonl", "line": seq},
        "object": f"media/{sha256[:2]}/{sha256}.png",
    }


def make(root, boxes, manifests, lines):
    """A fleet of boxes with one run of one manifest each, and a box `large` with one run of many."""
    def run(box, name, n_manifests, n_lines):
        folder = root / "runs" / box / name
        folder.mkdir(parents=True)
        about = {"v": 1, "box": box, "run": name, "project": "vision", "source": "/runs/a", "identity": {}}
        (folder / "run.json").write_text(json.dumps(about))
        seq = 0
        for n in range(1, n_manifests + 1):
            text = []
            for _ in range(n_lines):
                seq += 1
                text.append(json.dumps(line(box, name, seq), separators=(",", ":")) + "\n")
            (folder / f"{n:08}.jsonl").write_text("".join(text))
    for n in range(boxes):
        run(f"gpu-{n:04}", "exp1", 1, 1)
    run("large", "exp1", manifests, lines)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return min(probe.getsockname()[1], 54_000)


@contextlib.contextmanager
def seaweedfs(weed, folder, fleet):
    """SeaweedFS with the fleet in the bucket `media`. Yields its URL."""
    ports = {name: free_port() for name in ("s3", "master", "filer", "volume", "admin")}
    command = [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=media",
               "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0",
               "-s3.port.lance=0"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, **KEYS}, stdout=log, stderr=log, cwd=folder)
    try:
        url = f"http://127.0.0.1:{ports['s3']}"
        for _ in range(600):
            try:
                urllib.request.urlopen(url).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
        filer = f"http://127.0.0.1:{ports['filer']}/buckets/media/"
        for _ in range(10):
            copied = subprocess.run([weed, "filer.copy", "-c", "2", str(fleet), filer], capture_output=True,
                                    text=True, check=False, cwd=folder)
            if copied.returncode == 0:
                break
            # The filer may be starting.
            time.sleep(1)
        else:
            raise SystemExit(f"the fleet was not copied: {copied.stderr[-2000:]}")
        yield url
    finally:
        server.terminate()
        server.wait()


def timed(args, env):
    start, before = time.monotonic(), os.times()
    ran = subprocess.run([PROGRAM, *args], capture_output=True, text=True, check=False,
                         env={**os.environ, **env})
    wall, after = time.monotonic() - start, os.times()
    if ran.returncode != 0:
        raise SystemExit(f"{args}: {ran.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu, ran.stdout.count("\n")


def measure(place, url, env, boxes, n_items):
    for what, args in [("no run: start alone", ["ls", "gpu-0000"]), ("all runs listed", ["ls"]),
                       ("large run opened and listed", ["ls", "large/exp1"])]:
        best = min(timed([*args, "--from", url, "--json"], env) for _ in range(3))
        wall, cpu, n = best
        say(f"{place:>9}  {what:28} {wall:6.2f} s, {cpu:5.2f} CPU s, {n:,} lines of output")
        want = {"no run: start alone": 1, "all runs listed": boxes + 1}.get(what, n_items)
        if n != want:
            raise SystemExit(f"got {n} lines, want {want}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, default=1000)
    parser.add_argument("--manifests", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=100)
    options = parser.parse_args()
    folder = fresh_folder("fleet_look")
    fleet = folder / "fleet"
    make(fleet, options.boxes, options.manifests, options.lines)
    n_items = options.manifests * options.lines
    size = sum(path.stat().st_size for path in fleet.rglob("*.jsonl"))
    say(f"{options.boxes:,} boxes; a run of {options.manifests:,} manifests with {n_items:,} lines, {size / 1e6:.0f} MB; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    measure("directory", f"file://{fleet}", {}, options.boxes, n_items)
    weed = os.environ.get("SAFELIGHT_WEED")
    if weed is None:
        say("SAFELIGHT_WEED is not set: SeaweedFS is left out")
        return
    (folder / "weed").mkdir()
    with seaweedfs(weed, folder / "weed", fleet) as endpoint:
        env = {**KEYS, "AWS_ENDPOINT_URL": endpoint}
        measure("SeaweedFS", "s3://media/fleet", env, options.boxes, n_items)


if __name__ == "__main__":
    main()
