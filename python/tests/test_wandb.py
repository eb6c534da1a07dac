"""Tests of `safelight.wandb` with the installed wandb, in offline runs. They are skipped if it is not installed.

`tests/it/wandb_handover.rs` compares whole runs, row by row, with a daemon and a stand-in for W&B's server.
"""

from __future__ import annotations

import glob
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse
from typing import Any

from live import installed

from safelight import Image, Run
from safelight.wandb import _on_import
from safelight.wandb._daemon import Daemon
from safelight.wandb._names import profile_of
from safelight.wandb._place import Placer
from safelight.wandb._promises import Promises, names_of

numpy: Any = installed("numpy")
wandb: Any = installed("wandb")

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

START = """
import os, sys, threading, warnings
import numpy as np
import safelight.wandb
def begin(**options):
    import wandb
    settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True)
    return wandb.init(project="vision", settings=settings, **options)
def photo(n=0):
    return np.full((6, 8, 3), n, np.uint8)
"""


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def at(self, *path: str) -> str:
        return os.path.join(self.folder, *path)

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs Python in the folder, with wandb offline and no daemon."""
        environment = {**os.environ, "PYTHONPATH": PACKAGE, "WANDB_MODE": "offline", "HOME": self.folder}
        environment.update(
            SAFELIGHT_SOCKET=self.at("control.sock"), WANDB_ERROR_REPORTING="false", WANDB_SILENT="true"
        )
        environment.update(variables)
        command = [sys.executable, "-B", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def script(self, code: str, code_wanted: int = 0, **variables: str) -> str:
        """Runs a script and returns what it printed."""
        ran = self.python("-c", START + code, **variables)
        self.assertEqual(ran.returncode, code_wanted, ran.stdout + ran.stderr)
        return ran.stdout + ran.stderr

    def lines(self, directory: str = "run") -> list[dict[str, Any]]:
        """The lines with promises of a run directory."""
        promises = Promises(self.at(directory))
        promises.update()
        return list(promises.lines.values())

    def missing(self, directory: str = "run") -> list[str]:
        """Promised files that are not in the W&B run."""
        files = [
            os.path.join(self.folder, "wandb", line["wandb"]["dir"], "files", name)
            for line in self.lines(directory)
            for name in names_of(line)
        ]
        self.assertNotEqual(files, [])
        return [file for file in files if not os.path.isfile(file)]

    def place(self) -> str:
        ran = self.python("-m", "safelight.wandb", "place", "run", ".")
        return f"{ran.returncode} {ran.stdout}"


@unittest.skipUnless(wandb and numpy, "needs wandb and NumPy")
class Trainings(Case):
    def test_every_picture_is_in_its_run(self) -> None:
        said = self.script(
            """
