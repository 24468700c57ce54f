"""What only the kernel of macOS says, through sysctl and without starting a program."""

from typing import Any, Final

_TEXT_BYTES: Final = 256


def sysctl_number(name: str) -> int | None:
    """A number such as `hw.memsize` (4 or 8 bytes long); None where this kernel has none of that name."""
    raw = _sysctl(name)
    return int.from_bytes(raw, "little") if raw is not None and len(raw) in {4, 8} else None


def sysctl_text(name: str) -> str | None:
    """A text such as `kern.bootsessionuuid`; None where this kernel has none of that name."""
    raw = _sysctl(name)
    return None if raw is None else raw.rstrip(b"\0").decode("utf-8", "replace")


def _sysctl(name: str) -> bytes | None:
    import ctypes

    call: Any = getattr(ctypes.CDLL(None), "sysctlbyname", None)
    if call is None:
        return None
    value = ctypes.create_string_buffer(_TEXT_BYTES)
    length = ctypes.c_size_t(_TEXT_BYTES)
    failed = call(name.encode("ascii"), value, ctypes.byref(length), None, ctypes.c_size_t(0))
    return None if failed else value.raw[: length.value]
