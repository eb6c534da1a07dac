"""Measures how long it takes to look at a fleet: 1,000 boxes listed, and a run of 1,000 manifests opened.

    python3 tests/measure/fleet_look.py [--boxes 1000] [--manifests 1000] [--lines 100] [--delay-ms 50]

From a directory, and from SeaweedFS if SAFELIGHT_WEED names its program. The goals: 0.03 s for a list of the boxes
alone, and 1.8 s for the run. Then a page of the gallery: 128 pictures from a bucket that answers each request 50 ms
late.
"""

import argparse
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

from common import PROGRAM, REPO, fresh_folder, say

sys.path.insert(0, str(REPO / "python/tests/catalog"))

from servers import KEYS, served


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


def make_pictures(root, n):
    """A run `slow/run` of `n` pictures of 4 KiB, each a step of one key."""
    folder = root / "runs/slow/run"
    folder.mkdir(parents=True)
    lines = []
    for step in range(n):
        content = hashlib.shake_128(str(step).encode()).digest(4096)
        sha256 = hashlib.sha256(content).hexdigest()
        name = f"media/{sha256[:2]}/{sha256}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        of_picture = {"key": "val", "step": step, "width": 64, "height": 64, "size": 4096, "sha256": sha256}
        lines.append({**line("slow", "run", step + 1), **of_picture, "object": name})
    (folder / "00000001.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def slow_bucket(root, delay_s):
    """A server of the bucket `media` with the files of a folder in `fleet/`. Yields its URL."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            time.sleep(delay_s)
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            path = root / urllib.parse.unquote(url.path).removeprefix("/media/fleet/")
            if "list-type" in query:
                self.answer(200, self.listed(query))
            elif path.is_file():
                self.answer(200, path.read_bytes())
            else:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        def listed(self, query):
            prefix, after = query.get("prefix", ""), query.get("start-after", "")
            names = sorted(f"fleet/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file())
            names = [name for name in names if name.startswith(prefix) and name > after]
            if query.get("delimiter") == "/":
                folders = sorted({prefix + name[len(prefix):].partition("/")[0] + "/" for name in names})
                parts = [f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders]
            else:
                about = "<LastModified>2026-11-30T12:00:00.000Z</LastModified><ETag>1</ETag><Size>1</Size>"
                parts = [f"<Contents><Key>{escape(name)}</Key>{about}</Contents>" for name in names]
            inner = f"<IsTruncated>false</IsTruncated>{''.join(parts)}"
            return f"<ListBucketResult>{inner}</ListBucketResult>".encode()

        def answer(self, status, content):
            self.send_response(status)
            for name, value in [("Content-Length", len(content)), ("ETag", '"1"'),
                                ("Last-Modified", "Mon, 30 Nov 2026 12:00:00 GMT")]:
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    return served(Handler)


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def measure_page(root, n, delay_s):
    """Asks a gallery for the thumbnails of a page, while it has none of the pictures."""
    with slow_bucket(root, delay_s) as endpoint, tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/gallery.sock"
        command = [PROGRAM, "gallery", "--from", "s3://media/fleet", "--listen", f"unix:{path}", "--json"]
        gallery = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **KEYS,
                                                                         "AWS_ENDPOINT_URL": endpoint})
        try:
            gallery.stdout.readline()
            connection = SocketConnection(path)
            connection.request("GET", "/api/v1/keys?run=slow%2Frun")
            connection.getresponse().read()
            start = time.monotonic()
            steps = ",".join(str(step) for step in range(n))
            connection.request("GET", f"/api/v1/frames?run=slow%2Frun&key=val&steps={steps}")
            answer = connection.getresponse()
            first = answer.read(4096)
            first_s = time.monotonic() - start
            whole = first + answer.read()
            say(f"     slow  {n} pictures of a page, {delay_s * 1000:.0f} ms each: {time.monotonic() - start:.2f} s, "
                f"the first after {first_s:.2f} s")
            if len(whole) < n * 4096:
                raise SystemExit(f"got {len(whole)} bytes, want {n} pictures of 4096")
        finally:
            gallery.terminate()
            gallery.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, default=1000)
    parser.add_argument("--manifests", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=100)
    parser.add_argument("--delay-ms", type=float, default=50)
    options = parser.parse_args()
    folder = fresh_folder("fleet_look")
    fleet = folder / "fleet"
    make(fleet, options.boxes, options.manifests, options.lines)
    n_items = options.manifests * options.lines
    size = sum(path.stat().st_size for path in fleet.rglob("*.jsonl"))
    say(f"{options.boxes:,} boxes; a run of {options.manifests:,} manifests with {n_items:,} lines, {size / 1e6:.0f} MB; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    measure("directory", f"file://{fleet}", {}, options.boxes, n_items)
    make_pictures(folder / "slow", 128)
    measure_page(folder / "slow", 128, options.delay_ms / 1000)
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
