"""Asks the daemon for items, over its control socket.

Source: `src/control/routes.rs` and `protocol.rs`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.parse
from typing import Any, Iterator, Sequence

__all__ = ["Daemon", "default_sockets"]

# Longest wait for a part of an answer, in seconds.
_ANSWER_S = 10.0

_SOCKET = "safelight/control.sock"


def default_sockets() -> list[str]:
    """Where a daemon may listen whose configuration names no socket, in the order in which they are tried: the user's
    own daemon, then that of the machine. `SAFELIGHT_SOCKET` names another one.

    Source: `src/config/places.rs`.
    """
    named = os.environ.get("SAFELIGHT_SOCKET")
    if named:
        return [named]
    of_machine = os.path.join("/run", _SOCKET)
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    if user == 0:
        return [of_machine]
    return [_socket_of_user(user), of_machine]


def _socket_of_user(user: int) -> str:
    def folder(name: str) -> str | None:
        # The XDG base directory specification: a relative path is invalid and ignored.
        path = os.environ.get(name, "")
        return path if os.path.isabs(path) else None

    home = folder("HOME")
    data = (
        folder("XDG_RUNTIME_DIR") or folder("XDG_DATA_HOME") or (home and os.path.join(home, ".local/share"))
    )
    if data:
        return os.path.join(data, _SOCKET)
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"safelight-{user}", os.path.basename(_SOCKET))


class _Connection(http.client.HTTPConnection):
    """A connection to the first of some unix sockets that answers."""

    def __init__(self, paths: Sequence[str], limit_s: float) -> None:
        self._limit_s = max(0.001, min(_ANSWER_S, limit_s))
        super().__init__("safelight", timeout=self._limit_s)
        self._paths = paths

    def connect(self) -> None:
        problem: OSError | None = None
        for path in self._paths:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self._limit_s)
            try:
                self.sock.connect(path)
                return
            except OSError as error:
                self.sock.close()
                problem = problem or error
        raise problem or FileNotFoundError("no socket is named")


class Daemon:
    """The daemon at one of some sockets. All methods raise `OSError` if it is away or answers with an error. They wait
    at most `limit_s` seconds for each part of an answer."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def _get(self, path: str, limit_s: float, **query: Any) -> tuple[bytes, str | None]:
        """Returns an answer, and where the list goes on, if it does."""
        given = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urllib.parse.urlencode(given)}" if given else path
        connection = _Connection(self._paths, limit_s)
        where = " or ".join(self._paths)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                text = body.decode("utf-8", "replace")[:200]
                raise OSError(f"the daemon at {where} answers {path} with {answer.status}: {text}")
            return body, answer.headers.get("safelight-after")
        except (http.client.HTTPException, AttributeError) as error:
            # Python has unix sockets on unix only.
            raise OSError(f"no daemon at {where}: {error!r}") from None
        finally:
            connection.close()

    def store(self, limit_s: float) -> str:
        """The store's directory."""
        found: str = json.loads(self._get("/v1/daemon", limit_s)[0])["store"]
        return found

    def run_of(self, directory: str, limit_s: float) -> str | None:
        """The id of the run that is read from this directory; `None` if the daemon has not met it."""
        source = os.path.realpath(directory)
        runs = json.loads(self._get("/v1/status", limit_s)[0])["runs"]
        return next((run["run"] for run in runs if os.path.realpath(run["source"]) == source), None)

    def items(self, run: str, key: str, step: int, limit_s: float) -> Iterator[dict[str, Any]]:
        """All items of one step, in the JSON form of `safelight ls --json`."""
        after: str | None = None
        while True:
            query = {"run": run, "key": key, "first_step": step, "last_step": step, "limit": 1000}
            body, after = self._get("/v1/items", limit_s, **query, after=after)
            yield from map(json.loads, body.splitlines())
            if after is None:
                return
