"""A stand-in for the model hub on 127.0.0.1: what huggingface_hub 2.4 asks for when it downloads, over real HTTP.

A repository is served from a folder in one of the states of `Kind`. Every request is kept. An unknown repository is
answered as the hub answers somebody without an account: 401, RepoNotFound.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit


class Kind(Enum):
    """How the hub treats a repository."""

    OPEN = "open"
    GATED = "its terms have to be accepted"
    DOWN = "the hub answers 503"


class Repo(NamedTuple):
    """One repository."""

    folder: Path
    kind: Kind = Kind.OPEN


class Asked(NamedTuple):
    """One request, and how it was answered."""

    method: str
    path: str
    status: int
    authorized: bool


_INFO: Final = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+))?/?")
_FILE: Final = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")


class Hub:
    """The hub of one test."""

    def __init__(self, repos: Mapping[str, Repo], token: str) -> None:
        self.repos = dict(repos)
        self.token = token
        self.asked: list[Asked] = []
        self.endpoint = ""


@contextmanager
def serving(repos: Mapping[str, Repo], token: str = "hf_good") -> Iterator[Hub]:
    """A hub for the time of the block."""
    hub = Hub(repos, token)

    class Handler(_Handler):
        of = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def commit(folder: Path) -> str:
    """The commit that the content of a folder has."""
    parts = [f"{path.relative_to(folder)}:{_blob(path)}" for path in _files(folder)]
    return hashlib.sha1("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_large(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _blob(path: Path) -> str:
    """The name under which the cache keeps a file: SHA-256 of a large one, that of git for others."""
    content = path.read_bytes()
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the test looks at `asked`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := _INFO.fullmatch(path):
            if repo := self._repo(found["repo"]):
                self._describe(found["repo"], repo, found["what"], found["revision"])
        elif found := _FILE.fullmatch(path):
            if repo := self._repo(found["repo"]):
                self._file(repo, found["name"])
        else:
            self._refuse(404, "EntryNotFound", "Not found")

    def _repo(self, name: str) -> Repo | None:
        repo = self.of.repos.get(name)
        authorized = self.headers.get("Authorization")
        if repo is None:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
            return None
        if repo.kind is Kind.DOWN:
            self._answer(503, b"Service Unavailable", {})
            return None
        if repo.kind is Kind.GATED and authorized != f"Bearer {self.of.token}":
            status = 401 if authorized is None else 403
            self._refuse(status, "GatedRepo", f"Access to model {name} is restricted.")
            return None
        return repo

    def _describe(self, name: str, repo: Repo, what: str | None, revision: str | None) -> None:
        sha, paths = commit(repo.folder), _files(repo.folder)
        if revision not in (None, "main", sha):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        names = {path.relative_to(repo.folder).as_posix(): path for path in paths}
        if what == "tree":
            entries = [self._entry(name, path) for name, path in names.items()]
            self._answer(200, json.dumps(entries).encode(), {})
            return
        info = {"_id": "0" * 24, "id": name, "modelId": name, "sha": sha, "private": False, "disabled": False}
        info |= {"gated": "manual" if repo.kind is Kind.GATED else False, "downloads": 0, "likes": 0, "tags": []}
        info |= {"siblings": [{"rfilename": name} for name in names], "lastModified": "2026-01-01T00:00:00.000Z"}
        self._answer(200, json.dumps(info).encode(), {})

    def _entry(self, name: str, path: Path) -> dict[str, Any]:
        size = path.stat().st_size
        entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": _blob(path)}
        return entry | ({"lfs": {"oid": _blob(path), "size": size, "pointerSize": 130}} if _is_large(path) else {})

    def _file(self, repo: Repo, name: str) -> None:
        path = repo.folder / name
        if not path.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content, blob, status = path.read_bytes(), _blob(path), 200
        headers = {"X-Repo-Commit": commit(repo.folder), "ETag": f'"{blob}"', "Accept-Ranges": "bytes"}
        if _is_large(path):
            headers |= {"X-Linked-Etag": f'"{blob}"', "X-Linked-Size": str(len(content))}
        if self.command == "GET" and (wanted := _RANGE.fullmatch(self.headers.get("Range") or "")):
            begin, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            content, status = content[begin : end + 1], 206
        self._answer(status, content, headers)

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._answer(status, json.dumps({"error": message}).encode(), headers)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        authorized = self.headers.get("Authorization") is not None
        self.of.asked.append(Asked(self.command, self.path, status, authorized))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
