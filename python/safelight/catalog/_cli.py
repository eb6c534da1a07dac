"""The command `safelight-catalog`."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, NoReturn, Sequence, TextIO

from ._errors import CatalogError, NotInstalledError, UsageError
from ._fold import Folded, Folder
from ._location import Location
from ._table import Tidied, create, tidy

__all__ = ["main", "run"]

# As the program's: src/cli/exit.rs.
DONE, FAILED, USAGE, REJECTED, BAD_CONFIG = 0, 1, 2, 3, 78
EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, or found a problem that the output names; 2 the command line is wrong;\n"
    "3 done, but something was rejected; 78 the configuration is invalid or missing."
)
# A marker that is older than this means that `fold` does not keep up.
MARKER_OLD_S = 3600.0
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}

DESCRIPTION = """\
Keeps one Delta table of all items of all boxes, from the manifests that Safelight's target `object_store` writes.
URLs are s3://BUCKET/PREFIX, gs://, az:// or file:///FOLDER. Keys come from the environment, as for other clients
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL)."""
EXAMPLES = """\
examples:
  safelight-catalog init s3://media/fleet s3://media/catalog
  safelight-catalog fold s3://media/fleet s3://media/catalog --every 60
  safelight-catalog tidy s3://media/catalog
"""


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if seconds <= 0:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, want a number of seconds, or one with s, m or h, such as 5m"
        )
    return seconds


def _parser() -> argparse.ArgumentParser:
    def formatter(prog: str) -> argparse.HelpFormatter:
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=100)

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--endpoint", metavar="URL", help="the S3 service, if it is not Amazon's: http://127.0.0.1:8333"
    )
    shared.add_argument("--region", metavar="NAME", help="the region of the bucket")
    shared.add_argument("--json", action="store_true", help="print one JSON object for each pass")
    fleet: dict[str, Any] = {
        "metavar": "FLEET_URL",
        "help": "where the boxes deliver: the url of their target, with runs/ and media/ below it",
    }
    table: dict[str, Any] = {"metavar": "TABLE_URL", "help": "where the table is"}

    parser = argparse.ArgumentParser(
        prog="safelight-catalog",
        description=DESCRIPTION,
        epilog=EXAMPLES + "\n" + EXIT_CODES,
        formatter_class=formatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help,
            description=description,
            epilog=EXIT_CODES,
            formatter_class=formatter,
            parents=[shared],
        )

    init = command(
        "init",
        "make the table, once",
        "Makes an empty table. A table that is there stays as it is. The store must refuse to create an object twice;\n"
        "this is tried.",
    )
    fold = command(
        "fold",
        "add new manifests to the table",
        "Adds the lines of new manifests to the table, each once. It may be killed at any time, and several may run: then\n"
        "one works, and the others repeat its work in vain. The first fold into an empty table reads all manifests.",
    )
    for with_both in (init, fold):
        with_both.add_argument("fleet", **fleet)
        with_both.add_argument("table", **table)
    fold.add_argument(
        "--every",
        type=_seconds,
        metavar="TIME",
        help="go on, with a pass each TIME: 60, 5m, 1h (default: one pass)",
    )
    fold.add_argument(
        "--all",
        action="store_true",
        help="also look for manifests without a marker, of boxes with 'announce = false'; lists all manifests",
    )
    tidy = command(
        "tidy",
        "merge small files, and remove old ones; once a day",
        "Merges the files of days that are over, writes a checkpoint, and removes files that have not been part of the\n"
        "table for 7 days. It may run beside fold.",
    )
    tidy.add_argument("table", **table)
    return parser


class Progress:
    """One line on a terminal, which is written again and again. Nothing in a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out = out if out.isatty() else None
        self._wrote = 0.0

    def __call__(self, text: str) -> None:
        """Shows what the command is at. An empty text removes the line."""
        now = time.monotonic()
        if self._out is None or (text and now - self._wrote < 0.1):
            return
        self._wrote = now if text else 0.0
        self._out.write(f"\r\x1b[K{text}")
        self._out.flush()


