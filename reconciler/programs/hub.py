"""Talks to a model hub: says what a revision is there, and brings the files of one commit into a cache.

    (echo '{"do": "check", "references": [{"repo": "owner/name", "revision": "main"}]}'; cat) | python hub.py
    (echo '{"do": "fetch", "repo": "owner/name", "commit": "<40 digits>", "cache": "/absolute/hub",
      "files": [{"name": "config.json", "size": 519, "digest": ""}], "afresh": []}'; cat) | python hub.py

The request is the first line of stdin, the answers are JSON lines on stdout, the last of them `{"done": ...}` or
`{"error": ...}`, which is what is known of a failure: to judge it is the caller's part. End of file on stdin ends the
program at once, also within a download. It is the one program that sees a token: it has the user's environment, and
nothing that it prints contains it.

Blobs are written here and not by `snapshot_download`, whose partial files get a new name at every attempt and are
never resumed or removed after a kill (huggingface_hub 2.4, #4228). One of ours has a name that nobody else gives,
grows under the library's own lock of that blob, is resumed where it ends, and becomes the blob only if all of it has
the digest that its name promises. Everything comes by plain HTTP: what Xet has begun can be neither resumed nor
counted, and it has reported short files as success (#4223). The caller links blobs into a snapshot.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, as_completed, wait
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from io import FileIO
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

Facts = dict[str, Any]
Say = Callable[[Facts], None]

MARK: Final = ".reconciler.incomplete"
"""How a partial file of ours ends."""
TIMEOUT: Final = 20.0
"""Seconds for which a hub may say nothing."""
HUB: Final = ("https", "huggingface.co")
"""Where a mirror may send on to; what is asked for there comes with the token, as by the library."""
CONFIG: Final = "config.json"
CONFIG_BYTES: Final = 2**20
AT_A_TIME: Final = 8
ATTEMPTS: Final = 5
WORTH: Final = 8 * 2**20
"""Bytes after which an attempt was not in vain, and the count begins anew."""
LONGEST_PAUSE: Final = 60.0
"""Seconds; to wait longer is left to the caller."""
PART: Final = 16 * 2**30
"""Bytes of one request: the hub's delivery network answers with 50 GB at most (`MAX_HTTP_DOWNLOAD_SIZE`)."""
CHUNK: Final = 2**20
SYNC: Final = 2**29
BEAT: Final = 0.5
TOLD: Final = 300
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ETAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Refused(Exception):
    """Something that is not to be: its class, and what there is to say."""

    def __init__(self, kind: str, message: str = "", *, passes: bool = False) -> None:
        super().__init__(message)
        self.kind, self.passes = kind, passes
        """Whether another attempt may mend it."""


NOT_A_HUB: Final = ("hub-unavailable", "the answer is not that of a model hub")


