"""Tests of how finished pictures come into a W&B run, with a daemon that the tests play."""

from __future__ import annotations

import glob
import hashlib
import http.server
import json
import os
import socketserver
import threading
import time
import urllib.parse
from typing import Any

from wandb_case import Case

from safelight import Image, Run
from safelight.wandb._daemon import Daemon
from safelight.wandb._place import Placer
from safelight.wandb._promises import Promises, names_of


class _Answers(http.server.BaseHTTPRequestHandler):
    """A daemon that knows one run."""

    server: Any

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        given = dict(urllib.parse.parse_qsl(query))
        daemon = self.server.daemon
        after = None
        if daemon.is_ill:
            return self.send_error(500)
        if path == "/v1/items" and daemon.hangs.is_set():
            time.sleep(5)
        if path == "/v1/daemon":
            body = json.dumps({"store": daemon.store}).encode()
        elif path == "/v1/status":
            runs = [{"run": "r", "source": os.path.realpath(daemon.run_dir)}]
            body = json.dumps({"runs": runs if daemon.knows_run else []}).encode()
        else:
            n = int(given.get("after", 0))
            items = [item for item in daemon.items if item["key"] == given["key"]]
            body = b"".join(json.dumps(item).encode() + b"\n" for item in items[n : n + 1])
            after = str(n + 1) if n + 1 < len(items) else None
        self.send_response(200)
        if after is not None:
            self.send_header("safelight-after", after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that was tired of waiting.
        pass

    def get_request(self) -> Any:
        return super().get_request()[0], ("unix", 0)


class Placing(Case):
    """`Placer` with a daemon that this test plays."""

    def setUp(self) -> None:
        super().setUp()
        self.run_dir, self.store = self.at("run"), self.at("store")
        os.mkdir(self.store)
        self.items: list[dict[str, Any]] = []
        self.is_ill, self.knows_run = False, True
        self.hangs = threading.Event()
        self.placed: list[str] = []
        self.run_of = Run(self.run_dir)

    def serve(self) -> None:
        server = _Server(self.at("control.sock"), _Answers)
        server.daemon = self  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def daemon_has(self, name: str, content: bytes, **fields: Any) -> None:
        with open(os.path.join(self.store, "a.png"), "wb") as file:
            file.write(content)
        extra = {"wandb": {"run": "w", "dir": "run-w", "files": {"image": name}}}
        item = {"key": "k", "state": "image", "path": "a.png", "sha256": hashlib.sha256(content).hexdigest()}
        self.items.append({**item, "extra": extra, **fields})

    def promise(self, name: str = "media/images/k.png", key: str = "k") -> str:
        extra = {"wandb": {"run": "w", "dir": "run-w", "files": {"image": name}}}
        self.assertTrue(self.run_of._log_image(key, 1, Image([[1]]), extra))
        return name

    def placer(self) -> Placer:
        daemon, library = Daemon([self.at("no.sock"), self.at("control.sock")]), None
        files = self.at("files")
        placer = Placer(self.run_dir, "run-w", files, daemon, library, self.placed.extend)  # type: ignore[arg-type]
        # Ends its thread.
        self.addCleanup(placer.finish, 0)
        return placer

    def content(self, name: str) -> bytes | None:
        path = self.at("files", name)
        if not os.path.exists(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def test_a_finished_picture_is_copied_from_any_page(self) -> None:
        self.serve()
        name = self.promise()
        self.daemon_has("media/images/other.png", b"other")
        self.daemon_has(name, b"picture")
        self.assertTrue(self.placer().look([name], 9, 9))
        self.assertEqual((self.content(name), self.placed), (b"picture", [name]))

    def test_finish_waits_for_the_daemon(self) -> None:
        self.serve()
        name = self.promise()
        placer = self.placer()
        placer.promise(name)
        threading.Timer(0.3, self.daemon_has, (name, b"picture")).start()
        self.assertEqual(placer.finish(30), [])
        self.assertEqual((self.content(name), self.placed), (b"picture", [name]))

    def made_by(self, placer: Placer, pause_s: float = 0.0) -> list[str]:
        """Lets a placer note what it makes, for `pause_s` seconds each, instead of encoding. Returns the names."""
        made: list[str] = []

        def make(name: str, line: Any) -> list[str]:
            made.append(name)
            time.sleep(pause_s)
            return placer._done(name)

        placer._make = make  # type: ignore[method-assign]
        return made

    def test_pictures_of_any_number_of_steps_come_from_the_daemon(self) -> None:
        self.serve()
        names = []
        for n in range(150):
            name = self.promise(f"media/images/{n}.png", f"k{n}")
            self.daemon_has(name, b"picture", key=f"k{n}")
            names.append(name)
        placer = self.placer()
        made = self.made_by(placer)
        for _ in range(3):
            self.assertTrue(placer.look(names, 0, 0))
        self.assertEqual((made, sorted(self.placed)), ([], sorted(names)))

    def test_steps_that_are_not_ready_keep_no_others_waiting(self) -> None:
        self.serve()
        names = [self.promise(f"media/images/{n}.png", f"k{n}") for n in range(70)]
        self.daemon_has(names[-1], b"picture", key="k69")
        placer = self.placer()
        self.assertFalse(placer.look(names, 9, 9))
        self.assertTrue(placer.look(names, 9, 9))
        self.assertEqual(self.placed, names[-1:])

    def test_finish_keeps_its_limit_while_the_daemon_hangs(self) -> None:
        self.serve()
        self.hangs.set()
        name = self.promise()
        placer = self.placer()
        start = time.monotonic()
        self.assertEqual(placer.finish(0.5), [name])
        self.assertLess(time.monotonic() - start, 2)

    def test_finish_keeps_its_limit_while_pictures_are_made(self) -> None:
        # No daemon answers. The thread is at work, too.
        names = [self.promise(f"media/images/{n}.png") for n in range(40)]
        placer = self.placer()
        made = self.made_by(placer, 0.2)
        for name in names:
            placer._since[name] = float("-inf")
        placer.promise(names[0])
        while not made:
            time.sleep(0.01)
        start = time.monotonic()
        missing = placer.finish(0.5)
        self.assertLess(time.monotonic() - start, 2)
        self.assertGreater(len(missing), 20)
        self.assertFalse(set(missing) & set(made))
        # The thread makes no more.
        n = len(made)
        time.sleep(0.5)
        self.assertEqual(len(made), n)

    def test_finish_waits_for_pictures_of_another_process(self) -> None:
        self.serve()
        name = self.promise()
        placer = self.placer()
        made = self.made_by(placer)
        threading.Timer(0.3, self.daemon_has, (name, b"picture")).start()
        self.assertEqual(placer.finish(30), [])
        self.assertEqual((made, self.content(name)), ([], b"picture"))

    def test_nothing_is_taken_that_is_not_the_picture(self) -> None:
        self.serve()
        name = self.promise()
        self.daemon_has(name, b"picture", sha256="0" * 64)
        with self.assertLogs("safelight", "WARNING") as logs:
            self.assertFalse(self.placer().look([name], 9, 9))
        self.assertIn("damaged", logs.output[0])
        self.assertIsNone(self.content(name))

    def test_a_daemon_that_fails_or_does_not_know_the_run_is_waited_for(self) -> None:
        name = self.promise()
        self.assertFalse(self.placer().look([name], 9, 0))
        self.serve()
        placer = self.placer()
        placer.promise(name)
        self.is_ill = True
        self.assertFalse(placer.look([name], 9, 0))
        self.is_ill, self.knows_run = False, False
        self.assertFalse(placer.look([name], 0, 9))
        self.assertIsNone(self.content(name))

    def test_a_name_outside_of_media_is_no_promise(self) -> None:
        for files in (
            {"image": "../x.png"},
            {"image": "media/../../x.png"},
            {"image": "/etc/x.png"},
            {"image": "media/a.png", "masks": {"m": "media/../x"}},
            {"image": 7},
            {"masks": {}},
            None,
        ):
            self.assertEqual(names_of({"wandb": {"files": files}}), [], files)
        self.assertEqual(names_of({"wandb": 3}) + names_of([]), [])

    def test_only_whole_lines_of_this_run_are_promises(self) -> None:
        self.promise()
        log = glob.glob(os.path.join(self.run_dir, "*.media.jsonl"))[0]
        promises = Promises(self.run_dir, "run-w")
        with open(log, "ab") as file:
            file.write(
                b'{"key":"k","step":1,"wandb":{"dir":"another","files":{"image":"media/b.png"}}}\n"wandb" {torn\n'
            )
            file.write(b'{"key":"k","step":1,"wandb":{"dir":"run-w","files":{"image":"media/c.png"}}}')
            file.flush()
            promises.update()
            self.assertEqual(list(promises.lines), ["media/images/k.png"])
            file.write(b"\n")
        promises.update()
        self.assertEqual(list(promises.lines), ["media/images/k.png", "media/c.png"])
