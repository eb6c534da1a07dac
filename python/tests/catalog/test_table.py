"""The table itself: how it is made, tidied and read."""

from __future__ import annotations

import collections
import datetime as dt
import json
import os
import unittest
from typing import Any
from unittest import mock

import polars as pl
from fleet_case import FleetCase, environment_of
from manifests import content, gone, item, without_image
from servers import KEYS, careless

import safelight.catalog
from safelight.catalog import CatalogError, _fold, _table
from safelight.catalog._fold import Folder
from safelight.catalog._table import Table, tidy

TODAY = dt.datetime.now(dt.timezone.utc).date()


def no_progress(_: str) -> None:
    pass


class ExitTest(FleetCase):
    def test_a_command_that_is_done_is_not_aborted_at_its_exit(self) -> None:
        # Bug: threads of libraries aborted a process that had printed its result.
        self.fleet.init()
        self.fleet.deliver("gpu-0", "r", 3)
        aborted = "import atexit, os, sys; from safelight.catalog import _cli; atexit.register(os.abort); "
        arguments = (aborted + "_cli.run(sys.argv[1:])", "fold", self.fleet.url, self.fleet.table_url, "--json")
        child = self.fleet.start(*arguments, script="-c")
        out, err = child.communicate(timeout=600)
        self.assertEqual((child.returncode, err), (0, ""))
        self.assertEqual(json.loads(out)["command"], "fold")


