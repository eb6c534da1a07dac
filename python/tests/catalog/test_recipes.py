"""The SQL and Python of docs/fleet.md, as it stands there, on a fleet in SeaweedFS."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import os
import re
import tempfile
import time
import unittest
from typing import Any

import obstore
from fleet_case import ROOT, Fleet, environment_of
from manifests import content, gone, item, without_image
from PIL import Image
from servers import KEYS, seaweedfs

PAGE = os.path.join(ROOT, "docs", "fleet.md")


def blocks(language: str) -> list[str]:
    with open(PAGE, encoding="utf-8") as file:
        return re.findall(rf"^```{language}\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)


def one(language: str, part: str) -> str:
    """The block that has this part."""
    (found,) = [block for block in blocks(language) if part in block]
    return found


def sql(part: str) -> str:
    """The statements with this part, without those that the harness makes up for: extensions and keys."""
    return re.sub(r"^INSTALL.*\n", "", one("sql", part))


def picture(color: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(out, "PNG")
    return out.getvalue()


@unittest.skipUnless("SAFELIGHT_WEED" in os.environ, "SAFELIGHT_WEED is not set")
class RecipesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.server = seaweedfs(os.environ["SAFELIGHT_WEED"])
        endpoint = cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)
        cls.environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
        with environment_of(cls.environment):
            cls.fleet = Fleet("s3://media", cls.environment, name="fleet")
        cls.now = time.time()
        cls.lines: list[dict[str, Any]] = []
        for i, box in enumerate(("gpu-1", "gpu-2")):
            cls.lines += cls.box(box, "7", i)
        cls.fleet.init()
        cls.fleet.fold()

    @classmethod
    def box(cls, box: str, run: str, i: int) -> list[dict[str, Any]]:
        """Delivers a run: pictures of ten steps, one with NaN now and one a month ago, a new version, one that is gone,
        a held and two rejected items."""
        lines = []
        for step in range(10):
            data = picture((20 * step, 100 * i, 0))
            digest = hashlib.sha256(data).hexdigest()
            name = f"media/{digest[:2]}/{digest}.png"
            obstore.put(cls.fleet.store, name, data)
            line = item(
                box, run, step, key="val/pred", step=step, sha256=digest, object=name, time=cls.now - 60
            )
            line["stats"]["nan"] = 0
            lines.append(line)
        lines[2]["stats"]["nan"] = 5
        lines[3]["stats"]["nan"] = 7
        lines[3]["time"] = cls.now - 30 * 86400
        lines.append({**lines[4], "seq": 10, "caption": "made again"})
        lines.append(gone({**lines[5], "seq": 11}))
        lines.append(
            without_image(item(box, run, 12, key="val/pred", step=2), "held", index=1, reason="over 108")
        )
        for seq, kind in ((13, "waiting"), (14, "final")):
            reason = f"npy data truncated ({kind})"
            nowhere = {"key": None, "step": None, "index": None, "class": kind, "reason": reason}
            lines.append(without_image(item(box, run, seq), "rejected", **nowhere))
        for line in lines:
            line["project"] = "digits"
        for n, some in enumerate((lines[:6], lines[6:]), 1):
            cls.fleet.write(box, run, n, content(some), some)
        return lines

    def connection(self, view: str) -> Any:
        """A connection with the view `items` of the page: of manifests, or of the table."""
        connection = self.fleet.duckdb()
        connection.execute(sql(view))
        connection.execute(sql("CREATE VIEW latest"))
        return connection

    def rows(self, connection: Any, part: str) -> list[dict[str, Any]]:
        found = connection.execute(sql(part))
        names = [column[0] for column in found.description]
        return [dict(zip(names, row)) for row in found.fetchall()]

    def check(self, connection: Any) -> None:
        url = "s3://media/fleet/"
        with_nan = self.rows(connection, "nan > 0\nORDER BY time DESC")
        want = {(line["box"], url + line["object"]) for line in self.lines if line["seq"] == 2}
        self.assertEqual({(row["box"], row["object"]) for row in with_nan}, want)
        self.assertEqual([row["nan"] for row in with_nan], [5, 5])

        latest = self.rows(connection, "WHERE box = 'gpu-1' AND run = '7'")
        places = sorted([(step, 0) for step in range(10) if step != 5] + [(2, 1)])
        self.assertEqual([(row["step"], row["index"]) for row in latest], places)
        self.assertEqual({row["caption"] for row in latest if row["step"] == 4}, {"made again"})

        rejected = self.rows(connection, "AS one_of_them")
        counts = {(row["box"], row["state"], row["class"]): row["n"] for row in rejected}
        kinds = (("held", None), ("rejected", "waiting"), ("rejected", "final"))
        self.assertEqual(counts, {(box, *kind): 1 for box in ("gpu-1", "gpu-2") for kind in kinds})
        self.assertIn("npy data truncated (final)", {row["reason"] for row in rejected})

        sheet = self.rows(connection, "QUALIFY")
        last = {line["box"]: url + line["object"] for line in self.lines if line["seq"] == 9}
        self.assertEqual(
            [(row["box"], row["step"], row["object"]) for row in sheet],
            [(b, 9, last[b]) for b in sorted(last)],
        )

    def test_questions_to_the_table(self) -> None:
        self.check(self.connection("delta_scan"))

    def test_questions_to_the_manifests(self) -> None:
        self.check(self.connection("read_json"))

    def test_the_question_of_the_three_commands(self) -> None:
        console = one("console", "safelight sync fleet --once")
        (query,) = re.findall(r'duckdb -c "(.*?)"', console, re.DOTALL)
        rows = self.fleet.duckdb().execute(query).fetchall()
        self.assertEqual(
            sorted((row[0], row[3], row[4]) for row in rows),
            [(b, s, n) for b in ("gpu-1", "gpu-2") for s, n in ((2, 5), (3, 7))],
        )

    def test_python(self) -> None:
        names: dict[str, Any] = {}
        before = os.getcwd()
        with environment_of(self.environment), tempfile.TemporaryDirectory() as folder:
            os.environ["AWS_ALLOW_HTTP"] = "true"
            os.chdir(folder)
            try:
                for block in blocks("python"):
                    exec(compile(block, PAGE, "exec"), names)
                with Image.open("sheet.png") as sheet:
                    size, pixels = sheet.size, [sheet.getpixel((128 * i + 1, 1)) for i in range(3)]
            finally:
                os.chdir(before)
                del os.environ["AWS_ALLOW_HTTP"]
        self.assertEqual(
            sorted(names["with_nan"].rows()),
            [(b, "7", "val/pred", s) for b in ("gpu-1", "gpu-2") for s in (2, 3)],
        )
        self.assertEqual(sorted(names["sheet"]["box"]), ["gpu-1", "gpu-2"])
        self.assertEqual(size, (1024, 128))
        self.assertEqual(sorted(pixels), [(0, 0, 0), (180, 0, 0), (180, 100, 0)])

    def test_the_page_names_each_column(self) -> None:
        from safelight.catalog._rows import COLUMNS

        with open(PAGE, encoding="utf-8") as file:
            table = file.read().partition("| column | type | what |")[2].partition("\n\n")[0]
        named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
        self.assertEqual(sorted(named), sorted(name for name, _ in COLUMNS))

    def test_the_day_of_the_page_is_of_these_days(self) -> None:
        """The page's `since` must not leave out what the test has made."""
        since = re.search(r'since="([0-9-]+)"', one("python", "since="))
        assert since is not None
        self.assertLess(dt.date.fromisoformat(since[1]), dt.datetime.now(dt.timezone.utc).date())


if __name__ == "__main__":
    unittest.main()
