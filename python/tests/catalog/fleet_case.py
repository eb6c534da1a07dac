"""What the tests of the catalogue share: a fleet's URL with manifests, the command, and three readers of the table."""

from __future__ import annotations

import collections
import glob
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from typing import Any, Iterable

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path.insert(0, os.path.join(ROOT, "python"))

import obstore
from manifests import content, folder_of, mixed

from safelight.catalog._location import Location
from safelight.catalog._table import Table

# A row of the table, as a line has it.
IDENTITY = ("box", "run", "seq", "key", "step", "index", "state")


class Fleet:
    """Manifests below a URL, and what they say."""

    def __init__(self, url: str, environment: dict[str, str] | None = None, name: str = "my fleet") -> None:
        """`environment` is that of the commands. The name of the fleet needs escapes in a URL by default."""
        self.environment = environment or {}
        self.url, self.table_url = f"{url}/{name}", f"{url}/catalog"
        self.location = Location.parse(self.url, self.environment.get("AWS_ENDPOINT_URL"))
        self.table_location = Location.parse(self.table_url, self.environment.get("AWS_ENDPOINT_URL"))
        self.store = self.location.open(is_new=True)
        self.lines: list[tuple[Any, ...]] = []
        self._next: dict[tuple[str, str], tuple[int, int]] = {}

    def deliver(self, box: str, run: str, n_lines: int, announce: bool = True) -> str:
        """Writes the next manifest of a run, and its marker. Returns the name of the manifest."""
        n, seq = self._next.get((box, run), (1, 0))
        lines = [mixed(box, run, seq + i) for i in range(n_lines)]
        self._next[box, run] = n + 1, seq + n_lines
        return self.write(box, run, n, content(lines), lines, announce)

    def write(
        self, box: str, run: str, n: int, text: bytes, lines: list[dict[str, Any]], announce: bool = True
    ) -> str:
        place = f"{folder_of(box)}/{folder_of(run)}"
        obstore.put(self.store, f"runs/{place}/{n:08}.jsonl", text, mode="create")
        if announce:
            obstore.put(self.store, f"inbox/{place}/{n:08}", b"")
        self.lines += [tuple(line[name] for name in IDENTITY) for line in lines]
        return f"runs/{place}/{n:08}.jsonl"

    def names(self, prefix: str) -> list[str]:
        """The names of all objects below a prefix."""
        return sorted(one["path"] for page in obstore.list(self.store, prefix) for one in page)

    def command(self, *arguments: str, script: str | None = None) -> list[str]:
        run = [script] if script else ["-m", "safelight.catalog"]
        return [sys.executable, "-B", *run, *arguments]

    def start(self, *arguments: str, script: str | None = None, **more: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.path.join(ROOT, "python"), **self.environment, **more}
        return subprocess.Popen(
            self.command(*arguments, script=script),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Runs the command. Returns its exit code and what it wrote."""
        child = self.start(*arguments)
        out, err = child.communicate(timeout=600)
        return child.returncode, out, err

    def init(self) -> None:
        code, _, err = self.run("init", self.url, self.table_url)
        assert code == 0, err

    def fold(self, *options: str) -> dict[str, Any]:
        """Makes one pass, which must succeed. Returns what it says."""
        code, out, err = self.run("fold", self.url, self.table_url, "--json", *options)
        assert code == 0 and err == "", (code, out, err)
        return json.loads(out)

    def duckdb(self) -> Any:
        """A connection of DuckDB with its extensions and the store's keys."""
        import duckdb

        connection = duckdb.connect()
        for name in ("httpfs", "delta"):
            package = importlib.import_module(f"duckdb_extension_{name}")
            (path,) = glob.glob(f"{package.__path__[0]}/extensions/*/{name}.duckdb_extension")
            connection.execute(f"LOAD '{path}'")
        endpoint = self.environment.get("AWS_ENDPOINT_URL")
        if endpoint:
            key, secret = self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"]
            connection.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{key}', SECRET '{secret}', REGION 'us-east-1', URL_STYLE 'path', "
                f"ENDPOINT '{endpoint.partition('://')[2]}', USE_SSL {endpoint.startswith('https')})"
            )
        return connection

    def rows_by_reader(self) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of the table as DuckDB, Polars and delta-rs read them, by reader."""
        import deltalake
        import polars
        import pyarrow

        import safelight.catalog

        columns = ", ".join(f'"{name}"' for name in IDENTITY)
        query = f"SELECT {columns} FROM delta_scan('{self.table_location.delta_url}')"
        with environment_of(self.environment):
            frame = safelight.catalog.scan(self.table_url).select(polars.col(list(IDENTITY))).collect()
            table = Table(self.table_location)
            reader = deltalake.QueryBuilder().register("items", table._table)
            arrow = pyarrow.table(reader.execute(f"SELECT {columns} FROM items"))
        return {
            "DuckDB": self.duckdb().execute(query).fetchall(),
            "Polars": frame.rows(),
            "delta-rs": [tuple(row.values()) for row in arrow.to_pylist()],
        }


class environment_of:
    """Sets variables of this process for a block."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def differences(got: Iterable[Any], want: Iterable[Any]) -> str:
    """What is missing, and what is there too often, in words. Empty if both are equal as multisets."""
    have, need = collections.Counter(got), collections.Counter(want)
    missing, extra = need - have, have - need
    if not missing and not extra:
        return ""
    return f"{sum(missing.values())} missing, as {list(missing)[:2]}; {sum(extra.values())} extra, as {list(extra)[:2]}"


class FleetCase(unittest.TestCase):
    """A test with a directory, and a fleet in it."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.fleet = Fleet(f"file://{self.folder}")

    def check_rows(self, fleet: Fleet | None = None) -> int:
        """Checks that the rows are the lines, for each reader. Returns their number."""
        fleet = fleet or self.fleet
        for reader, rows in fleet.rows_by_reader().items():
            self.assertEqual(differences(rows, fleet.lines), "", reader)
        return len(fleet.lines)
