"""What looks like a secret, wherever it turns up: in a file, in a log, in a message."""

import re
from typing import Final

SECRET: Final = re.compile(
    r"\b(?:(?:sk|hf|gh[oprsu]|github_pat|xox[abps]|glpat)[-_][A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{16})"
    r"|-----BEGIN |\bBearer [A-Za-z0-9._~+/-]{16,}"
)
"""Keys of model hubs, providers and forges by their prefixes, private keys, and bearer tokens."""
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
HIDDEN: Final = "[secret]"


def redacted(text: str) -> str:
    """The text without what looks like a secret, and without a password in an address (fault S17)."""
    return _IN_ADDRESS.sub(HIDDEN, SECRET.sub(HIDDEN, text))