safelight.wandb.install("run/{project}/{id}")
import wandb
plain = wandb.Image(photo(), mode="L")
run = begin(id="abc")
masks = {"gt": {"mask_data": np.ones((6, 8), int), "class_labels": {1: "car"}}}
boxes = {"p": {"box_data": [{"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}]}}
run.log({"val/x": wandb.Image(photo(7), caption="seven", masks=masks, boxes=boxes), "plain": plain}, step=5)
run.log({"a": [wandb.Image(photo(i), caption=str(i)) for i in range(3)]}, commit=False)
def work(n):
    for i in range(5):
        wandb.log({f"thread/{n}": wandb.Image(photo(i))})
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
large = np.zeros((800, 900, 3), np.uint8)
image = wandb.Image(large); large[:] = 9
wandb.log({"large": image})
run.finish()
"""
        )
        self.assertNotIn("safelight", said.lower())
        lines = self.lines("run/vision/abc")
        self.assertEqual(self.missing("run/vision/abc"), [])
        self.assertEqual(len(lines), 1 + 3 + 15 + 1)
        first = lines[0]
        wanted = {"key": "val/x", "step": 5, "caption": "seven", "format": "HWC"}
        self.assertEqual({name: first[name] for name in wanted}, wanted)
        self.assertEqual(first["profile"], profile_of(wandb.__version__))
        self.assertEqual(first["masks"]["gt"]["class_labels"], {"1": "car"})
        self.assertEqual(first["boxes"]["p"]["box_data"][0]["class_id"], 1)
        files = first["wandb"]["files"]
        self.assertRegex(files["image"], r"^media/images/val/x_\d_[0-9a-f]{20}\.png$")
        self.assertRegex(files["masks"]["gt"], r"^media/images/mask/val/x_\d_[0-9a-f]{20}\.mask\.png$")
        self.assertTrue(all(line["step"] == 5 for line in lines[:4]))
        pillow = installed("PIL.Image")
        folder = self.at("wandb", first["wandb"]["dir"], "files")
        picture = pillow.open(os.path.join(folder, files["image"]))
        self.assertEqual((picture.mode, picture.size, picture.getpixel((1, 2))), ("RGB", (8, 6), (7, 7, 7)))
        mask = pillow.open(os.path.join(folder, files["masks"]["gt"]))
        self.assertEqual((mask.mode, mask.size, mask.getextrema()), ("L", (8, 6), (1, 1)))
        large = pillow.open(os.path.join(folder, lines[-1]["wandb"]["files"]["image"]))
        self.assertEqual(large.getextrema(), ((0, 0), (0, 0), (0, 0)))
        with open(self.at("run/vision/abc/safelight.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["project"], "vision")
        with open(glob.glob(self.at("run/vision/abc/*.jsonl"))[0], encoding="utf-8") as file:
            self.assertEqual(json.loads(file.read().splitlines()[-1]), {"finish": True})

    def test_tables_and_artifacts_are_those_of_wandb(self) -> None:
        script = os.path.join(os.path.dirname(PACKAGE), "tests/wandb_script.py")
        path = self.python("-m", "safelight.wandb", "path").stdout.strip()
        for name, variables in ("plain", {}), ("ours", {"PYTHONPATH": path, "SAFELIGHT_WANDB": "run"}):
            os.mkdir(self.at(name))
            # wandb writes sets in the order of their hashes.
            variables = {**variables, "PYTHONHASHSEED": "0", "HOME": self.at(name)}
            ran = self.python(script, self.at(name), "same", "tables", **variables)
            self.assertEqual(ran.returncode, 0, ran.stderr)
        # What was in a table first has a file of wandb.
        self.assertEqual([line["key"] for line in self.lines()], ["first"])
        plain, ours = (self._contents(self.at(name)) for name in ("plain", "ours"))
        self.assertEqual(ours, plain)
        self.assertGreater(len(plain), 10)

    def _contents(self, folder: str) -> list[Any]:
        """The media files and staged files of artifacts below a folder: pixels, and text without digests."""
        pillow, found = installed("PIL.Image"), []
        for where, _, names in os.walk(folder):
            for name in names if "/staging" in where or "/media/" in where else []:
                with open(os.path.join(where, name), "rb") as file:
                    content = file.read()
                if content.startswith(b"\x89PNG"):
                    picture = pillow.open(io.BytesIO(content))
                    found.append(repr((picture.mode, picture.size, picture.tobytes())))
                else:
                    found.append(re.sub(r"[0-9a-f]{20,64}", "", content.decode()))
        return sorted(found)

    def test_a_killed_training_leaves_its_pictures_for_place(self) -> None:
        code = """
safelight.wandb.install("run")
import wandb
run = begin(id="killed")
for n in range(10):
    run.log({"x": wandb.Image(photo(n)), "list": [wandb.Image(photo(n)) for _ in range(3)]})
os.kill(os.getpid(), 9)
"""
        self.script(code, -9)
        n = len(self.missing())
        self.assertGreater(n, 0)
        there = 40 - n
        self.assertEqual(self.place(), f"0 {there} pictures were there, {n} were put there, 0 are missing\n")
        self.assertEqual(self.missing(), [])
        self.assertEqual(self.place(), "0 40 pictures were there, 0 were put there, 0 are missing\n")
        lost = self.lines()[3]
        os.unlink(self.at("wandb", lost["wandb"]["dir"], "files", lost["wandb"]["files"]["image"]))
        # Small arrays of one call are in one file.
        os.unlink(self.at("run", lost["data"]["path"]))
        self.assertEqual(self.place(), "1 39 pictures were there, 0 were put there, 1 are missing\n")

    def test_finish_names_what_is_missing(self) -> None:
        said = self.script(
            """
safelight.wandb.install("run", finish_s=0)
import wandb
with begin(id="short") as run:
    run.log({"list": [wandb.Image(photo(n)) for n in range(30)]})
"""
        )
        n = len(self.missing())
        self.assertGreater(n, 0)
        self.assertIn(f"{n} pictures are not in the W&B run short: media/images/list_0_", said)
        self.assertIn("place", said)
        self.assertTrue(self.place().endswith("0 are missing\n"))
        self.assertEqual(self.missing(), [])

    def test_a_forked_process_leaves_its_pictures_to_the_one_that_ends_the_run(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
run = begin(id="forked")
run.log({"parent": wandb.Image(photo())})
child = os.fork()
if child == 0:
    run.log({"child": wandb.Image(photo(9))})
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
run.log({"parent": wandb.Image(photo())})
"""
        )
        self.assertEqual(sorted(line["key"] for line in self.lines()), ["child", "parent", "parent"])
        self.assertEqual(self.missing(), [])

    def test_an_exception_ends_the_run_with_its_pictures(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
run = begin()
run.log({"x": wandb.Image(photo())})
raise SystemError("as planned")
""",
            1,
        )
        self.assertEqual(self.missing(), [])
        with open(glob.glob(self.at("run/*.jsonl"))[0], encoding="utf-8") as file:
            self.assertNotIn("finish", file.read())

    def test_what_cannot_be_handed_over_is_left_to_wandb(self) -> None:
        with open(self.at("run"), "w", encoding="utf-8"):
            pass
        said = self.script(
            """
import wandb
safelight.wandb.install("run")
with begin(id="x") as run:
    run.log({"x": wandb.Image(photo()), "list": [wandb.Image(photo(n)) for n in range(2)]})
"""
        )
        self.assertEqual(len(glob.glob(self.at("wandb/*-x/files/media/images/*.png"))), 3)
        self.assertIn("left to wandb", said)

    def test_a_disabled_run_writes_nothing(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
with begin(mode="disabled") as run:
    image = wandb.Image(photo(3), masks={"m": {"mask_data": np.ones((6, 8), int)}})
    run.log({"x": image})
    assert image.image.getpixel((0, 0)) == (3, 3, 3)
"""
        )
        self.assertFalse(os.path.exists(self.at("run")))

    def test_several_runs_of_one_process_have_directories_of_their_own(self) -> None:
        self.script(
            """
safelight.wandb.install("run/{id}")
import wandb
for id in "one", "two":
    with begin(id=id) as run:
        run.log({"x": wandb.Image(photo())})
"""
        )
        self.assertEqual(self.missing("run/one") + self.missing("run/two"), [])

    def test_uninstall_gives_wandb_its_methods_back(self) -> None:
        self.script(
            """
import wandb
from wandb.sdk.data_types.base_types.media import Media
from wandb.sdk.data_types.helper_types.image_mask import ImageMask
kinds = (wandb.Image, ImageMask, Media, wandb.sdk.wandb_run.Run)
before = [dict(vars(kind)) for kind in kinds]
assert safelight.wandb.install("run") and safelight.wandb.install("run")
image = wandb.Image(photo())
assert [dict(vars(kind)) for kind in kinds] != before
run = begin()
run.log({"x": image})
safelight.wandb.uninstall()
assert [dict(vars(kind)) for kind in kinds] == before
run.log({"y": wandb.Image(photo())})
run.finish()
"""
        )
        self.assertEqual([line["key"] for line in self.lines()], ["x"])

    def test_a_release_without_the_names_is_left_as_it_is(self) -> None:
        said = self.script(
            """
import wandb
from wandb.sdk.data_types.base_types import media
del media._wb_filename
wandb.__version__ = "0.20.0"
init = wandb.Image.__init__
print(safelight.wandb.install("run"), wandb.Image.__init__ is init)
"""
        )
        self.assertIn("False True", said)
        self.assertRegex(said, r"wandb 0\.20\.0 is left as it is, it lacks: a version.*; media\._wb_filename")

    def test_a_script_runs_unchanged_with_its_children(self) -> None:
        script = """
import subprocess, sys
import numpy as np
import wandb
settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True)
with wandb.init(id=sys.argv[1], settings=settings) as run:
    run.log({"x": wandb.Image(np.zeros((4, 5), np.uint8))})
print(sys.argv[2:], __name__, sys.path[0] == sys.argv[3])
if sys.argv[1] == "first":
    subprocess.run([sys.executable, __file__, "second", *sys.argv[2:]], check=True)
"""
        with open(self.at("train.py"), "w", encoding="utf-8") as file:
            file.write(script)
        os.mkdir(self.at("site"))
        with open(self.at("site/sitecustomize.py"), "w", encoding="utf-8") as file:
            file.write("print('their own')")
        variables = {"PYTHONPATH": f"{PACKAGE}{os.pathsep}{self.at('site')}"}
        command = ["-m", "safelight.wandb", "--dir", "run/{id}", "train.py", "first", "--dir", self.folder]
        ran = self.python(*command, **variables)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stdout.count(f"['--dir', '{self.folder}'] __main__ True"), 2, ran.stdout)
        self.assertEqual(ran.stdout.count("their own"), 3)
        self.assertEqual(self.missing("run/first") + self.missing("run/second"), [])
        # The same by the environment alone.
        path = self.python("-m", "safelight.wandb", "path").stdout.strip()
        ran = self.python("train.py", "third", "", self.folder, PYTHONPATH=path, SAFELIGHT_WANDB="run/third")
        self.assertEqual((ran.returncode, self.missing("run/third")), (0, []), ran.stderr)

    def test_usage(self) -> None:
        for arguments in (), ("-m",), ("place", "run"), ("--unknown", "train.py"), ("no-such-program",):
            ran = self.python("-m", "safelight.wandb", *arguments)
            self.assertEqual(ran.returncode, 2, ran.stderr)


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

    def promise(self, name: str = "media/images/k.png") -> str:
        extra = {"wandb": {"run": "w", "dir": "run-w", "files": {"image": name}}}
        self.assertTrue(self.run_of._log_image("k", 1, Image([[1]]), extra))
        return name

    def placer(self) -> Placer:
        daemon, library = Daemon(self.at("control.sock")), None
        files = self.at("files")
        return Placer(self.run_dir, "run-w", files, daemon, library, self.placed.extend)  # type: ignore[arg-type]

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


class Names(unittest.TestCase):
    def test_profiles_of_releases(self) -> None:
        for version, profile in {
            "0.18.7": None,
            "0.19.11": "wandb-0.10",
            "0.20.0": None,
            "0.20.1": "wandb-0.20",
            "0.28.2": "wandb-0.20",
            "0.29.0": "wandb-0.29",
            "0.31.0rc1": "wandb-0.29",
            "1.2.3": "wandb-0.29",
            "dev": None,
        }.items():
            self.assertEqual(profile_of(version), profile, version)

    def test_a_function_is_called_once_a_module_is_imported(self) -> None:
        calls: list[int] = []
        sys.modules.pop("this_is_new", None)
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "this_is_new.py"), "w", encoding="utf-8") as file:
                file.write("x = 1")
            sys.path.insert(0, folder)
            self.addCleanup(sys.path.remove, folder)
            _on_import.after_import("this_is_new", lambda: calls.append(sys.modules["this_is_new"].x))
            self.assertEqual(calls, [])
            __import__("this_is_new")
            self.assertEqual(calls, [1])
            _on_import.after_import("this_is_new", lambda: calls.append(2))
            self.assertEqual(calls, [1, 2])
