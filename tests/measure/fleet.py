"""Measures the catalogue of a fleet on SeaweedFS: folding, queries, requests, and an hour of 1,000 boxes.

    ./test.sh fleet measure [--only lines,manifests,requests,query,json,hour] [--rows 10000000] [--boxes 1000]
                            [--plot PATH]

The manifests are made by python/tests/catalog/manifests.py. The hour is simulated: the clock of boxes and passes jumps,
the work of each pass is real and its time is added.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import os
import random
import resource
import statistics
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "python/tests/catalog"), str(REPO / "python")]

import obstore
from fleet_case import Fleet
from manifests import content, folder_of, item
from servers import KEYS, seaweedfs

from safelight.catalog._fold import Folder
from safelight.catalog._rows import schema

SAMPLES = 5
DAYS = 30


def say(text: str = "") -> None:
    print(text, flush=True)


def fleet_at(endpoint: str, name: str) -> Fleet:
    os.environ.update(KEYS, AWS_ENDPOINT_URL=endpoint, AWS_REGION="us-east-1")
    fleet = Fleet(f"s3://media/{name}", dict(KEYS, AWS_ENDPOINT_URL=endpoint, AWS_REGION="us-east-1"), name="fleet")
    fleet.init()
    return fleet


def put_manifests(fleet: Fleet, manifests: list[tuple[str, str, int, bytes]]) -> None:
    """Writes manifests (box, run, number, content), each with its marker after it."""

    def put(one: tuple[str, str, int, bytes]) -> None:
        box, run, n, text = one
        place = f"{folder_of(box)}/{folder_of(run)}"
        obstore.put(fleet.store, f"runs/{place}/{n:08}.jsonl", text, mode="create")
        obstore.put(fleet.store, f"inbox/{place}/{n:08}", b"")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(put, manifests))


def made(boxes: int, manifests: int, lines: int) -> list[tuple[str, str, int, bytes]]:
    return [
        (f"gpu-{b:04}", "r", n + 1, content([item(f"gpu-{b:04}", "r", n * lines + i) for i in range(lines)]))
        for b in range(boxes)
        for n in range(manifests)
    ]


def timed_fold(fleet: Fleet) -> tuple[dict, float, float, int]:
    """Runs `fold` as a command. Returns what it says, wall seconds, CPU seconds, and its peak of memory in bytes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    said = fleet.fold()
    took, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return said, took, cpu, after.ru_maxrss * 1024


def table_bytes(fleet: Fleet) -> int:
    return sum(
        one["size"]
        for page in obstore.list(fleet.table_location.open())
        for one in page
        if one["path"].endswith(".parquet") and "_delta_log" not in one["path"]
    )


def measure_lines(endpoint: str) -> None:
    fleet = fleet_at(endpoint, "lines")
    manifests = made(20, 20, 250)
    put_manifests(fleet, manifests)
    said, took, cpu, peak = timed_fold(fleet)
    n_bytes = sum(len(text) for *_, text in manifests)
    say(
        f"fold of {said['rows']} lines, {said['manifests']} manifests, {said['commits']} commits: {took:.1f} s, "
        f"{cpu:.1f} CPU s, peak {peak / 1e6:.0f} MB; {n_bytes / said['rows']:.0f} bytes a line in manifests, "
        f"{table_bytes(fleet) / said['rows']:.0f} in the table"
    )


def measure_manifests(endpoint: str) -> None:
    fleet = fleet_at(endpoint, "manifests")
    put_manifests(fleet, made(1000, 2, 10))
    said, took, cpu, peak = timed_fold(fleet)
    say(
        f"fold of {said['manifests']} manifests of {said['runs']} boxes, {said['rows']} lines: {took:.1f} s, "
        f"{cpu:.1f} CPU s, peak {peak / 1e6:.0f} MB"
    )
    put_manifests(fleet, [(box, run, 3, text) for box, run, n, text in made(1000, 1, 10) if n == 1])
    said, took, cpu, _ = timed_fold(fleet)
    say(f"the next pass, {said['manifests']} manifests of known boxes: {took:.1f} s, {cpu:.1f} CPU s")
    said, took, cpu, _ = timed_fold(fleet)
    say(f"a pass without work: {took:.1f} s, {cpu:.1f} CPU s")


