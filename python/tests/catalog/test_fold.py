"""`safelight-catalog` with a directory: each line once, whatever happens in between."""

from __future__ import annotations

import json
import os
import re
import unittest
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

import obstore
from fleet_case import FleetCase
from manifests import content, item

from safelight.catalog import _fold, _manifests, _table, _txn
from safelight.catalog._table import Table


def no_progress(_: str) -> None:
    pass


class FoldTest(FleetCase):
    def committer(self) -> _fold.Folder:
        return _fold.Folder(self.fleet.location, self.fleet.table_location, no_progress)

    def test_two_boxes_with_the_same_run_keep_all_lines(self) -> None:
        """Of 8 items of two boxes with the same run id, 6 lines remained in the object store."""
        self.fleet.init()
        for _ in range(3):
            for box in ("gpu-1", "gpu-2"):
                self.fleet.deliver(box, "exp 7/a", 40)
        said = self.fleet.fold()
        self.assertEqual((said["rows"], said["manifests"], said["commits"], said["markers"]), (240, 6, 1, 6))
        self.assertEqual(self.check_rows(), 240)
        self.assertEqual(self.fleet.names("inbox"), [])
        # A second pass finds nothing, and a second init changes nothing.
        self.assertEqual(self.fleet.fold()["commits"], 0)
        code, out, _ = self.fleet.run("init", self.fleet.url, self.fleet.table_url, "--json")
        self.assertEqual((code, json.loads(out)["is_new"]), (0, False))
        self.check_rows()

    def test_manifests_without_markers_are_folded_on_request_and_into_an_empty_table(self) -> None:
        self.fleet.init()
        self.fleet.deliver("a", "r", 10, announce=False)
        self.assertEqual(self.fleet.fold()["rows"], 10)
        self.fleet.deliver("a", "r", 10, announce=False)
        self.fleet.deliver("b", "r", 10, announce=False)
        self.assertEqual(self.fleet.fold()["rows"], 0)
        self.assertEqual(self.fleet.fold("--all")["rows"], 20)
        # A marker stands for all manifests before it.
        self.fleet.deliver("b", "r", 10, announce=False)
        self.fleet.deliver("b", "r", 10)
        self.assertEqual(self.fleet.fold()["rows"], 20)
        self.check_rows()

    def test_a_lost_table_is_made_again_of_all_manifests(self) -> None:
        self.fleet.init()
        for _ in range(2):
            self.fleet.deliver("a", "r", 100)
            self.fleet.fold()
        os.rename(f"{self.folder}/catalog", f"{self.folder}/lost")
        code, _, err = self.fleet.run("fold", self.fleet.url, self.fleet.table_url)
        self.assertEqual(code, 1)
        self.assertIn("found no table at file:///", err)
        self.assertIn("safelight-catalog init", err)
        self.fleet.init()
        self.assertEqual(self.fleet.fold()["rows"], 200)
        self.check_rows()

    def test_a_url_without_manifests_is_named(self) -> None:
        # Bug: with another URL than that of the boxes, each pass said "nothing new" and no more.
        self.fleet.init()
        code, out, err = self.fleet.run("fold", self.fleet.url, self.fleet.table_url)
        self.assertEqual((code, "nothing new" in out), (0, True))
        self.assertIn(f"there are no manifests at {self.fleet.url}: ", err)
        code, _, err = self.fleet.run("fold", f"{self.fleet.url}/none", self.fleet.table_url)
        self.assertEqual(code, 1)
        self.assertIn("none: there is no such directory", err)

    def test_a_marker_that_comes_again_is_only_deleted(self) -> None:
        self.fleet.init()
        self.fleet.deliver("a", "r", 10)
        self.fleet.fold()
        obstore.put(self.fleet.store, "inbox/a/r/00000001", b"")
        said = self.fleet.fold()
        self.assertEqual((said["rows"], said["markers_deleted"]), (0, 1))
        self.assertEqual(self.fleet.names("inbox"), [])

    def test_a_line_that_is_no_item_is_kept_and_named(self) -> None:
        self.fleet.init()
        good = [item("a", "r", 0), item("a", "r", 1)]
        broken = [
            b'{"half":',
            b"\xff\xfe",
            b"[1]",
            content([{**item("a", "r", 2), "step": -1}]).strip(),
            content([{**item("a", "r", 2), "step": 1 << 63}]).strip(),
            content([{**item("a", "r", 2), "caption": 7}]).strip(),
            content([{**item("a", "r", 2), "seq": None}]).strip(),
            content([{**item("a", "r", 2), "v": None}]).strip(),
            content([{**item("other", "r", 2)}]).strip(),
            b'{"caption":"\\ud800"}',
            content([item("a", "r", 2)]).strip().replace(b'"inf": 0', b'"inf": NaN'),
            b'{"x":' * 5000 + b"1" + b"}" * 5000,
        ]
        text = content(good[:1]) + b"\n".join(broken) + b"\n" + content(good[1:])
        self.fleet.write("a", "r", 1, text, good)
        self.fleet.deliver("b", "r", 5)
        code, out, err = self.fleet.run("fold", self.fleet.url, self.fleet.table_url, "--json")
        said = json.loads(out)
        self.assertEqual((code, said["rows"], said["unreadable"]), (3, 7 + len(broken), len(broken)))
        self.assertIn("line 2 of runs/a/r/00000001.jsonl is kept as unreadable: not JSON", err)
        self.assertIn(
            "field 'step': got 9223372036854775808, want an integer of 0 to 9223372036854775807", err
        )
        self.assertIn("field 'caption': got 7, want a text", err)
        self.assertIn("got box 'other' and run 'r' in a manifest of 'a' and 'r'", err)
        self.assertEqual(self.fleet.names("inbox"), [])
        query = "SELECT box, run, reason, item->>'$.text' FROM delta_scan(?) WHERE state = 'unreadable' ORDER BY item->'$.line'"
        rows = self.fleet.duckdb().execute(query, [self.fleet.table_location.delta_url]).fetchall()
        self.assertEqual(len(rows), len(broken))
        texts = {row[3] for row in rows}
        self.assertEqual(texts, {line.decode("utf-8", "replace") for line in broken})
        self.assertEqual({row[:2] for row in rows}, {("a", "r")})

    def test_a_run_that_cannot_go_on_waits_and_others_do_not(self) -> None:
        self.fleet.init()
        self.fleet.deliver("a", "r", 10)
        hole = self.fleet.deliver("a", "r", 10)
        self.fleet.deliver("a", "r", 10)
        newer = content([{**item("n", "r", 0), "v": 2}])
        self.fleet.write("n", "r", 1, newer, [])
        self.fleet.deliver("z", "r", 10)
        away = obstore.get(self.fleet.store, hole).bytes()
        obstore.delete(self.fleet.store, hole)
        code, out, err = self.fleet.run("fold", self.fleet.url, self.fleet.table_url, "--json")
        self.assertEqual((code, json.loads(out)["rows"]), (1, 20))
        self.assertIn(f"cannot fold {hole}, so its run waits: the manifest is missing", err)
        self.assertIn(
            "cannot fold runs/n/r/00000001.jsonl, so its run waits: got lines of format 2, want at most 1",
            err,
        )
        self.assertEqual(len(json.loads(out)["blocked"]), 2)
        self.assertEqual(len(self.fleet.names("inbox")), 3)
        obstore.put(self.fleet.store, hole, away)
        code, out, _ = self.fleet.run("fold", self.fleet.url, self.fleet.table_url, "--json")
        self.assertEqual((code, json.loads(out)["rows"], len(self.fleet.names("inbox"))), (1, 20, 1))
        self.check_rows()

    def test_a_long_run_that_waits_does_not_hide_others(self) -> None:
        self.fleet.init()
        names = [self.fleet.deliver("a", "r", 1) for _ in range(200)]
        obstore.delete(self.fleet.store, names[0])
        self.fleet.deliver("z", "r", 10)
        folded = self.committer().fold()
        self.assertEqual((folded.rows, [one.manifest for one in folded.blocked]), (10, [names[0]]))

    def test_old_markers_are_a_warning(self) -> None:
        self.fleet.init()
        self.fleet.deliver("a", "r", 1)
        old = datetime.now().timestamp() - 7300
        os.utime(f"{self.folder}/my fleet/inbox/a/r/00000001", (old, old))
        code, out, err = self.fleet.run("fold", self.fleet.url, self.fleet.table_url)
        self.assertEqual(code, 0)
        self.assertIn("1 row of 1 manifest in 1 commit", out)
        self.assertIn("the oldest marker had waited for 2.0 h", err)

    def test_an_expired_txn_is_replaced_by_the_rows(self) -> None:
        """Of a run that was quiet for 90 days, the table has forgotten the last manifest."""
        self.fleet.init()
        # Names with quotes, in a query.
        box, run = "o'box", 'r"1'
        self.fleet.deliver(box, run, 20)
        self.fleet.deliver(box, run, 20)
        long_ago = datetime.now(timezone.utc) - timedelta(days=91)
        with mock.patch.object(_table.time, "time", long_ago.timestamp):
            self.committer().fold()
        self.check_rows()
        table = Table(self.fleet.table_location)
        (folder,) = {name.removeprefix("runs/").rpartition("/")[0] for name in self.fleet.names("runs")}
        self.assertIsNone(table._table.transaction_version(folder))
        # The manifests are as old as the commit, and their markers come again. Then the run goes on.
        for name in self.fleet.names("runs"):
            path = f"{self.folder}/my fleet/{name}"
            os.utime(path, (long_ago.timestamp(), long_ago.timestamp()))
            obstore.put(self.fleet.store, name.replace("runs/", "inbox/").replace(".jsonl", ""), b"")
        # A checkpoint drops the old transaction. The commits before it are cleaned up after a month.
        self.fleet.deliver("z", "r", 1)
        with mock.patch.object(_manifests, "MARKER", re.compile("inbox/(z/r)/([0-9]+)")):
            self.committer().fold()
        table.reload()
        table._table.create_checkpoint()
        for version in range(table.version):
            os.remove(f"{self.folder}/catalog/_delta_log/{version:020}.json")
        self.assertEqual(Table(self.fleet.table_location).last_manifests([folder, "z/r"]), {"z/r": 1})
        self.fleet.deliver(box, run, 20)
        said = self.fleet.fold()
        self.assertEqual((said["rows"], said["markers_deleted"]), (20, 3))
        self.check_rows()

    def test_all_transactions_at_once_are_those_that_delta_has(self) -> None:
        self.fleet.init()
        table, other = Table(self.fleet.table_location), self.committer()
        for n in range(1, 48):
            self.fleet.deliver(f"b{n % 7}", "r", 1)
            other.fold()
            table.reload()
            folders = [f"b{i}/r" for i in range(9)]
            asked = {folder: table._table.transaction_version(folder) for folder in folders}
            want = {folder: version for folder, version in asked.items() if version is not None}
            self.assertEqual(table.last_manifests(folders), want)
            # The log itself is enough.
            fresh = Table(self.fleet.table_location)
            told = _Told({}, fresh.version)
            self.assertEqual(fresh._transactions.of(told, folders), want)
            self.assertEqual(told.n_asked, 0)
        self.assertIn(
            "00000000000000000039.checkpoint.parquet", os.listdir(f"{self.folder}/catalog/_delta_log")
        )

    def test_a_committer_that_slept_over_a_cleaning_goes_on(self) -> None:
        self.fleet.init()
        sleeper, other = self.committer(), self.committer()
        for _ in range(3):
            self.fleet.deliver("a", "r", 1)
            other.fold()
            if other._table.version == 1:
                sleeper.fold()
        other._table._table.create_checkpoint()
        for version in range(3):
            os.remove(f"{self.folder}/catalog/_delta_log/{version:020}.json")
        self.fleet.deliver("a", "r", 1)
        with mock.patch.object(
            _txn.Transactions, "_checkpoint", autospec=True, side_effect=_txn.Transactions._checkpoint
        ) as used:
            self.assertEqual(sleeper.fold().rows, 1)
        self.assertEqual(used.call_count, 1)
        self.check_rows()

    def test_a_checkpoint_of_another_form_is_not_guessed_at(self) -> None:
        self.fleet.init()
        self.fleet.deliver("a", "r", 1)
        self.fleet.fold()
        table = Table(self.fleet.table_location)
        table._table.create_checkpoint()
        hint = f"{self.folder}/catalog/_delta_log/_last_checkpoint"
        with open(hint) as file:
            described = json.load(file)
        with open(hint, "w") as file:
            json.dump({**described, "parts": 2}, file)
        self.assertEqual(table._transactions.of(_Told({"a/r": 1}, table.version), ["a/r", "b/r"]), {"a/r": 1})

    def test_a_batch_that_is_full_goes_first(self) -> None:
        self.fleet.init()
        for box in range(5):
            for _ in range(30):
                self.fleet.deliver(f"b{box}", "r", 3)
        with mock.patch.object(_fold, "COMMIT_BYTES", 20000):
            folded = self.committer().fold()
        self.assertGreater(folded.commits, 2)
        self.assertEqual((folded.rows, folded.manifests, folded.markers_deleted), (450, 150, 150))
        self.check_rows()

    def test_the_racer_that_loses_finds_nothing_left(self) -> None:
        self.fleet.init()
        self.fleet.deliver("a", "r", 10)
        first, second = self.committer(), self.committer()
        append = Table.append

        def late(table: Table, *arguments: Any) -> None:
            if table is second._table and not second_done:
                second_done.append(1)
                self.assertEqual(first.fold().rows, 10)
            append(table, *arguments)

        second_done: list[int] = []
        with mock.patch.object(Table, "append", late):
            folded = second.fold()
        self.assertEqual((folded.rows, folded.conflicts, folded.commits), (0, 1, 0))
        self.check_rows()

    def test_names_that_need_escapes(self) -> None:
        self.fleet.init()
        for box, run in (("gpu 1", "a/b"), ("gpu%201", "ä ö"), ("x'y", 'q"z'), (".hidden", "..")):
            self.fleet.deliver(box, run, 10)
            self.fleet.deliver(box, run, 10)
        self.assertEqual(self.fleet.fold()["rows"], 80)
        self.check_rows()
        url = self.fleet.duckdb().execute(
            "SELECT object FROM delta_scan(?) WHERE object IS NOT NULL LIMIT 1",
            [self.fleet.table_location.delta_url],
        )
        self.assertTrue(url.fetchone()[0].startswith(f"{self.fleet.url}/media/"))


class _Told:
    """A table that answers one run at a time."""

    def __init__(self, last: dict[str, int], version: int) -> None:
        self.n_asked = 0
        self._last, self._version = last, version

    def version(self) -> int:
        return self._version

    def transaction_version(self, folder: str) -> int | None:
        self.n_asked += 1
        return self._last.get(folder)


if __name__ == "__main__":
    unittest.main()
