"""A stand-in for a model hub: the part of its HTTP API that pushing and pulling prompts uses, kept in memory.

Every file is stored as a "regular" one, inline in the commit, so that no second service is needed.
"""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITES, READS = "hf_writes", "hf_reads"


@dataclass
class Repository:
    """Commits, the oldest first: (sha, files)."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits.append((sha, files))
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass
class Hub:
    """What the server holds. asked: "METHOD path" of every request. listed: sizes that it claims, by path."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    listed: dict[str, int | None] = field(default_factory=dict)
    between: dict[str, Any] = field(default_factory=dict)  # what happens before a request whose path ends so

    def publish(self, repo: str, files: dict[str, bytes], *, private: bool = False) -> str:
        """Put a commit there that no promptgraft made."""
        return self.repositories.setdefault(repo, Repository(private)).commit(files)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.hub.asked.append(f"{self.command} {unquote(url.path)}")
        for ending, happens in list(self.hub.between.items()):
            if url.path.endswith(ending):
                happens()
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.token not in ("", WRITES, READS):
            self._error(401, message="Invalid credentials in Authorization header")
        elif self.command == "POST" and not self.token:
            self._error(401)
        elif self.command == "POST" and self.token != WRITES:
            self._error(403, message="no write permission")
        elif parts == ["api", "repos", "create"]:
            self._create()
        elif parts == ["api", "validate-yaml"]:
            content = json.loads(self.body)["content"]
            assert isinstance(yaml.safe_load(content.split("---\n")[1]), dict)
            self._json({})
        elif parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), parts[4:], parse_qs(url.query))
        else:
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _create(self) -> None:
        asked = json.loads(self.body)
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.hub.repositories:
            self._json({"url": f"{self.hub.endpoint}/{repo}"}, 409)
            return
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.publish(repo, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        self._json({"url": f"{self.hub.endpoint}/{repo}"})

    def _model(self, repo: str, what: list[str], query: dict[str, list[str]]) -> None:
        found = self._found(repo, what[1] if what else "main")
        if found is None:
            return
        repository, sha, files = found
        if what[:1] == ["preupload"]:
            rows = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in json.loads(self.body)["files"]
            ]
            self._json({"files": rows})
        elif what[:1] == ["commit"]:
            lines = [json.loads(line) for line in self.body.splitlines()]
            if lines[0]["value"].get("parentCommit", sha) != sha:
                self._error(412, message="the branch has moved on")
                return
            changed = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            new = repository.commit(files | changed)
            self._json({"commitOid": new, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{new}"})
        else:
            siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
            if "blobs" in query:
                for row in siblings:
                    row["size"] = self.hub.listed.get(row["rfilename"], len(files[row["rfilename"]]))
            facts = {"id": repo, "sha": sha, "private": repository.private, "siblings": siblings}
            self._json(facts | {"tags": [], "downloads": 0, "likes": 0})

    def _file(self, repo: str, revision: str, path: str) -> None:
        found = self._found(repo, revision)
        if found is None:
            return
        _, sha, files = found
        if path in files:
            etag = hashlib.sha1(files[path]).hexdigest()
            self._send(200, files[path], {"ETag": f'"{etag}"', "X-Repo-Commit": sha})
        else:
            self._error(404, code="EntryNotFound")

    def _found(self, repo: str, revision: str) -> tuple[Repository, str, dict[str, bytes]] | None:
        repository = self.hub.repositories.get(repo)
        if repository is None or (repository.private and not self.token):
            self._error(404 if self.token else 401, code="RepoNotFound")
        elif (commit := repository.at(revision)) is None:
            self._error(404, code="RevisionNotFound")
        else:
            return repository, *commit
        return None

    def _error(self, status: int, *, code: str = "", message: str = "no") -> None:
        self._send(status, b"{}", ({"X-Error-Code": code} if code else {}) | {"X-Error-Message": message})

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextlib.contextmanager
def stand_in() -> Iterator[Hub]:
    """Serve an empty hub on this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
