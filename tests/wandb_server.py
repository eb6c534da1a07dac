"""A stand-in for a W&B server on the loopback interface. It records everything that `wandb sync` sends.

    wandb_server.py FOLDER

prints its port, then serves until it is killed. Files of runs are written to FOLDER/ENTITY/PROJECT/RUN/. Beside the
requests of the client, it answers three of its own:

    GET  /recorded            returns all runs: rows by line, the last summary, config, files, exit codes
    POST /fail?what=WHAT      makes each `upsert`, `file_stream` or `upload` fail with 403; `nothing` ends that
    POST /resume              lets the client resume the runs that are known; before, it takes each run for new
"""

import json
import pathlib
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = pathlib.Path(sys.argv[1])
RUNS = {}
LOCK = threading.Lock()
FAIL = {"what": "nothing"}
MAY_RESUME = threading.Event()


def run_of(entity, project, name):
    """Returns the record of a run, creating it if needed."""
    path = "/".join([entity, project, name])
    return RUNS.setdefault(
        path,
        {"history": [], "summary": None, "config": {}, "files": {}, "buckets": [], "uploaded": [], "ends": []},
    )


def bucket(entity, project, name, run):
    """A run in the form of W&B's GraphQL schema."""
    return {
        "id": name,
        "name": name,
        "displayName": name,
        "description": None,
        "config": json.dumps(run["config"]),
        "sweepName": None,
        "historyLineCount": len(run["history"]),
        "logLineCount": 0,
        "eventsLineCount": 0,
        "historyTail": json.dumps([json.dumps(row) for row in run["history"][-1:]]),
        "eventsTail": "[]",
        "summaryMetrics": json.dumps(run["summary"] or {}),
        "tags": [],
        "notes": None,
        "wandbConfig": None,
        "project": {"id": project, "name": project, "entity": {"id": entity, "name": entity}},
    }


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Prints nothing."""

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refused(self, what):
        """Whether requests of this kind shall fail. If so, sends the error."""
        if FAIL["what"] != what:
            return False
        self.answer({"errors": [{"message": "permission denied"}]}, 403)
        return True

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        self.body()
        if self.path == "/recorded":
            with LOCK:
                self.answer(RUNS)
        else:
            self.answer({}, 404)

    def do_PUT(self):
        body = self.body()
        if self.refused("upload"):
            return
        _, _, entity, project, name, file = self.path.split("/", 5)
        entity, project, name, file = map(urllib.parse.unquote, (entity, project, name, file))
        with LOCK:
            path = FOLDER / entity / project / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            run = run_of(entity, project, name)
            run["files"][file] = run["files"].get(file, 0) + 1
        self.answer({})

    def do_POST(self):
        body = self.body()
        path, _, query = self.path.partition("?")
        if path == "/fail":
            FAIL["what"] = urllib.parse.parse_qs(query)["what"][0]
            self.answer({})
        elif path == "/resume":
            MAY_RESUME.set()
            self.answer({})
        elif path == "/graphql":
            self.graphql(json.loads(body))
        elif match := re.fullmatch("/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            if not self.refused("file_stream"):
                with LOCK:
                    self.stream(run_of(*map(urllib.parse.unquote, match.groups())), json.loads(body))
                self.answer({"exitcode": None, "limits": {}})
        else:
            self.answer({}, 404)

    def stream(self, run, body):
        """Records rows, at their line numbers, and the summary."""
        for name, part in (body.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                for line, text in enumerate(part["content"], part["offset"]):
                    while len(run["history"]) <= line:
                        run["history"].append(None)
                    # A row must not be sent twice.
                    row = json.loads(text)
                    run["history"][line] = row if run["history"][line] is None else {"twice": row}
            elif name == "wandb-summary.json":
                run["summary"] = json.loads(part["content"][-1])
        run["uploaded"].extend(body.get("uploaded") or [])
        if body.get("complete"):
            run["ends"].append(body.get("exitcode"))

    def graphql(self, request):
        query, variables = request["query"], request.get("variables") or {}
        entity = variables.get("entity") or "mine"
        project = variables.get("project") or variables.get("projectName") or "uncategorized"
        name = variables.get("name") or variables.get("run") or variables.get("runName")
        if "upsertBucket" in query:
            if self.refused("upsert"):
                return
            with LOCK:
                is_new = "/".join([entity, project, name]) not in RUNS
                run = run_of(entity, project, name)
                if variables.get("config"):
                    run["config"] = json.loads(variables["config"])
                run["buckets"].append({key: value for key, value in variables.items() if key != "config"})
                got = bucket(entity, project, name, run)
            self.answer({"data": {"upsertBucket": {"bucket": got, "inserted": is_new}}})
        elif "createRunFiles" in query:
            names = variables["files"]
            quote = urllib.parse.quote
            host = f"http://127.0.0.1:{self.server.server_port}"
            at = "/".join(quote(part, safe="") for part in (entity, project, name))
            files = [{"name": file, "uploadUrl": f"{host}/storage/{at}/{quote(file)}"} for file in names]
            self.answer({"data": {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}})
        elif "RunResumeStatus" in query:
            with LOCK:
                run = RUNS.get("/".join([entity, project, name])) if MAY_RESUME.is_set() else None
                found = bucket(entity, project, name, run) if run else None
            self.answer({"data": {"model": {"bucket": found}}})
        elif "ServerFeaturesQuery" in query:
            # Clients before 0.21 fail without this.
            self.answer({"data": {"serverInfo": {"features": []}}})
        elif "viewer" in query:
            viewer = {"id": "me", "entity": "mine", "username": "me", "flags": "{}", "teams": {"edges": []}}
            self.answer({"data": {"viewer": viewer, "serverInfo": None}})
        else:
            self.answer({"data": {}})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
