"""Servers for tests: SeaweedFS, and one that is no good store."""

from __future__ import annotations

import contextlib
import http.server
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from typing import Iterator

KEYS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "SKTESTSKTEST"}


def is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that was free a moment ago, as was the one 10,000 above it, which SeaweedFS takes for gRPC.

    Both are below the ports that Linux gives to outgoing connections, of which tests have many.
    """
    while True:
        port = random.randrange(10_000, 20_000)
        if is_free(port) and is_free(port + 10_000):
            return port


@contextlib.contextmanager
def seaweedfs(program: str) -> Iterator[str]:
    """Starts SeaweedFS with a bucket `media`. Yields its endpoint."""
    folder, port = tempfile.mkdtemp(), free_port()
    command = [program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=media"]
    command += [
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    command += [
        f"-s3.port={port}",
        *(f"-{part}.port={free_port()}" for part in ("master", "filer", "volume", "admin")),
    ]
    # It takes variables of the environment for flags.
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with open(os.path.join(folder, "log"), "wb") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env={**plain, **KEYS}, cwd=folder, start_new_session=True
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        wait_for(endpoint)
        wait_for_bucket(endpoint)
        yield endpoint
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(endpoint: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"nothing answers at {endpoint}")


def wait_for_bucket(endpoint: str) -> None:
    """Waits until objects can be written: the server makes its bucket a little later."""
    import obstore
    from obstore.store import S3Store

    config = {name.lower(): value for name, value in KEYS.items()}
    store = S3Store(
        "media",
        config={**config, "aws_endpoint_url": endpoint},
        region="us-east-1",
        client_options={"allow_http": True},
    )
    end = time.monotonic() + 60
    while True:
        try:
            obstore.put(store, "ready", b"")
            obstore.delete(store, "ready")
            return
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


class _Careless(http.server.BaseHTTPRequestHandler):
    """Accepts each object, also one that exists: `If-None-Match` has no effect."""

    def _answer(self, code: int) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(code)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_PUT(self) -> None:
        self._answer(200)

    def do_DELETE(self) -> None:
        self._answer(204)

    def do_POST(self) -> None:
        self._answer(200)

    def do_GET(self) -> None:
        self._answer(404)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Starts an HTTP server in this process. Yields its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def careless() -> contextlib.AbstractContextManager[str]:
    """Starts an S3 without conditional writes. Yields its endpoint."""
    return served(_Careless)