def evidence(error: BaseException) -> Facts:
    """What is known of a failure, from its whole chain of causes."""
    chain = list(_chain(error))
    facts: Facts = {"names": list(dict.fromkeys(kind.__name__ for each in chain for kind in type(each).__mro__))}
    facts["message"] = " ".join(str(error).split())[:TOLD]
    for each in reversed(chain):  # what was raised last says most, and overrides
        if isinstance(each, Refused):
            facts["class"] = each.kind
        elif getattr(each, "response", None) is not None:
            facts |= _answered(each)
        elif isinstance(each, OSError) and each.errno is not None:
            facts["errno"] = errno.errorcode.get(each.errno, "")
    return facts


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _answered(error: Any) -> Facts:
    response, headers = error.response, error.response.headers
    said = headers.get("X-Error-Message") or getattr(error, "server_message", None) or ""
    return {
        "status": int(response.status_code),
        "code": headers.get("X-Error-Code", ""),
        "said": " ".join(str(said).split())[:TOLD],
        "retry_after": _retry_after(headers),
        "token": "authorization" in response.request.headers,
        # A refusal of the delivery network, to which a hub sends on, is that of an address which has run out.
        "elsewhere": not _of_the_hub(str(response.url)),
    }


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After as a number or a date, or from the hub's own header; None: it does not say."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers["Date"])).total_seconds())
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def _passes(error: BaseException, facts: Facts) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, Refused):
        return error.passes
    status = facts.get("status", 0)
    busy = status in (408, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return bool(busy or facts.get("elsewhere") or "TransportError" in facts["names"])


def _of_the_hub(url: str) -> bool:
    from huggingface_hub import constants

    return urlsplit(url)[:2] in (urlsplit(constants.ENDPOINT)[:2], HUB)


@contextlib.contextmanager
def _get(url: str, **wanted: str) -> Iterator[Any]:
    """An answer to be read bit by bit, asked for with the token where the address is the hub's."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Accept-Encoding": "identity", **wanted}
    if not _of_the_hub(url):
        headers.pop("authorization", None)
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        hf_raise_for_status(response)
        yield response


def check(request: Facts, say: Say) -> Facts:
    """Say one answer per reference, each as soon as it is there."""
    references = request["references"]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        asked = {pool.submit(_described, **each): number for number, each in enumerate(references)}
        for future in as_completed(asked):
            error = future.exception()
            say({"answer": asked[future], **(future.result() if error is None else {"error": evidence(error)})})
    return {"answers": len(references)}


def _described(repo: str, revision: str) -> Facts:
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError):
        raise Refused(*NOT_A_HUB) from None
    if info.disabled:
        raise Refused("source-disabled")
    files = [(each.rfilename, each.size, each.lfs.sha256 if each.lfs else "") for each in info.siblings or ()]
    if not _COMMIT.fullmatch(info.sha or "") or any(size is None for _, size, _ in files):
        raise Refused("hub-unavailable", "the answer does not say which commit it is, or how long its files are")
    # A gated repository lets everybody see its description: only a file shows whether its content can be had.
    config = _config(repo, str(info.sha)) if any(name == CONFIG for name, _, _ in files) else None
    return {"commit": info.sha, "files": files, "config": config}


def _config(repo: str, commit: str) -> Facts | None:
    """The configuration; None where there is none that could be read."""
    from huggingface_hub import hf_hub_url

    text = bytearray()
    with _get(hf_hub_url(repo, CONFIG, revision=commit)) as response:
        for part in response.iter_bytes():
            text += part
            if len(text) > CONFIG_BYTES:
                return None
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(config := json.loads(text), dict):
            return config
    return None


class Download:
    """Brings files of one commit into the blobs of a cache, which the caller has made."""

    def __init__(self, request: Facts, say: Say) -> None:
        self.repo, self.commit = request["repo"], request["commit"]
        self.files: dict[str, Facts] = {each["name"]: each for each in request["files"]}
        self.afresh = set(request.get("afresh", ()))
        self.workers, self.pause = int(request.get("workers", 4)), float(request.get("pause", 1.0))
        self.part = int(request.get("part", PART))
        folder = f"models--{self.repo.replace('/', '--')}"
        self.blobs = os.path.join(request["cache"], folder, "blobs")
        self.locks = os.path.join(request["cache"], ".locks", folder)
        self.say = say
        self.here = dict.fromkeys(self.files, 0)
        """file -> bytes of it on disk."""
        self.read = 0
        """Bytes that were read back to go on behind them: not progress, and a sign of life."""
        self.ours: set[str] = set()
        """Partial files that this process writes."""
        self.stopped = threading.Event()

    def run(self) -> Facts:
        """Bring everything, and say of each file which blob it is. Raises whatever went wrong first."""
        if not _COMMIT.fullmatch(self.commit):
            raise Refused("source-bad-syntax", f"{self.commit} is no commit")
        os.makedirs(self.locks, exist_ok=True)
        for name, file in self.files.items():
            with contextlib.suppress(OSError):
                self.here[name] = os.stat(f"{self.blobs}/{file['digest']}{MARK}").st_size
        threading.Thread(target=self._tell, daemon=True).start()
        # Nothing lists the small files of a commit on disk: as long as one is missing, so are weights.
        weights = [name for name in self.files if name.endswith(".safetensors")]
        try:
            self._bring_all([name for name in self.files if name not in weights])
            self._bring_all(weights)
        except BaseException as error:
            self.stopped.set()
            if evidence(error).get("errno") in ("ENOSPC", "EDQUOT"):
                for path in tuple(self.ours):  # a disk that is full is of no use to anybody
                    with contextlib.suppress(OSError):
                        os.unlink(path)
            raise
        self.stopped.set()
        self.say(self._progress())
        return {"files": len(self.files)}

    def _bring_all(self, names: list[str]) -> None:
        pool = ThreadPoolExecutor(self.workers)
        done, _ = wait([pool.submit(self._bring, name) for name in names], return_when=FIRST_EXCEPTION)
        errors = [error for each in done if (error := each.exception()) is not None]
        pool.shutdown(wait=not errors, cancel_futures=True)
        for error in errors:
            raise error

    def _bring(self, name: str) -> None:
        """One file, tried again as long as that may help and attempts are left."""
        left, pause, counted = ATTEMPTS, self.pause, self.here[name]
        while True:
            try:
                return self._attempt(name)
            except Exception as error:
                facts = evidence(error)
                if self.here[name] >= counted + WORTH:
                    left, pause, counted = ATTEMPTS, self.pause, self.here[name]
                left -= 1
                told = facts.get("retry_after")
                seconds = pause if told is None else told
                if not _passes(error, facts) or not left or seconds > LONGEST_PAUSE:
                    raise
            if self.stopped.wait(seconds):
                raise Refused("stopped")
            pause = min(2 * pause, LONGEST_PAUSE)

    def _attempt(self, name: str) -> None:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        file, url = self.files[name], hf_hub_url(self.repo, name, revision=self.commit)
        found = get_hf_file_metadata(url, timeout=TIMEOUT)
        etag = found.etag or ""
        if not _ETAG.fullmatch(etag) or found.commit_hash is None:
            raise Refused(*NOT_A_HUB, passes=True)
        listed = (self.commit, file["digest"] or etag, file["size"])
        if listed != (found.commit_hash, etag, file["size"] if found.size is None else found.size):
            raise Refused("source-changed", f"{name} is not what it was when the commit was listed")
        blob = f"{self.blobs}/{etag}"
        with WeakFileLock(f"{self.locks}/{etag}.lock"):
            if name in self.afresh or not _is_file(blob, file["size"]):
                # As the library does: where a file of Xet is sent on to may be signed for the HEAD alone.
                Partial(self, name, etag).fill(found.location if found.xet_file_data is None else url)
                os.replace(blob + MARK, blob)
        self.here[name] = file["size"]
        self.say({"have": name, "blob": etag})

    def _progress(self) -> Facts:
        total = sum(file["size"] for file in self.files.values())
        return {"progress": {"done": sum(self.here.values()), "total": total, "read": self.read}}

    def _tell(self) -> None:
        self.say(self._progress())
        while not self.stopped.wait(BEAT):
            self.say(self._progress())


class Partial:
    """A file of ours that grows until it is what its name promises."""

    def __init__(self, of: Download, name: str, etag: str) -> None:
        self.of, self.name, self.etag = of, name, etag
        self.path = f"{of.blobs}/{etag}{MARK}"
        self.size = int(of.files[name]["size"])
        self.digest = self._promised()

    def _promised(self) -> "hashlib._Hash":
        """What computes the name of a blob: SHA-256 of a large file, that of git for others."""
        if _SHA256.fullmatch(self.etag):
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    def fill(self, location: str) -> None:
        """Go on where it ends, until it is whole and durable. Raises Refused for false content, which is removed."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        self.of.ours.add(self.path)
        with open(handle, "r+b", buffering=0) as file:
            while part := file.read(CHUNK):
                self.digest.update(part)
                self.of.read += len(part)
            self.of.here[self.name] = file.tell()
            while (at := file.tell()) < self.size:
                self._receive(file, location)
                if file.tell() <= at:
                    raise Refused("hub-unavailable", f"{self.name} ended at {at} of {self.size} bytes", passes=True)
            os.fsync(handle)
            known = _SHA256.fullmatch(self.etag) or _COMMIT.fullmatch(self.etag)
            if file.tell() != self.size or (known and self.digest.hexdigest() != self.etag):
                self._spoiled("its digest is another")

    def _receive(self, file: FileIO, location: str) -> None:
        """Append what one request brings."""
        at = file.tell()
        end = min(at + self.of.part, self.size)
        wanted = {"Range": f"bytes={at}-{end - 1}"} if at or end < self.size else {}
        with _get(location, **wanted) as response:
            if at and response.status_code == HTTPStatus.OK:  # it does not know ranges, and sends all
                file.seek(0)
                file.truncate()
                self.digest = self._promised()
            for part in response.iter_bytes():
                if self.of.stopped.is_set():
                    raise Refused("stopped")
                if file.tell() + len(part) > self.size:
                    self._spoiled("it is longer than it should be")
                view = memoryview(part)
                while view:
                    view = view[file.write(view) :]
                self.digest.update(part)
                if file.tell() // SYNC > self.of.here[self.name] // SYNC:
                    os.fsync(file.fileno())  # the last one would take minutes, without a sign of life
                self.of.here[self.name] = file.tell()

    def _spoiled(self, why: str) -> NoReturn:
        os.unlink(self.path)
        self.of.here[self.name] = 0
        raise Refused("download-corrupt", f"{self.name} arrived damaged, {why}", passes=True)


def _is_file(path: str, size: int) -> bool:
    """Whether there is a file of this length; its content is judged elsewhere."""
    return os.path.isfile(path) and os.path.getsize(path) == size


def _leave_with_the_caller() -> None:
    """End when whoever started us is gone or wants no more."""
    while os.read(0, CHUNK):
        pass
    os._exit(3)


def main() -> None:
    """Read the request and answer it."""
    answers, lock = os.dup(1), threading.Lock()
    os.dup2(2, 1)  # whatever a library prints is no answer

    def say(document: Facts) -> None:
        line = json.dumps(document).encode() + b"\n"
        with lock:
            while line:
                line = line[os.write(answers, line) :]

    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_the_caller, daemon=True).start()
    # Before the library is imported: it sends nothing but what is asked for, and draws no bars.
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_VERBOSITY": "error"}
    try:
        say({"done": check(request, say) if request["do"] == "check" else Download(request, say).run()})
    except Exception as error:
        say({"error": evidence(error)})
    os._exit(0)  # without the threads that still wait for a hub


if __name__ == "__main__":
    main()
