"""One table of all items of all boxes: the command `safelight-catalog`, and `scan`.

    import polars as pl
    import safelight.catalog

    items = safelight.catalog.scan("s3://media/catalog", latest=True)
    items.filter(pl.col("nan") > 0).select("box", "run", "key", "step", "object").collect()

Needs `pip install 'safelight[catalog]'`; `scan` needs Polars, too. `docs/fleet.md` describes the use, the
columns and the cost.

    boxes ──▶ runs/BOX/RUN/00000001.jsonl ──▶ inbox/BOX/RUN/00000001 ──▶ fold ──▶ Delta table
                  manifest                        its marker               one commit: rows, and
                                                                           txn BOX/RUN = n

| module | what it does |
| --- | --- |
| `_location` | a URL and its client |
| `_manifests` | names, lists and content of manifests and markers |
| `_rows` | a line to a row |
| `_txn` | which manifests the table has |
| `_table` | the table: made, appended to, tidied |
| `_fold` | one pass of the committer |
| `_scan` | the table in Polars |
| `_cli` | the command |

Why each line of a manifest becomes exactly one row
---------------------------------------------------

What boxes do gives four facts. (1) A manifest is created only if its name is free, and never changed. (2) The
manifests of a run are numbered from 1 without a gap. (3) Each version of an item stands in exactly one
manifest of its run. (4) With `announce = true`, the marker of a manifest is made after it, and the box notes
the delivery after the marker. A box that dies in between makes the marker again.

The table has for each run, in the form of a Delta transaction `txn BOX/RUN = n`, the number of the last
manifest whose lines it has. The invariant: **the rows of a run are the lines of its manifests 1 to n**. A
pass keeps it:

1. Load the table's newest version V, and list the inbox. A marker n means that manifests 1 to n are there. A
   marker that is missing below it does no harm.
2. Take n of each run at version V. If a run has no `txn`, and its first manifest is younger than 80 days, n
   is 0: a `txn` is kept for 90 days, and it cannot be older than the manifest. Else n is the greatest
   `manifest` of the run's rows.
3. Delete the markers up to n.
4. Read the manifests from n + 1 on, of each run up to the first one that is missing. Make rows of all their
   lines. A line that is no item becomes a row with state `unreadable` and its text, so that rows and lines
   stay as many.
5. Append the rows and the new numbers **in one commit**, as version V + 1, from the object that was loaded at
   V. The store creates a version only if its name is free. If other versions came in between, delta-rs
   compares them with ours: if one of them has a `txn` of the same run, it refuses ("Concurrent transaction
   failed"), and the pass goes back to step 1. Any other version leaves n as it was, and ours is tried after
   it.
6. Delete the markers of the commit.

| a kill, or a failure… | effect |
| --- | --- |
| before 5 | none: nothing was written |
| in 5, before the version is there | files without a commit, which no reader sees; `tidy` removes them after 7 days |
| in 5, the answer of the store is lost | the version is there or not. The next pass reads its `txn`, and knows |
| between 5 and 6, or in 6 | markers with a number up to n stay; the next pass deletes them (step 3) |
| two passes at once | both read, one commits, the other is refused and finds nothing left to do |
| `tidy` beside it | it replaces files by equal rows of closed days and leaves `txn` alone; appends do not conflict with it |
| a box makes a marker again after step 6 | its number is up to n: it is deleted (step 3) |
| a marker is never made | the manifest is folded with the run's next marker, or by `fold --all` |
| no pass for a week | the inbox grows; nothing is lost |
| the table is lost | `init` and `fold`: an empty table reads all of `runs/` |
| a manifest is missing below one that is there | its run waits, and is named; others go on |

What this rests on: a store that is strongly consistent and has conditional writes (`init` tries it), clocks
of committer and store that agree to ten days (step 2), and that nobody else deletes manifests or writes rows.
Two `DeltaTable` objects, one that reads n and one that commits, would break step 5: delta-rs compares only
with versions that came after the one that the committing object has loaded (delta-rs#2580).
"""

from __future__ import annotations

from ._errors import CatalogError, NotInstalledError, UsageError
from ._scan import scan

__all__ = ["CatalogError", "NotInstalledError", "UsageError", "scan"]