class TableTest(FleetCase):
    def fold_on(self, days_ago: int) -> None:
        """Makes a pass as if it were some days ago."""
        now = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=days_ago)

        class Then(dt.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> dt.datetime:  # type: ignore[override]
                return now

        with mock.patch.object(_fold, "datetime", Then):
            Folder(self.fleet.location, self.fleet.table_location, no_progress).fold()

    def files(self) -> dict[str, int]:
        """The number of files in the folder of each day."""
        found = collections.Counter[str]()
        for day in os.listdir(f"{self.folder}/catalog"):
            if day.startswith("day="):
                found[day] += sum(
                    name.endswith(".parquet") for name in os.listdir(f"{self.folder}/catalog/{day}")
                )
        return found

    def test_tidy_merges_days_that_are_over(self) -> None:
        self.fleet.init()
        for days_ago in (2, 1, 0):
            for _ in range(4):
                self.fleet.deliver("a", "r", 25)
                self.fold_on(days_ago)
        code, out, err = self.fleet.run("tidy", self.fleet.table_url, "--json")
        said = json.loads(out)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            (said["days"], said["files_before"], said["files_after"], said["files_removed"]), (2, 8, 2, 0)
        )
        self.assertEqual(self.check_rows(), 300)
        # What was merged is removed later, and nothing else.
        self.assertEqual(sum(self.files().values()), 14)
        with mock.patch.object(_table, "VACUUM_HOURS", 0):
            self.assertEqual(tidy(self.fleet.table_location).files_removed, 8)
        self.assertEqual(sorted(self.files().values()), [1, 1, 4])
        self.assertEqual(self.check_rows(), 300)
        # The committer goes on, as one with the old version of the table would.
        self.fleet.deliver("a", "r", 25)
        self.assertEqual(self.fleet.fold()["rows"], 25)
        self.check_rows()

    def test_tidy_removes_nothing_beside_foreign_files(self) -> None:
        self.fleet.init()
        self.fleet.deliver("a", "r", 1)
        self.fold_on(3)
        os.makedirs(f"{self.folder}/catalog/media/ab")
        with open(f"{self.folder}/catalog/media/ab/x.png", "wb"):
            pass
        with mock.patch.object(_table, "VACUUM_HOURS", 0), self.assertRaises(CatalogError) as caught:
            tidy(self.fleet.table_location)
        self.assertIn("found 'media' beside the table's files", str(caught.exception))
        self.assertTrue(os.path.exists(f"{self.folder}/catalog/media/ab/x.png"))

    def test_a_day_with_many_files_is_counted_by_filters_as_without(self) -> None:
        """DuckDB has left out files of a partition when a filter was on it (duckdb-delta#303, #220)."""
        self.fleet.init()
        folder = Folder(self.fleet.location, self.fleet.table_location, no_progress)
        for n in range(200):
            self.fleet.deliver(f"b{n % 10}", "r", 2)
            folder.fold()
        self.fold_on(0)
        self.assertEqual(sum(self.files().values()), 200)
        connection = self.fleet.duckdb()
        table = f"delta_scan('{self.fleet.table_location.delta_url}')"
        for where in (
            "true",
            f"day = DATE '{TODAY}'",
            f"day >= DATE '{TODAY}' - 7",
            f"day BETWEEN DATE '{TODAY}' - 1 AND DATE '{TODAY}' + 1",
            "day >= current_date - 7 AND manifest >= 1",
            f"day IN (DATE '{TODAY}', DATE '2020-01-01')",
            "box >= 'b0'",
        ):
            with self.subTest(where=where):
                query = f"SELECT count(*), count(DISTINCT (box, run, seq)) FROM {table} WHERE {where}"
                self.assertEqual(connection.execute(query).fetchone(), (400, 400))
        query = f"SELECT count(*) FROM {table} WHERE day < DATE '{TODAY}'"
        self.assertEqual(connection.execute(query).fetchone(), (0,))
        self.assertEqual(self.check_rows(), 400)

    def test_scan_gives_the_latest_version(self) -> None:
        self.fleet.init()
        lines = [item("a", "r", seq) for seq in range(8)]
        lines.append({**lines[0], "seq": 8, "caption": "again"})
        lines.append(gone({**lines[1], "seq": 9}))
        nowhere = {"key": None, "step": None, "index": None}
        lines += [without_image(item("a", "r", seq), "rejected", reason="bad", **nowhere) for seq in (10, 11)]
        # A dump that was rejected became an image, and another one did not.
        waits = [without_image(item("a", "r", seq), "rejected", index=None) for seq in (12, 13)]
        lines += [*waits, {**item("a", "r", 12), "seq": 14}]
        self.fleet.write("a", "r", 1, content(lines) + b"rubbish\nmore\n", [])
        # The same places in another box are other images.
        self.fleet.write("b", "r", 1, content([item("b", "r", seq) for seq in range(8)]), [])
        code, _, _ = self.fleet.run("fold", self.fleet.url, self.fleet.table_url)
        self.assertEqual(code, 3)
        every = safelight.catalog.scan(self.fleet.table_url).collect()
        self.assertEqual(len(every), 25)
        latest = safelight.catalog.scan(self.fleet.table_url, latest=True).collect()
        self.assertEqual(latest.columns, every.columns)
        counts = {
            (row["box"], row["state"]): row["len"] for row in latest.group_by("box", "state").len().to_dicts()
        }
        want = {("a", "image"): 8, ("a", "rejected"): 3, ("a", "unreadable"): 2, ("b", "image"): 8}
        self.assertEqual(counts, want)
        self.assertEqual(latest.filter(pl.col("caption") == "again")["seq"].to_list(), [8])
        since = safelight.catalog.scan(self.fleet.table_url, since=TODAY + dt.timedelta(days=1)).collect()
        self.assertEqual(len(since), 0)
        since = safelight.catalog.scan(self.fleet.table_url, latest=True, since=f"{TODAY}").collect()
        self.assertEqual(len(since), len(latest))

    def test_columns_have_what_lines_say(self) -> None:
        self.fleet.init()
        line = item("a", "r", 7, masks={"gt": {"object": "media/00/m.png"}}, time=1796032800.25, grouping=3)
        held = without_image(item("a", "r", 8), "held", reason="over", time=None)
        odd = item("a", "r", 9, time=1e300)
        self.fleet.write("a", "r", 1, content([line, held, odd]), [])
        self.fleet.fold()
        row, row_held, row_odd = safelight.catalog.scan(self.fleet.table_url).sort("seq").collect().to_dicts()
        self.assertEqual(row["day"], TODAY)
        self.assertEqual(row["time"], dt.datetime(2026, 11, 30, 10, 0, 0, 250000, dt.timezone.utc))
        self.assertEqual(row["object"], f"{self.fleet.url}/{line['object']}")
        for name in (
            "project",
            "key",
            "step",
            "index",
            "caption",
            "grouping",
            "width",
            "size",
            "rule",
            "format",
        ):
            self.assertEqual(row[name], line[name], name)
        for name in ("nan", "inf", "min", "max", "mean", "std", "clipped", "constant"):
            self.assertEqual(row[name], line["stats"][name], name)
        self.assertEqual((row["source"], row["xxh3"]), (line["source"]["path"], line["source"]["xxh3"]))
        left = {"log": "rank0-node-0.media.jsonl", "line": 7}
        self.assertEqual(json.loads(row["item"]), {"masks": line["masks"], "source": left})
        self.assertEqual((row_held["time"], row_held["object"], row_held["reason"]), (None, None, "over"))
        self.assertEqual((row_odd["time"], json.loads(row_odd["item"])["time"]), (None, 1e300))

    def test_a_table_with_other_columns_is_refused(self) -> None:
        import deltalake
        import pyarrow

        deltalake.DeltaTable.create(self.fleet.table_url, pyarrow.schema([("day", pyarrow.string())]))
        code, _, err = self.fleet.run("fold", self.fleet.url, self.fleet.table_url)
        self.assertEqual(code, 1)
        self.assertIn("lacks the columns day, time, project", err)
        code, _, err = self.fleet.run("init", self.fleet.url, self.fleet.table_url)
        self.assertEqual(code, 1)

    def test_a_store_without_conditional_writes_is_refused(self) -> None:
        with careless() as endpoint:
            self.fleet.environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint}
            code, out, err = self.fleet.run("init", "s3://media/fleet", "s3://media/catalog")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("the store replaced an object that exists", err)
        self.assertIn("tried to create .safelight-probe-", err)
        self.assertIn("twice with If-None-Match: *", err)

    def test_arguments_are_checked(self) -> None:
        cases = [
            (
                ("fold", "http://x/y", "file:///t"),
                "want one that begins with one of s3://, gs://, az://, file://",
            ),
            (("fold", "s3:///y", "file:///t"), "want a bucket after s3://"),
            (("fold", "file://host/y", "file:///t"), "want file:///FOLDER"),
            (("fold", "s3://b/y?x", "file:///t"), "without '?' and '#'"),
            (("fold", "file:///y", "file:///t", "--endpoint", "http://x"), "want them only with s3://"),
            (("fold", "file:///y", "file:///t", "--every", "0"), "want a number of seconds"),
            (("init", "file:///y/fleet", "file:///y"), "want the table in a folder of its own"),
            (("init", "file:///y", "file:///y/media/t"), "want the table in a folder of its own"),
            (("init", "file:///y", "file:///y z"), "want a URL of letters, digits"),
            (("fold",), "required: FLEET_URL, TABLE_URL"),
            ((), "required: COMMAND"),
        ]
        for arguments, want in cases:
            with self.subTest(arguments=arguments):
                code, out, err = self.fleet.run(*arguments)
                self.assertEqual((code, out), (2, ""))
                self.assertIn(want, err)

    def test_keys_are_not_repeated(self) -> None:
        from safelight.catalog._errors import first_words

        with environment_of({"AWS_SECRET_ACCESS_KEY": "s3cr3t/key"}):
            text = first_words(ValueError("got s3cr3t/key\n\nDebug source:\nmore"))
        self.assertEqual(text, "got [AWS_SECRET_ACCESS_KEY]")

    def test_the_table_is_opened_with_its_properties(self) -> None:
        self.fleet.init()
        properties = Table(self.fleet.table_location)._table.metadata().configuration
        self.assertEqual(properties, _table.PROPERTIES)


if __name__ == "__main__":
    unittest.main()