def _say(text: str) -> None:
    print(f"safelight-catalog: {text}", file=sys.stderr, flush=True)


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _print_folded(folded: Folded, is_json: bool) -> None:
    """Prints a pass. What a person should look at is on standard error."""
    if is_json:
        print(json.dumps({"command": "fold", "time": time.time(), **asdict(folded)}), flush=True)
    else:
        done = "nothing new"
        if folded.commits:
            done = (
                f"{_plural(folded.rows, 'row')} of {_plural(folded.manifests, 'manifest')} in "
                f"{_plural(folded.commits, 'commit')}"
            )
        print(
            f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC: {done}, {folded.seconds:.1f} s; "
            f"table version {folded.version}",
            flush=True,
        )
    for line in folded.unreadable_lines:
        _say(f"line {line.line} of {line.manifest} is kept as unreadable: {line.reason}")
    more = folded.unreadable - len(folded.unreadable_lines)
    if more:
        _say(f"{_plural(more, 'further line')} kept as unreadable: see the rows with state 'unreadable'")
    for blocked in folded.blocked:
        _say(f"cannot fold {blocked.manifest}, so its run waits: {blocked.reason}")
    if folded.oldest_marker_s is not None and folded.oldest_marker_s > MARKER_OLD_S:
        _say(
            f"the oldest marker had waited for {_age(folded.oldest_marker_s)}: fold runs too seldom, or a run waits"
        )


def _say_if_empty(folded: Folded, fleet: Location) -> None:
    """Says that nothing was ever there: the URL may be another one than that of the boxes."""
    if folded.version == 0 and not folded.runs:
        _say(f"there are no manifests at {fleet.url}: want runs/BOX/RUN/00000001.jsonl below it")


def _code(folded: Folded) -> int:
    if folded.blocked:
        return FAILED
    return REJECTED if folded.unreadable else DONE


def _fold(arguments: argparse.Namespace, fleet: Location, table: Location) -> int:
    progress = Progress(sys.stderr)
    folder = Folder(fleet, table, progress)
    if arguments.every is None:
        folded = folder.fold(arguments.all)
        _print_folded(folded, arguments.json)
        _say_if_empty(folded, fleet)
        return _code(folded)
    stop = threading.Event()
    # A pass is finished first. To kill it costs nothing either.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    while not stop.is_set():
        start = time.monotonic()
        try:
            folded = folder.fold(arguments.all)
            _print_folded(folded, arguments.json)
            _say_if_empty(folded, fleet)
        except CatalogError as error:
            # The store may be back at the next pass.
            _say(f"{error}; tried again in {_age(arguments.every)}")
        stop.wait(max(0.0, start + arguments.every - time.monotonic()))
    return DONE


def _init(arguments: argparse.Namespace, fleet: Location, table: Location) -> int:
    is_new = create(table, fleet)
    if arguments.json:
        print(json.dumps({"command": "init", "table": table.url, "is_new": is_new}))
    elif is_new:
        print(f"made the table {table.url}; next: safelight-catalog fold {fleet.url} {table.url}")
    else:
        print(f"the table {table.url} is there already")
    return DONE


def _print_tidied(tidied: Tidied, is_json: bool) -> None:
    if is_json:
        print(json.dumps({"command": "tidy", **asdict(tidied)}))
        return
    merged = "no files of closed days to merge"
    if tidied.days:
        merged = (
            f"merged {_plural(tidied.days, 'day')}: {_plural(tidied.files_before, 'file')} of closed days are "
            f"{tidied.files_after} now"
        )
    print(
        f"{merged}; removed {_plural(tidied.files_removed, 'old file')}; {tidied.seconds:.1f} s; "
        f"table version {tidied.version}"
    )


def _run(arguments: argparse.Namespace) -> int:
    table = Location.parse(arguments.table, arguments.endpoint, arguments.region)
    if arguments.command == "tidy":
        _print_tidied(tidy(table), arguments.json)
        return DONE
    fleet = Location.parse(arguments.fleet, arguments.endpoint, arguments.region)
    return (_init if arguments.command == "init" else _fold)(arguments, fleet, table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code = _run(parsed)
        sys.stdout.flush()
        return code
    except UsageError as error:
        _say(str(error))
        return USAGE
    except NotInstalledError as error:
        _say(str(error))
        return BAD_CONFIG
    except CatalogError as error:
        _say(str(error))
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted; what was committed stays, and the next fold goes on from there")
        return FAILED
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and ends the process.

    The interpreter is not torn down: threads of the libraries below may be at work then, and abort a process that has
    done its work ("terminate called without an active exception").
    """
    os._exit(main(arguments))
