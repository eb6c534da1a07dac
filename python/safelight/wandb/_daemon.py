"""Asks the daemon for items, over its control socket.

Source: `src/control/routes.rs` and `protocol.rs`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.parse
from typing import Any, Iterator

__all__ = ["Daemon", "default_socket"]

# Longest wait for a part of an answer, in seconds.
_ANSWER_S = 10.0


def default_socket() -> str:
    """The socket of a daemon whose configuration names none. `SAFELIGHT_SOCKET` names another one.

    Source: `src/config/control.rs`.
    """
    named = os.environ.get("SAFELIGHT_SOCKET")
    if named:
        return named
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    folder = None if is_root else os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(folder or "/run", "safelight/control.sock")


class _Connection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("safelight", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_S)
        self.sock.connect(self._path)


class Daemon:
    """The daemon at one socket. All methods raise `OSError` if it is away or answers with an error."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _get(self, path: str, **query: Any) -> tuple[bytes, str | None]:
        """Returns an answer, and where the list goes on, if it does."""
        given = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urllib.parse.urlencode(given)}" if given else path
        connection = _Connection(self._path)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                text = body.decode("utf-8", "replace")[:200]
                raise OSError(f"the daemon at {self._path} answers {path} with {answer.status}: {text}")
            return body, answer.headers.get("safelight-after")
        except (http.client.HTTPException, AttributeError) as error:
            # Python has unix sockets on unix only.
            raise OSError(f"no daemon at {self._path}: {error!r}") from None
        finally:
            connection.close()

    def store(self) -> str:
        """The store's directory."""
        found: str = json.loads(self._get("/v1/daemon")[0])["store"]
        return found

    def run_of(self, directory: str) -> str | None:
        """The id of the run that is read from this directory; `None` if the daemon has not met it."""
        source = os.path.realpath(directory)
        runs = json.loads(self._get("/v1/status")[0])["runs"]
        return next((run["run"] for run in runs if os.path.realpath(run["source"]) == source), None)

    def items(self, run: str, key: str, step: int) -> Iterator[dict[str, Any]]:
        """All items of one step, in the JSON form of `safelight ls --json`."""
        after: str | None = None
        while True:
            query = {"run": run, "key": key, "first_step": step, "last_step": step, "limit": 1000}
            body, after = self._get("/v1/items", **query, after=after)
            yield from map(json.loads, body.splitlines())
            if after is None:
                return
