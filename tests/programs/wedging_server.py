"""Answers completions a few times and then misbehaves as servers are known to; runs by path with `-S`, stdlib alone.

    wedging_server.py --port=NUMBER --good=COUNT --then=HOW

Every request after the first COUNT meets HOW:
    well       a completion, as before
    silent     it is read and never answered
    headers    200 and the headers, and no body ever (omlx#2852)
    stream     a client that asks for a stream gets a token every 50 ms without end; everybody else waits for ever
    compute    a client that asks for a stream is computed for without end; everybody else waits for ever
    late       the next two answers come after a second, as from memory that was swapped out; then it is well again
    other      the words of a server that looks for another model
    error      500, while /v1/models is well
Connections are kept open. A line of its log tells each request.
"""

import itertools
import socket
import sys
import threading
import time

TOKEN_PAUSE = 0.05
LATE = 1.0
MESSAGE = '{"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}'
COMPLETION = f'{{"object": "chat.completion", "choices": [{MESSAGE}]}}'
OTHER = "Repo id must be in the form 'repo_name' or 'namespace/repo_name'"
KINDS = {
    "well": ("200 OK", COMPLETION),
    "late": ("200 OK", COMPLETION),
    "other": ("404 Not Found", OTHER),
    "error": ("500 Internal Server Error", "{}"),
}


def main() -> None:
    given = dict(flag.removeprefix("--").partition("=")[::2] for flag in sys.argv[1:])
    listener = socket.create_server(("127.0.0.1", int(given["port"])), backlog=64)
    numbers = itertools.count()
    while True:
        connection, _ = listener.accept()
        arguments = (connection, numbers, int(given["good"]), given["then"])
        threading.Thread(target=serve, args=arguments, daemon=True).start()


def serve(connection: socket.socket, numbers: "itertools.count[int]", good: int, how: str) -> None:
    """The requests of one connection."""
    with connection, connection.makefile("rb") as lines:
        while request := lines.readline().decode().split():
            length = 0
            while (header := lines.readline().strip()) != b"":
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            body = lines.read(length)
            if request[0] == "GET":
                say(connection, "200 OK", '{"data": []}')
                continue
            number = next(numbers)
            print(f"request {number}", file=sys.stderr, flush=True)
            misbehave(connection, how, body, late=number < good + 2) if number >= good else say(
                connection, *KINDS["well"]
            )


def misbehave(connection: socket.socket, how: str, body: bytes, late: bool) -> None:
    streams = b'"stream": true' in body
    if how == "headers":
        connection.sendall(head("200 OK", 1000))
    if how == "stream" and streams:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            connection.sendall(b'data: {"choices": []}\n\n')
            time.sleep(TOKEN_PAUSE)
    while how == "compute" and streams:
        pass
    if how == "late" and late:
        time.sleep(LATE)
    if how in KINDS:
        say(connection, *KINDS[how])
    else:
        threading.Event().wait()


def say(connection: socket.socket, status: str, body: str) -> None:
    connection.sendall(head(status, len(body)) + body.encode())


def head(status: str, length: int) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


if __name__ == "__main__":
    main()
