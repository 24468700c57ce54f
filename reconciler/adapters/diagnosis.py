"""Why a server does not serve, as far as its log says."""

from collections.abc import Mapping
from dataclasses import replace

from reconciler.backends.base import Backend, Diagnosis
from reconciler.model.observed import ServerProcess


class LogDiagnosis:
    """Reads the end of a server's log with the eyes of its backend; a log that has not grown is not read again."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = backends
        self._read: dict[str, tuple[int, int, Diagnosis | None]] = {}

    def of(self, process: ServerProcess) -> Diagnosis | None:
        """What the log says, or None."""
        from .server_log import end, safe, size

        backend = self._backends.get(process.fields.get("backend", ""))
        if backend is None or not process.log:
            return None
        stamp = process.log_start, size(process.log)
        known = self._read.get(process.log)
        if known is not None and known[:2] == stamp:
            return known[2]
        found = backend.diagnose(end(process.log, process.log_start))
        found = None if found is None else replace(found, message=safe(found.message))
        self._read[process.log] = (*stamp, found)
        return found

    def diagnosed(self, process: ServerProcess) -> ServerProcess:
        """The process with what its log says about its end; as it was where the log says nothing known."""
        found = self.of(process)
        if found is None:
            return process
        return replace(process, cause=found.cause, detail=found.message, permanent=found.permanent)
