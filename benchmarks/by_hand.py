"""What somebody without reconciler does: start servers side by side, and ask until each has answered."""

import os
import sys
from pathlib import Path

from benchmarks.servers import spawn, until_all_answer


def main() -> None:
    """LOG MODEL=PORT...: prints the pids, and leaves the servers running."""
    log, *pairs = sys.argv[1:]
    ports = []
    for pair in pairs:
        model, _, port = pair.rpartition("=")
        argv = [sys.executable, "-m", "mlx_lm", "server", f"--model={model}", "--host=127.0.0.1", f"--port={port}"]
        print(spawn(argv, os.environ, Path(log)))
        ports.append(int(port))
    until_all_answer(ports)


if __name__ == "__main__":
    main()
