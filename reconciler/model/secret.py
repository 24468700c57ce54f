"""What looks like a secret, wherever it turns up: in a file, in a log, in a message."""

import re
from typing import Final

SECRET: Final = re.compile(
    r"\b(?:(?:sk|hf|gh[oprsu]|github_pat|xox[abps]|glpat)[-_][A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{16})"
    r"|-----BEGIN |\b[Bb](?i:earer) [A-Za-z0-9._~+/-]{16,}"
)
"""Keys of model hubs, providers and forges by their prefixes, private keys, and bearer tokens."""
_KEY_BLOCK: Final = re.compile(r"-----BEGIN .*?(?:-----END [^-\n]*-----|\Z)", re.DOTALL)
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/\s]+(?=@)")
HIDDEN: Final = "[secret]"


def redacted(text: str) -> str:
    """The text, of one line or many, without what looks like a secret and without a user in an address (S17)."""
    return _IN_ADDRESS.sub(HIDDEN, SECRET.sub(HIDDEN, _KEY_BLOCK.sub(HIDDEN, text)))
