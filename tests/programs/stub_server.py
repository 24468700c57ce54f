"""Stands in for mlx_lm.server: serves the folder it is given, and misbehaves as `orders.json` in it says; stdlib alone.

It is started by the command line of the real one. Every start adds its pid to the file `starts` in that folder, so
that a test can count starts without asking whoever is under test.
"""

import argparse
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

COMPLETION = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}


class Handler(BaseHTTPRequestHandler):
    """Answers every POST with a completion, or with what the orders say."""

    answer: ClassVar[tuple[int, Any]] = (200, COMPLETION)

    def do_GET(self) -> None:
        """What lists models and what says that it is healthy is always well."""
        self._say(200, {"object": "list", "data": [{"id": "default_model"}], "status": "ok"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._say(*self.answer)

    def _say(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    known, _ = parser.parse_known_args()
    with (known.model / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    file = known.model / "orders.json"
    orders = json.loads(file.read_text()) if file.exists() else {}
    for line in orders.get("say", ()):
        print(line, file=sys.stderr, flush=True)
    if "exit" in orders:
        sys.exit(orders["exit"])
    if orders.get("hang"):
        signal.pause()
    if "answer" in orders:
        Handler.answer = (orders["answer"]["status"], orders["answer"]["body"])
    ThreadingHTTPServer((known.host, known.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
