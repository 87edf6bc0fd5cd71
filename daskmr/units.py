"""Numbers written for people: bytes, and seconds. Pure."""

from __future__ import annotations

__all__ = ["counted", "format_bytes", "format_seconds"]


def format_bytes(count: float) -> str:
    """Write a number of bytes for people.

    >>> format_bytes(999), format_bytes(1_500_000)
    ('999 B', '1.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_seconds(seconds: float) -> str:
    """Write a time for people.

    >>> format_seconds(0.25), format_seconds(42), format_seconds(150), format_seconds(9000)
    ('0.2 s', '42 s', '2 min 30 s', '2 h 30 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun.

    >>> counted(1, "key"), counted(1200, "key")
    ('1 key', '1,200 keys')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
