"""A server that answers every request with its pid and misbehaves on demand; runs by path, stdlib alone."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--say", action="append", default=[], help="a line for the log")
    parser.add_argument("--crash", type=int, help="end at once with this exit code")
    parser.add_argument("--exit-after", type=float, help="end by itself after that many seconds")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--never-listen", action="store_true", help="live, and have no port")
    parser.add_argument("--bind-late", type=float, default=0.0, help="seconds before it listens")
    parser.add_argument(
        "--lose-bind", action="store_true", help="live on when the port is taken, as mlx_lm.server does"
    )
    parser.add_argument("--fork-child", action="store_true", help="a forked worker: it has the lock too")
    parser.add_argument("--spawn-child", action="store_true", help="a worker of its own program: it has no lock")
    parser.add_argument("--daemon-child", action="store_true", help="a forked worker in a session of its own")
    parser.add_argument("--leave-main", action="store_true", help="end the first thread and serve in another")
    options = parser.parse_args()
    for line in options.say:
        print(line, file=sys.stderr, flush=True)
    if options.crash is not None:
        sys.exit(options.crash)
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.exit_after is not None:
        threading.Timer(options.exit_after, os._exit, (0,)).start()
    children(options)
    if options.leave_main:
        threading.Thread(target=serve, args=(options,)).start()
        leave_main()
    serve(options)


def children(options: argparse.Namespace) -> None:
    """Workers that live until they are ended."""
    if options.spawn_child:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if (options.fork_child or options.daemon_child) and os.fork() == 0:
        if options.daemon_child:
            os.setsid()
        time.sleep(600)
        os._exit(0)


def leave_main() -> None:
    """End this thread alone; ctypes has let go of the interpreter's lock when the C function is called."""
    import ctypes

    ctypes.CDLL(None).pthread_exit(None)


def serve(options: argparse.Namespace) -> None:
    """Listen, if it comes to that, and answer."""
    time.sleep(options.bind_late)
    listener = None if options.never_listen else bound(options)
    print("ready", file=sys.stderr, flush=True)
    if listener is None:
        time.sleep(600)
        return
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            body = str(os.getpid())
            print("GET", file=sys.stderr, flush=True)
            connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def bound(options: argparse.Namespace) -> socket.socket | None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", options.port))
    except OSError as error:
        print(f"OSError: {error}", file=sys.stderr, flush=True)
        if not options.lose_bind:
            sys.exit(1)
        return None
    listener.listen()
    return listener


if __name__ == "__main__":
    main()
