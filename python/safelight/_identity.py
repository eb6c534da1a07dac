"""The file `safelight.json`, which says what a run is called and how it was configured."""

from __future__ import annotations

import json
import os
from typing import Any, Mapping

from ._files import write_whole
from ._limits import depth
from ._values import json_bytes, plain, utf_8

__all__ = ["identity_of", "merge_identity"]


def identity_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that are given, in types that JSON has. One tag may stand for a list of one."""
    identity = {name: value for name, value in given.items() if value is not None}
    if isinstance(identity.get("tags"), str):
        identity["tags"] = [identity["tags"]]
    config = identity.get("config")
    if config is not None and not isinstance(config, Mapping):
        # argparse gives a namespace, not a dict.
        identity["config"] = vars(config)
    # JSON has no NaN and no Infinity: they become text.
    return {
        name: json.loads(json.dumps(plain(value)), parse_constant=str) for name, value in identity.items()
    }


def merge_identity(dir: str, identity: dict[str, Any], limits: Mapping[str, int]) -> dict[str, Exception]:
    """Merges these fields, and the entries of `config`, into the file. It is rewritten only if a value changes.

    Returns, by field, why the daemon would refuse it; it is left out. Raises `OSError` if the file cannot be
    written.
    """
    left_out: dict[str, Exception] = {}
    if not identity:
        return left_out
    path = os.path.join(dir, "safelight.json")
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    except (FileNotFoundError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    if isinstance(known.get("config"), dict) and "config" in identity:
        identity = {**identity, "config": {**known["config"], **identity["config"]}}
    merged = {**known, **identity}
    if merged == known:
        return left_out

    def text() -> bytes:
        return utf_8(json.dumps(merged, indent=2, ensure_ascii=False) + "\n")

    bytes_max, depth_max = limits["identity_bytes_max"], limits["depth_max"]
    for name in [name for name, value in merged.items() if depth(value) > depth_max]:
        del merged[name]
        left_out[name] = ValueError(f"nested deeper than {depth_max} levels")
    while len(text()) > bytes_max:
        name = max(merged, key=lambda name: len(json_bytes(merged[name])))
        n_bytes = len(json_bytes(merged.pop(name)))
        left_out[name] = ValueError(
            f"{n_bytes} bytes, the daemon reads at most {bytes_max} in safelight.json"
        )
    write_whole(path, [text()])
    return left_out
