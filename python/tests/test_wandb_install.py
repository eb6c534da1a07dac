"""Tests of how `safelight.wandb` gets into a process and out of it, and of the names of wandb that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from wandb_case import PACKAGE, Case, numpy, wandb

from safelight.wandb import _on_import
from safelight.wandb._daemon import default_sockets
from safelight.wandb._names import profile_of


@unittest.skipUnless(wandb and numpy, "needs wandb and NumPy")
class Install(Case):
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

    def test_an_unknown_profile_is_refused(self) -> None:
        said = self.script(
            """
import wandb
init = wandb.Image.__init__
try:
    safelight.wandb.install("run", profile="wandb-29")
except ValueError as error:
    print(error, wandb.Image.__init__ is init)
"""
        )
        self.assertIn("got profile 'wandb-29', want auto, wandb-0.10, ", said)
        self.assertIn("True", said)
        # A training is not stopped by a variable.
        said = self.script(
            "safelight.wandb.install_on_import()\nimport wandb", SAFELIGHT_WANDB_PROFILE="wandb-29"
        )
        self.assertIn("pictures are left to wandb: ValueError: got profile 'wandb-29'", said)

    def test_the_names_of_a_run_are_checked(self) -> None:
        said = self.script(
            """
import wandb
for name in "_interface", "_backend":
    wandb.sdk.wandb_run.Run.__annotations__.pop(name, None)
print(safelight.wandb.install("run"))
"""
        )
        self.assertIn("it lacks: run._interface", said)
        self.assertIn("False", said)

    def test_a_site_of_the_user_is_run_even_if_safelight_is_missing(self) -> None:
        os.mkdir(self.at("site"))
        with open(self.at("site/sitecustomize.py"), "w", encoding="utf-8") as file:
            file.write("print('their own')")
        start = os.path.join(PACKAGE, "safelight/wandb/_start")
        path = os.pathsep.join([start, self.at("site")])
        ran = self.python("-c", "print('training')", PYTHONPATH=path)
        self.assertEqual((ran.returncode, ran.stdout), (0, "their own\ntraining\n"), ran.stderr)
        self.assertIn("pictures are left to wandb: No module named 'safelight'", ran.stderr)

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

    def test_sockets_are_where_a_daemon_listens_by_default(self) -> None:
        machine = "/run/safelight/control.sock"
        for user, variables, want in (
            (0, {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}, []),
            (7, {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}, ["/run/user/7/safelight/control.sock"]),
            (7, {"XDG_RUNTIME_DIR": "relative", "HOME": "/h"}, ["/h/.local/share/safelight/control.sock"]),
            (7, {"XDG_DATA_HOME": "/d", "HOME": "/h"}, ["/d/safelight/control.sock"]),
            (7, {"TMPDIR": "/t"}, ["/t/safelight-7/control.sock"]),
            (7, {}, ["/tmp/safelight-7/control.sock"]),
        ):
            with (
                mock.patch.dict(os.environ, variables, clear=True),
                mock.patch("os.geteuid", return_value=user),
            ):
                self.assertEqual(default_sockets(), [*want, machine])
        with mock.patch.dict(os.environ, {"SAFELIGHT_SOCKET": "/s"}, clear=True):
            self.assertEqual(default_sockets(), ["/s"])

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
