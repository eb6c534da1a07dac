"""From two boxes' stores, made by the real program, to rows and to the pictures that they name."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import unittest
from typing import Any

from fleet_case import FleetCase, environment_of

from safelight import Image, Run
from safelight.catalog import scan

PROGRAM = os.environ.get("SAFELIGHT_PROGRAM", "")


def npy() -> bytes:
    """A dump of 4 × 4 bytes."""
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 4), }"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(range(16))


@unittest.skipUnless(PROGRAM, "SAFELIGHT_PROGRAM is not set")
class ProgramTest(FleetCase):
    def safelight(self, box: str, *arguments: str, code: int = 0) -> str:
        """Runs the program on the store of a box. Returns what it prints."""
        place = os.path.join(self.folder, box)
        config = os.path.join(place, "safelight.toml")
        if not os.path.exists(config):
            os.makedirs(place, exist_ok=True)
            with open(config, "w") as file:
                file.write(
                    f'[sync.fleet]\nkind = "object_store"\nurl = "{self.fleet.url.replace(" ", "%20")}"\n'
                    f'box = "{box}"\nannounce = true\n[limits]\nmax_items = 3\n'
                )
        ran = subprocess.run(
            [PROGRAM, *arguments, "--config", config, "--store", os.path.join(place, "store")],
            capture_output=True,
            text=True,
        )
        self.assertEqual(ran.returncode, code, (ran.stdout, ran.stderr))
        return ran.stdout

    def deliver(self, box: str, first: int, n_steps: int) -> None:
        """A job on a box logs some steps with four pictures each, of which one is held, and a dump that is rejected."""
        where = os.path.join(self.folder, box, "runs", "7")
        run = Run(where, project="digits")
        for step in range(first, first + n_steps):
            values = [[step / 100, 0.5, float("nan") if step == 3 else 0.25]]
            run.log({"val/pred": [Image(values, caption=f"{box} {step} {i}") for i in range(4)]}, step=step)
        run.finish()
        bad, late = (
            os.path.join(where, "dumps", "bad", f"{first}.npy"),
            os.path.join(where, "dumps", "late", "0.npy"),
        )
        for path, text in ((bad, b"\x93NUMPY rubbish" * 100), (late, b"")):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(text)
        if first:
            # A dump that was rejected at first is whole now.
            with open(late, "wb") as file:
                file.write(npy())
        self.safelight(box, "ingest", where, code=3)
        self.safelight(box, "sync", "fleet", "--once")

    def items(self, box: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.safelight(box, "ls", "--json").splitlines()]

    def test_two_boxes_with_the_same_run(self) -> None:
        self.fleet.init()
        for first in (0, 5):
            for box in ("gpu-1", "gpu-2"):
                self.deliver(box, first, 5)
            self.assertEqual(self.fleet.fold()["unreadable"], 0)
        self.assertEqual(self.fleet.names("inbox"), [])
        with environment_of({}):
            rows = scan(self.fleet.table_url, latest=True).collect().to_dicts()
        place = ("box", "run", "key", "step", "index", "state", "caption", "reason")
        want = [{**item, "box": box} for box in ("gpu-1", "gpu-2") for item in self.items(box)]
        self.assertEqual(len(want), 2 * (10 * 4 + 3))

        def listed(items: list[dict[str, Any]]) -> list[str]:
            return sorted(json.dumps([item[name] for name in place]) for item in items)

        self.assertEqual(listed(rows), listed(want))
        # `--from` shows the same.
        url, shown = self.fleet.url.replace(" ", "%20"), []
        for box in ("gpu-1", "gpu-2"):
            command = [PROGRAM, "ls", "--from", url, f"{box}/7", "--json"]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            shown += [json.loads(line) for line in text.splitlines()]
        self.assertEqual(listed(shown), listed(want))
        self.assertEqual({row["project"] for row in rows}, {"digits"})
        self.assertEqual(
            {(row["box"], row["step"]) for row in rows if row["nan"]}, {("gpu-1", 3), ("gpu-2", 3)}
        )
        pictures = [row for row in rows if row["state"] == "image"]
        self.assertEqual(len(pictures), 2 * (10 * 3 + 1))
        for row in pictures:
            path = row["object"].removeprefix("file://")
            with open(path, "rb") as file:
                self.assertEqual(
                    hashlib.sha256(file.read()).hexdigest(), os.path.basename(path).partition(".")[0]
                )
            self.assertIsNotNone(row["time"])


if __name__ == "__main__":
    unittest.main()
