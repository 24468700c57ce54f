"""Under what the memory of a model is remembered: its configuration, whatever folder it lies in."""

import hashlib


def memory_key(config: bytes) -> str:
    """For `Digests.measure`; the content of config.json decides."""
    return f"memory:{hashlib.sha256(config).hexdigest()}"
