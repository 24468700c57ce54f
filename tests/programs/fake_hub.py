"""A stand-in for the model hub on 127.0.0.1: what huggingface_hub 2.4 asks for when it downloads, over real HTTP.

A repository is served from a folder in one of the states of `Kind`, and every commit in its history with it. Every
request is kept. An unknown repository is answered as the hub answers somebody without an account: 401, RepoNotFound.
Single requests go wrong by `Fault`; nothing here waits for time to pass, only for a gate that the test opens.
"""

import hashlib
import json
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


class Kind(Enum):
    """How the hub treats a repository."""

    OPEN = "open"
    GATED = "its terms have to be accepted"
    GATED_FILES = "its terms have to be accepted, and everybody may read its description, as on the real hub"
    DOWN = "the hub answers 503"
    DISABLED = "nobody may read it any more"
    BARE_401 = "a mirror that says 401 and nothing else"
    BARE_403 = "a mirror that says 403 and nothing else"
    BARE_404 = "a mirror that says 404 and nothing else"
    PAGE = "something else answers, with a page"


class Repo(NamedTuple):
    """One repository."""

    folder: Path
    kind: Kind = Kind.OPEN
    history: tuple[Path, ...] = ()
    """What `main` was before; every commit stays where it was."""
    sha: str = ""
    """The commit that the content pretends to be; empty: the one that it has."""


class Asked(NamedTuple):
    """One request, and how it was answered."""

    method: str
    path: str
    status: int
    authorized: bool
    token: str = ""
    host: str = ""


class Trouble(Enum):
    """What goes wrong with the answer to one GET."""

    STATUS = "another status"
    TRUNCATED = "the connection is closed in the middle of the body"
    RESET = "the connection is reset in the middle of the body"
    FLIPPED = "one byte of the body is another"
    GATE = "it stops in the middle of the body until the test opens the gate"
    NO_RANGES = "the whole file comes whatever range was asked for"
    LONGER = "the body has more bytes than the file"


@dataclass
class Fault:
    """What goes wrong with requests whose path has `on` in it."""

    trouble: Trouble
    times: int = 1
    """How many requests; -1: all."""
    on: str = ".safetensors"
    method: str = "GET"
    after: int = 16
    """Bytes of the body before it happens; the place of the flipped byte."""
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    """Set once a request has met this fault."""


