"""Running short programs of the system for what they say."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.model.observed import Absent, Observation, Present, Unknown
from reconciler.model.transcript import Transcript
from reconciler.ports.errors import ObservationError

SECONDS: Final = 10.0
"""How long one of them may take; they answer in milliseconds."""
_LONGEST: Final = 2**20


def transcript(words: Sequence[str], seconds: float = SECONDS, environ: Mapping[str, str] | None = None) -> Transcript:
    """What a program says, in its own words and not in the language of the user. Raises ObservationError."""
    import subprocess

    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            cwd="/",
            env={**(os.environ if environ is None else environ), "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise ObservationError(f"there is no program {words[0]} on the PATH") from None
    except subprocess.TimeoutExpired:
        raise ObservationError(f"{words[0]} gave no answer in {seconds:.0f} s") from None
    except OSError as error:
        raise ObservationError(f"{words[0]} cannot be run: {error.strerror}") from None
    return Transcript(code=done.returncode, out=_text(done.stdout), err=_text(done.stderr))


def _text(raw: bytes) -> str:
    return raw[:_LONGEST].decode("utf-8", "replace")


class LocalMac:
    """The programs of this Mac."""

    def __init__(self, platform: str = sys.platform) -> None:
        self._platform = platform

    def ask(self, *words: str) -> Observation[Transcript]:
        """What the command says."""
        if self._platform != "darwin":
            return Absent()
        try:
            return Present(value=transcript(words))
        except ObservationError as error:
            return Unknown(reason=str(error))