class Counting(http.server.BaseHTTPRequestHandler):
    """Forwards requests, and counts them."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    counts: Counter = Counter()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = "LIST" if self.command == "GET" and "list-type" in self.path else self.command
        self.counts["DELETE of many" if kind == "POST" and "delete" in self.path else kind] += 1
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        got = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(got)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(got)
        connection.close()


def measure_requests(endpoint: str) -> None:
    Counting.upstream = endpoint.partition("://")[2]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fleet = fleet_at(f"http://127.0.0.1:{server.server_address[1]}", "requests")
    direct = fleet_at(endpoint, "requests")
    for n, boxes in ((1, 1000), (2, 1000), (3, 0)):
        put_manifests(direct, [(box, run, n, text) for box, run, _, text in made(boxes, 1, 5)])
        Counting.counts.clear()
        folder = Folder(fleet.location, fleet.table_location, lambda _: None)
        opened = sum(Counting.counts.values())
        Counting.counts.clear()
        folded = folder.fold()
        counts = ", ".join(f"{n_of} {kind}" for kind, n_of in sorted(Counting.counts.items()))
        say(f"requests of a pass with {folded.manifests} manifests: {counts}; {opened} to open both")
    server.shutdown()


def fill_table(fleet: Fleet, n_rows: int) -> None:
    """Appends rows of 1,000 boxes on DAYS days, as compacted days have them: two files each."""
    import deltalake
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    per_day = n_rows // DAYS
    types = {"int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "string": "VARCHAR", "date32[day]": "DATE"}
    for back in range(DAYS):
        day = date.today() - timedelta(days=back)
        values = {
            "day": f"DATE '{day}'",
            "time": f"TIMESTAMPTZ '{day} 00:00:00+00' + INTERVAL 1 SECOND * (i % 86400)",
            "project": "'project-' || (i % 20)",
            "box": "'gpu-' || (i % 1000)",
            "run": "'run-' || (i % 7)",
            "key": "'val/key-' || (i % 12)",
            "step": "i // 12",
            "index": "0",
            "state": "'image'",
            "nan": "CASE WHEN hash(i) % 2000 = 0 THEN 3 ELSE 0 END",
            "inf": "0",
            "min": "-random()",
            "max": "random()",
            "mean": "random()",
            "std": "random()",
            "clipped": "0.0",
            "constant": "false",
            "seq": "i",
            "manifest": "i // 1000",
            "object": f"'s3://media/query/fleet/media/' || sha256('{day}' || i) || '.png'",
            "file_type": "'png'",
            "mode": "'RGB'",
            "width": "224",
            "height": "224",
            "size": "4000 + i % 5000",
            "rule": "'x255'",
            "profile": "'auto'",
            "format": "'HWC'",
            "source": "'tensors/' || i || '.npy'",
            "xxh3": "md5('x' || i)",
        }
        columns = ", ".join(
            f'CAST({values.get(one.name, "NULL")} AS {types.get(str(one.type), "TIMESTAMPTZ")}) AS "{one.name}"'
            for one in schema()
        )
        for half in range(2):
            chunk = f"range({half * per_day // 2}, {(half + 1) * per_day // 2}) t(i)"
            # As a compaction keeps them: by box, more or less.
            rows = (
                connection.execute(f"SELECT {columns} FROM {chunk} ORDER BY i % 1000").to_arrow_table().cast(schema())
            )
            deltalake.write_deltalake(
                fleet.table_url,
                rows,
                mode="append",
                storage_options=dict(fleet.table_location.options),
                writer_properties=deltalake.WriterProperties(compression="ZSTD"),
            )


def median_of(work) -> tuple[float, object]:
    took, result = [], None
    for _ in range(SAMPLES):
        start = time.monotonic()
        result = work()
        took.append(time.monotonic() - start)
    return statistics.median(took), result


def measure_query(endpoint: str, n_rows: int) -> None:
    import polars as pl

    import safelight.catalog

    fleet = fleet_at(endpoint, "query")
    start = time.monotonic()
    fill_table(fleet, n_rows)
    say(f"a table of {n_rows} rows on {DAYS} days: made in {time.monotonic() - start:.0f} s, "
        f"{table_bytes(fleet) / n_rows:.0f} bytes a row")  # fmt: skip
    connection = fleet.duckdb()
    last_week = (
        f"day >= DATE '{date.today()}' - 8 AND time >= TIMESTAMPTZ '{date.today() - timedelta(days=7)} 00:00:00+00'"
    )
    table = f"delta_scan('{fleet.table_url}')"
    queries = {
        "NaN of a project, last week": f"SELECT time, box, run, key, step, index, nan, object FROM {table} WHERE {last_week} "
        "AND project = 'project-3' AND state = 'image' AND nan > 0 ORDER BY time DESC",
        "the latest versions of a key of a run": "SELECT * FROM (SELECT *, seq = max(seq) OVER (PARTITION BY box, run, key, "
        f"step, index) AS last FROM {table}) WHERE last AND box = 'gpu-17' AND run = 'run-3' AND key = 'val/key-5'",
        "count of all rows by state": f"SELECT state, count(*) FROM {table} GROUP BY ALL",
    }
    for name, query in queries.items():
        took, rows = median_of(lambda query=query: connection.execute(query).fetchall())
        say(f"{name}, DuckDB: {took:.2f} s, {len(rows)} rows")

    def in_polars():
        frame = safelight.catalog.scan(fleet.table_url, since=date.today() - timedelta(days=8))
        return (
            frame.filter(pl.col("project") == "project-3", pl.col("nan") > 0).select("time", "box", "object").collect()
        )

    took, frame = median_of(in_polars)
    say(f"NaN of a project, last week, Polars: {took:.2f} s, {len(frame)} rows")


def measure_json(endpoint: str) -> None:
    fleet = fleet_at(endpoint, "json")
    put_manifests(fleet, made(20, 20, 250))
    connection = fleet.duckdb()
    query = f"SELECT count(*) FROM read_json('{fleet.url}/runs/**/*.jsonl') WHERE stats.nan > 0"
    took, rows = median_of(lambda: connection.execute(query).fetchall())
    say(f"DuckDB on 100,000 lines of 400 manifests, without a table: {took:.2f} s, {rows[0][0]} with NaN")


class Hour:
    """A simulated hour: each box makes images, and a manifest each minute; a pass each `pass_s` seconds."""

    MINUTE = 60.0

    def __init__(self, fleet: Fleet, n_boxes: int, images_a_minute: int, pass_s: float) -> None:
        luck = random.Random(7)
        self.fleet, self.images, self.pass_s = fleet, images_a_minute, pass_s
        self.folder = Folder(fleet.location, fleet.table_location, lambda _: None)
        # The second of its minute at which a box writes its manifest.
        self.phase = {f"gpu-{b:04}": luck.uniform(0, self.MINUTE) for b in range(n_boxes)}
        self.rows: list[dict] = []

    def run(self) -> None:
        connection = self.fleet.duckdb()
        n_made = Counter()
        end_of_last = 0.0
        due = self.pass_s
        while due <= 3600:
            # A pass that takes long makes the next one late.
            start = max(due, end_of_last)
            waiting = []
            for box, phase in self.phase.items():
                while phase + self.MINUTE * n_made[box] <= start - 1e-9:
                    waiting.append((box, n_made[box] + 1, phase + self.MINUTE * n_made[box]))
                    n_made[box] += 1
            texts = [
                (box, "r", n, content([item(box, "r", (n - 1) * self.images + i) for i in range(self.images)]))
                for box, n, _ in waiting
            ]
            put_manifests(self.fleet, texts)
            began = time.monotonic()
            folded = self.folder.fold()
            took = time.monotonic() - began
            end_of_last = start + took
            # An item waits for its manifest, the manifest for the pass, and for its end.
            latency = sorted(
                end_of_last - at + self.MINUTE * i / self.images for _, _, at in waiting for i in range(self.images)
            )
            row = {
                "minute": start / 60,
                "markers": folded.markers,
                "rows": folded.rows,
                "commits": folded.commits,
                "fold_s": took,
                "p50": latency[len(latency) // 2] if latency else 0.0,
                "p99": latency[len(latency) * 99 // 100] if latency else 0.0,
            }
            if len(self.rows) % max(1, int(300 / self.pass_s)) == 0 or due + self.pass_s > 3600:
                query = (
                    "SELECT time, box, run, key, step, object FROM "
                    f"delta_scan('{self.fleet.table_url}') WHERE day >= current_date - 8 AND project = 'digits' AND nan > 0"
                )
                row["query_s"], found = median_of(lambda query=query: connection.execute(query).fetchall())
                row["n_nan"] = len(found)
            self.rows.append(row)
            due += self.pass_s

    def summary(self) -> str:
        total = {name: sum(row[name] for row in self.rows) for name in ("markers", "rows", "commits", "fold_s")}
        p50, p99 = (statistics.median(row[name] for row in self.rows) for name in ("p50", "p99"))
        query = [row["query_s"] for row in self.rows if "query_s" in row]
        return (
            f"an hour of {len(self.phase)} boxes, a pass each {self.pass_s:.0f} s: {total['markers']} manifests and markers, "
            f"{total['rows']} rows, {total['commits']} commits; a pass takes {total['fold_s'] / len(self.rows):.1f} s "
            f"(at most {max(row['fold_s'] for row in self.rows):.1f} s); at most {max(row['markers'] for row in self.rows)} "
            f"markers wait; from commit on a box to a row: p50 {p50:.0f} s, p99 {p99:.0f} s; "
            f"the NaN query: {query[0]:.2f} s at first, {query[-1]:.2f} s at the end"
        )


def measure_hour(endpoint: str, n_boxes: int, plot: str | None) -> None:
    hours = []
    for pass_s in (60.0, 300.0):
        fleet = fleet_at(endpoint, f"hour-{pass_s:.0f}")
        hour = Hour(fleet, n_boxes, 10, pass_s)
        before = resource.getrusage(resource.RUSAGE_SELF)
        hour.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
        say(hour.summary())
        say(f"  CPU of committer, boxes and queries together: {after.ru_utime - before.ru_utime:.0f} s")
        n_left = len(fleet.names("inbox"))
        (n_rows,) = (
            fleet.duckdb()
            .execute(f"SELECT count(DISTINCT (box, run, seq)) FROM delta_scan('{fleet.table_url}')")
            .fetchone()
        )
        want = sum(row["rows"] for row in hour.rows)
        say(f"  rows in the table: {n_rows} distinct, want {want}; left in the inbox: {n_left}")
        if n_rows != want or n_left:
            sys.exit("the table lacks rows, or has some twice")
        hours.append(hour)
    if plot:
        draw(hours, plot)
        say(f"  {plot}")


def draw(hours: list[Hour], path: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "safelight", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    titles = (
        "manifests that wait at a pass",
        "wall time of a pass, s",
        "from commit on a box to a row, s",
        "NaN query, s",
    )
    for panel, title in zip(panels, titles):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("minute")
    for hour, color in zip(hours, ("#2a78b5", "#d1651f")):
        minutes = [row["minute"] for row in hour.rows]
        label = f"a pass each {hour.pass_s:.0f} s"
        line = {"color": color, "label": label, "marker": ".", "markersize": 4}
        panels[0].plot(minutes, [row["markers"] for row in hour.rows], **line)
        panels[1].plot(minutes, [row["fold_s"] for row in hour.rows], **line)
        panels[2].plot(minutes, [row["p50"] for row in hour.rows], **{**line, "label": f"{label}: p50"})
        panels[2].plot(
            minutes, [row["p99"] for row in hour.rows], **{**line, "label": f"{label}: p99", "linestyle": ":"}
        )
        queried = [row for row in hour.rows if "query_s" in row]
        panels[3].plot([row["minute"] for row in queried], [row["query_s"] for row in queried], **line)
    for panel in panels:
        panel.set_ylim(bottom=0)
        panel.legend(fontsize=8)
    figure.suptitle(f"{len(hours[0].phase)} boxes, 10 images a minute each, simulated clock", fontsize=11)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="lines,manifests,requests,json,query,hour")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--boxes", type=int, default=1000)
    parser.add_argument("--plot", help="path of the SVG to write")
    options = parser.parse_args()
    say(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with seaweedfs(os.environ["SAFELIGHT_WEED"]) as endpoint:
        for name in options.only.split(","):
            if name == "query":
                measure_query(endpoint, options.rows)
            elif name == "hour":
                measure_hour(endpoint, options.boxes, options.plot)
            else:
                {
                    "lines": measure_lines,
                    "manifests": measure_manifests,
                    "requests": measure_requests,
                    "json": measure_json,
                }[name](endpoint)


if __name__ == "__main__":
    main()