_INFO: Final = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+))?/?")
_FILE: Final = re.compile(r"(?P<cdn>/cdn)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_BARE: Final = {Kind.BARE_401: 401, Kind.BARE_403: 403, Kind.BARE_404: 404, Kind.DOWN: 503}


class Hub:
    """The hub of one test."""

    def __init__(self, repos: Mapping[str, Repo], token: str) -> None:
        self.repos = dict(repos)
        self.token = token
        """Of the account that was let in everywhere."""
        self.others: set[str] = set()
        """Tokens of accounts that were let in nowhere; any other is none."""
        self.faults: list[Fault] = []
        self.cdn = False
        """Whether large files come from another origin, as those of the real hub do."""
        self.xet = False
        """Whether they are kept by Xet too: then an address of that origin is signed for one method alone."""
        self.asked: list[Asked] = []
        self.endpoint = ""
        self._lock = threading.Lock()

    def fail(self, trouble: Trouble, **how: Any) -> Fault:
        """Let something go wrong from now on."""
        fault = Fault(trouble, **how)
        self.faults.append(fault)
        return fault

    def push(self, name: str, folder: Path) -> None:
        """Move `main` of a repository to other content."""
        before = self.repos[name]
        self.repos[name] = before._replace(folder=folder, history=(before.folder, *before.history))

    def met(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, if any; it is used up."""
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.on in path:
                    fault.times -= 1
                    return fault
        return None

    def gets(self, name: str) -> list[Asked]:
        """The requests for the content of a file."""
        return [asked for asked in self.asked if asked.method == "GET" and asked.path.endswith(name)]


@contextmanager
def serving(repos: Mapping[str, Repo], token: str = "hf_good") -> Iterator[Hub]:
    """A hub for the time of the block."""
    hub = Hub(repos, token)

    class Handler(_Handler):
        of = hub

    with _Server(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
            for fault in hub.faults:
                fault.gate.set()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that have gone: tests kill them."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def commit(folder: Path) -> str:
    """The commit that the content of a folder has."""
    parts = [f"{path.relative_to(folder)}:{_blob(path)}" for path in _files(folder)]
    return hashlib.sha1("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_large(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _blob(path: Path) -> str:
    """The name under which the cache keeps a file: SHA-256 of a large one, that of git for others."""
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest() if _is_large(path) else _git(content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the test looks at `asked`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        fault = self.of.met(self.command, path)
        if fault is not None:
            fault.reached.set()
        if fault is not None and fault.trouble is Trouble.STATUS:
            self._answer(fault.status, b"", fault.headers)
        elif found := _INFO.fullmatch(path):
            if repo := self._repo(found["repo"], found["revision"]):
                blobs = "blobs" in parse_qs(address.query)
                self._describe(found["repo"], repo, found["what"], blobs=blobs)
        elif found := _FILE.fullmatch(path):
            if repo := self._repo(found["repo"], found["revision"], content=True, cdn=bool(found["cdn"])):
                self._file(repo, found["name"], fault, cdn=bool(found["cdn"]))
        else:
            self._refuse(404, "EntryNotFound", "Not found")

    # --------------------------------------------------------------------------------------------- who may read

    def _repo(self, name: str, revision: str | None, *, content: bool = False, cdn: bool = False) -> Repo | None:
        """The repository as it was at a revision; None where that was refused."""
        repo = self.of.repos.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in (self.of.token, *self.of.others):
            self._say(401, "Invalid credentials in Authorization header")
        elif repo is None:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        elif repo.kind in _BARE:
            self._answer(_BARE[repo.kind], b"Service Unavailable" if repo.kind is Kind.DOWN else b"", {})
        elif repo.kind is Kind.PAGE:
            self._answer(200, b"<html>log in to this network</html>", {"Content-Type": "text/html"})
        elif repo.kind is Kind.DISABLED:
            self._say(403, "Access to this resource is disabled.")
        elif not cdn and _is_closed(repo.kind, content=content) and token != self.of.token:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
        elif (found := _at(repo, revision)) is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return found
        return None

    # ------------------------------------------------------------------------------------------ what there is

    def _describe(self, name: str, repo: Repo, what: str | None, *, blobs: bool) -> None:
        names = {path.relative_to(repo.folder).as_posix(): path for path in _files(repo.folder)}
        if what == "tree":
            entries = [self._entry(name, path) for name, path in names.items()]
            self._answer(200, json.dumps(entries).encode(), {})
            return
        info = {"_id": "0" * 24, "id": name, "modelId": name, "sha": _sha(repo), "private": False, "disabled": False}
        gated = "manual" if repo.kind in (Kind.GATED, Kind.GATED_FILES) else False
        info |= {"gated": gated, "downloads": 0, "likes": 0, "tags": []}
        siblings = [{"rfilename": name} | (self._sibling(path) if blobs else {}) for name, path in names.items()]
        info |= {"siblings": siblings, "lastModified": "2026-01-01T00:00:00.000Z"}
        self._answer(200, json.dumps(info).encode(), {})

    def _entry(self, name: str, path: Path) -> dict[str, Any]:
        size = path.stat().st_size
        entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": _blob(path)}
        return entry | ({"lfs": {"oid": _blob(path), "size": size, "pointerSize": 130}} if _is_large(path) else {})

    def _sibling(self, path: Path) -> dict[str, Any]:
        size = path.stat().st_size
        large = {"lfs": {"sha256": _blob(path), "size": size, "pointerSize": 130}} if _is_large(path) else {}
        return {"size": size, "blobId": _git(path.read_bytes()), **large}

    def _file(self, repo: Repo, name: str, fault: Fault | None, *, cdn: bool) -> None:
        path = repo.folder / name
        if not path.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content, blob, status = path.read_bytes(), _blob(path), 200
        headers = {"X-Repo-Commit": _sha(repo), "ETag": f'"{blob}"', "Accept-Ranges": "bytes"}
        if _is_large(path):
            headers |= {"X-Linked-Etag": f'"{blob}"', "X-Linked-Size": str(len(content))}
            if self.of.cdn and not cdn:
                place = self.of.endpoint.replace("127.0.0.1", "localhost")
                self._answer(302, b"", headers | self._sent_on(f"{place}/cdn{self.path}"))
                return
            if parse_qs(urlsplit(self.path).query).get("for", [self.command]) != [self.command]:
                self._answer(403, b"SignatureDoesNotMatch", {"Content-Type": "text/plain"})
                return
        trouble = fault.trouble if fault is not None else None
        if fault is not None and trouble is Trouble.FLIPPED:
            content = content[: fault.after] + bytes([content[fault.after] ^ 1]) + content[fault.after + 1 :]
        if trouble is Trouble.LONGER:
            content += b"more"
        elif self.command == "GET" and (wanted := _RANGE.fullmatch(self.headers.get("Range") or "")):
            begin, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
            if trouble is not Trouble.NO_RANGES:
                headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
                content, status = content[begin : end + 1], 206
        self._answer(status, content, headers, fault)

    def _sent_on(self, address: str) -> dict[str, str]:
        if not self.of.xet:
            return {"Location": address}
        route = f"{self.of.endpoint}/api/models/x/xet-read-token/main"
        return {"Location": f"{address}?for={self.command}", "X-Xet-Hash": "0" * 64, "X-Xet-Refresh-Route": route}

    # ------------------------------------------------------------------------------------------------- answers

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._answer(status, json.dumps({"error": message}).encode(), headers)

    def _say(self, status: int, message: str) -> None:
        self._answer(status, json.dumps({"error": message}).encode(), {"X-Error-Message": message})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        host = self.headers.get("Host", "")
        self.of.asked.append(Asked(self.command, self.path, status, bool(token), token, host))
        if "Date" in headers:
            self.send_response_only(status)
        else:
            self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(body, fault)

    def _send(self, body: bytes, fault: Fault | None) -> None:
        if fault is None or fault.trouble not in (Trouble.TRUNCATED, Trouble.RESET, Trouble.GATE):
            self.wfile.write(body)
            return
        self.wfile.write(body[: fault.after])
        self.wfile.flush()
        if fault.trouble is Trouble.GATE:
            fault.gate.wait()
            try:
                self.wfile.write(body[fault.after :])
            except OSError:
                self.close_connection = True  # whoever asked has gone meanwhile
            return
        if fault.trouble is Trouble.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # at once, before anybody could say goodbye
        self.close_connection = True


def _is_closed(kind: Kind, *, content: bool) -> bool:
    return kind is Kind.GATED or (kind is Kind.GATED_FILES and content)


def _sha(repo: Repo) -> str:
    return repo.sha or commit(repo.folder)


def _at(repo: Repo, revision: str | None) -> Repo | None:
    """A repository with what a revision of it has; None where it has none such."""
    if revision in (None, "main", repo.sha, commit(repo.folder)):
        return repo
    found = next((folder for folder in repo.history if commit(folder) == revision), None)
    return None if found is None else repo._replace(folder=found)
