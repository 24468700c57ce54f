"""What child.c does, where there is no compiler: slower to start, so its ratios say less."""

import socket
import sys
import time

BODY = b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"x"}}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


def main() -> None:
    """Answer every request with a completion."""
    print(f"began {time.monotonic_ns()}", file=sys.stderr, flush=True)
    port = next(int(a.partition("=")[2]) for a in sys.argv if a.startswith("--port="))
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        while True:
            peer, _ = listener.accept()
            with peer:
                text = b""
                while b"\r\n\r\n" not in text:
                    text += peer.recv(4096)
                head, _, body = text.partition(b"\r\n\r\n")
                length = next((int(h[15:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0)
                while len(body) < length:
                    body += peer.recv(4096)
                peer.sendall(HEAD % len(BODY) + BODY)


if __name__ == "__main__":
    main()
