"""Answers like `mlx_lm.server` without a model, in milliseconds; runs by path with `-S`, stdlib alone.

    quick_server.py FOLDER --model=PATH --host=ADDRESS --port=NUMBER [other flags, ignored]

What it does beyond that stands in FOLDER/PORT or FOLDER/models--OWNER--NAME, files that a test writes: `fail` ends it
at once with exit code 1, `unsupported` with the words of a model that no restart can mend, `mute` lets it listen and
keep its answers until the file is gone. A line of its log tells each request.
"""

import os
import socket
import sys
import threading
import time

PAUSE = 0.01
UNSUPPORTED = """Traceback (most recent call last):
  File "mlx_lm/utils.py", line 168, in _get_classes
    raise ValueError(msg)
ValueError: Model type weirdo not supported."""


def main() -> None:
    folder, *flags = sys.argv[1:]
    given = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
    # What weights are served decides first: a test can so let one commit fail and the one before it not.
    loaded = [part for part in given["model"].split("/") if part.startswith("models--")]
    by_weights = os.path.join(folder, *loaded[:1])
    orders = by_weights if loaded and os.path.exists(by_weights) else os.path.join(folder, given["port"])
    if said(orders) == "fail":
        sys.exit(1)
    if said(orders) == "unsupported":
        print(UNSUPPORTED, file=sys.stderr, flush=True)
        sys.exit(1)
    listener = socket.create_server((given["host"], int(given["port"])), backlog=64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, orders, given["model"]), daemon=True).start()


def said(orders: str) -> str:
    """What a test wants of the server of this port."""
    try:
        with open(orders) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def serve(connection: socket.socket, orders: str, model: str) -> None:
    """Answer the requests of one connection."""
    with connection, connection.makefile("rb") as lines:
        while request := lines.readline().decode().split():
            length = 0
            while (header := lines.readline().strip()) != b"":
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            lines.read(length)
            while said(orders) == "mute":
                time.sleep(PAUSE)
            answer(connection, request[0], request[1], model)


def answer(connection: socket.socket, method: str, path: str, model: str) -> None:
    """A completion where one is asked for, and 404 for everything else."""
    asked = (method, path) == ("POST", "/v1/chat/completions")
    status = "200 OK" if asked else "404 Not Found"
    choice = '{"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}'
    body = f'{{"object": "chat.completion", "model": "{model}", "choices": [{choice}]}}' if asked else "{}"
    print(
        f'127.0.0.1 - - [01/Jan/2026 00:00:00] "{method} {path} HTTP/1.1" {status[:3]} -', file=sys.stderr, flush=True
    )
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall((head + body).encode())


if __name__ == "__main__":
    main()
