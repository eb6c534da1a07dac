"""Compares the cost of delivery to each kind of target with that of the target's own client, for the same job.

    ./test.sh targets [--images 200]

The job: N PNG files of 256×256 RGB noise, of one run and key, each at its own step. Safelight has them in its store. The
client gets the files, or decoded images if it takes nothing else. Wall time and CPU time are those of the whole process,
with start-up and imports, without servers. Servers run on loopback, files are on a disk.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from common import PROGRAM, REPO, fresh_folder, npy, say

PYTHONS = REPO / "target/python"

CLIENTS = {
    "wandb": ("wandb-0.31.0", "offline, files", """
import wandb
run = wandb.init(project="p", dir=out, mode="offline", settings=wandb.Settings(silent=True))
for step, path in enumerate(files):
    run.log({"noise": wandb.Image(path)}, step=step)
run.finish()
"""),
    "tensorboard": ("tensorboard", "EventFileWriter, unchanged PNG files", """
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
writer = EventFileWriter(out)
for step, path in enumerate(files):
    image = Summary.Image(width=256, height=256, colorspace=3, encoded_image_string=open(path, "rb").read())
    summary = Summary(value=[Summary.Value(tag="noise", image=image)])
    writer.add_event(Event(wall_time=0, step=step, summary=summary))
writer.close()
"""),
    "mlflow": ("mlflow", "log_image, one thread", """
import mlflow
from PIL import Image
mlflow.set_tracking_uri(url)
with mlflow.start_run():
    for step, path in enumerate(files):
        mlflow.log_image(Image.open(path), key="noise", step=step, synchronous=True)
"""),
    "trackio": ("trackio", "log, files", """
import os
os.environ["TRACKIO_DIR"] = out
import trackio
trackio.init(project="p", embed=False)
for step, path in enumerate(files):
    trackio.log({"noise": trackio.Image(path)}, step=step)
trackio.finish()
"""),
    "s3": ("boto3", "put_object, 16 threads", """
import boto3
from concurrent.futures import ThreadPoolExecutor
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
def put(path):
    client.put_object(Bucket="media", Key="peer/" + path.rsplit("/", 1)[1], Body=open(path, "rb").read())
with ThreadPoolExecutor(16) as pool:
    list(pool.map(put, files))
"""),
    "directory": (None, "cp", None),
}


def timed(command, **options):
    """Runs a process. Returns wall seconds and CPU seconds."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    said = process.stderr.read().decode()
    _, ended, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended)
    if process.returncode != 0:
        sys.exit(f"{command[0]}: {process.returncode}\n{said[-3000:]}")
    return time.monotonic() - start, used.ru_utime + used.ru_stime


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, command, port, ready, folder, **environment):
        self.url = f"http://127.0.0.1:{port}"
        log = open(folder / "server.log", "wb")
        environment = {**os.environ, **environment}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder,
                                        start_new_session=True)
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(self.url + ready, timeout=5).read()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit(f"{command[0]} does not answer")
                time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, 9)
        self.process.wait()


def mlflow(folder):
    port = free_port()
    command = [PYTHONS / "mlflow/bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", f"{folder}/artifacts"]
    return Server(command, port, "/health", folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
                  MLFLOW_DISABLE_TELEMETRY="true")


KEYS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "SKTESTSKTEST"}


def seaweedfs(folder):
    port = free_port()
    parts = [f"-{part}.port={free_port() % 20000 + 20000}" for part in ("master", "filer", "volume", "admin")]
    command = [PYTHONS / "seaweedfs/bin/weed", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
               "-bucket=media", "-master.telemetry=false", "-webdav=false", "-admin.ui=false", f"-s3.port={port}",
               "-s3.port.iceberg=0", "-s3.port.lance=0", *parts]
    return Server(command, port, "/", folder, **KEYS)


def deliver(folder, settings):
    config = folder / "safelight.toml"
    config.write_text(f'[store]\npath = "store"\n[sync.target]\n{settings}\n')
    return timed([PROGRAM, "sync", "target", "--once", "--config", config], env={**os.environ, **KEYS})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    folder = fresh_folder("targets")
    for n in range(options.images):
        place = folder / f"run/dumps/noise/{n:06}.npy"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(npy("|u1", (256, 256, 3), os.urandom(256 * 256 * 3)))
    subprocess.run([PROGRAM, "ingest", folder / "run", "--store", folder / "store"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = sorted(str(path) for path in (folder / "store/runs/run/media/images").glob("*.png"))
    assert len(files) == options.images, len(files)
    megabytes = sum(map(os.path.getsize, files)) / 1e6
    say(f"{options.images} images, {megabytes:.0f} MB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    say()
    say("| target | Safelight | | | its own client | | | |")
    say("| --- | --- | --- | --- | --- | --- | --- | --- |")
    say("| | images/s | MB/s | CPU s | images/s | MB/s | CPU s | how |")
    for kind, (venv, how, code) in CLIENTS.items():
        out = folder / f"peer-{kind}"
        out.mkdir()
        server = {"mlflow": mlflow, "s3": seaweedfs}.get(kind)
        running = None
        if server:
            (folder / f"server-{kind}").mkdir()
            running = server(folder / f"server-{kind}")
        url = running.url if running else ""
        settings = {
            "wandb": f'kind = "wandb"\npath = "{folder}/wandb"',
            "tensorboard": f'kind = "tensorboard"\npath = "{folder}/tb"',
            "mlflow": f'kind = "mlflow"\nurl = "{url}"',
            "trackio": f'kind = "trackio"\npath = "{folder}/trackio"',
            "s3": f'kind = "object_store"\nurl = "s3://media/ours"\nendpoint = "{url}"\nregion = "us-east-1"\n'
                  'access_key_id = { env = "AWS_ACCESS_KEY_ID" }\n'
                  'secret_access_key = { env = "AWS_SECRET_ACCESS_KEY" }',
            "directory": f'kind = "object_store"\nurl = "file://{folder}/bucket"',
        }[kind]
        shutil.rmtree(folder / "store/sync", ignore_errors=True)
        ours = deliver(folder, settings)
        python = PYTHONS / f"{venv}/bin/python"
        if venv is None:
            theirs = timed(["cp", *files, out])
        elif python.is_file():
            script = f"out, url, files = {str(out)!r}, {url!r}, {files!r}\n{code}"
            (folder / "client.py").write_text(script)
            environment = {**os.environ, **KEYS, "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
            theirs = timed([python, folder / "client.py"], env=environment, cwd=folder)
        else:
            theirs = None
        cells = [kind]
        for got in (ours, theirs):
            if got is None:
                cells += ["–"] * 3
            else:
                wall, cpu = got
                cells += [f"{options.images / wall:.0f}", f"{megabytes / wall:.1f}", f"{cpu:.2f}"]
        say(f"| {' | '.join(cells)} | {how if theirs else 'not installed'} |")
        if running:
            running.__exit__()


if __name__ == "__main__":
    main()
