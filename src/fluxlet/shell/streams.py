"""What tasks write, on its way to events or a file: lines, characters that are cut in two, limits (spec 07, 5.6)."""

from __future__ import annotations

#: A line longer than this is cut.
LONGEST_LINE = 4194304


class Lines:
    """Line buffering: what comes out ends with a newline, but for the rest at the end."""

    __slots__ = ("_rest", "_size")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0

    def take(self, data: bytes) -> bytes:
        """What can go on, now that `data` has come."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest.append(data)
            self._size += len(data)
            if self._size >= LONGEST_LINE:
                return self.flush()
            return b""
        done = data[:end]
        if self._size:
            self._rest.append(done)
            done = b"".join(self._rest)
            self._rest.clear()
        self._size = len(data) - end
        if self._size:
            self._rest.append(data[end:])
        return done

    def flush(self) -> bytes:
        """The rest."""
        rest = b"".join(self._rest)
        self._rest.clear()
        self._size = 0
        return rest


class Characters:
    """No buffering, but that a UTF-8 character of which only a part has come is held back for one read."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """What can go on, now that `data` has come."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        cut = incomplete(data)
        if cut and cut < len(data):
            self._rest = data[-cut:]
            return data[:-cut]
        return data

    def flush(self) -> bytes:
        """The rest."""
        rest, self._rest = self._rest, b""
        return rest


def incomplete(data: bytes) -> int:
    """How many bytes at the end of `data` begin a UTF-8 character that is not complete; 0 if it is."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 1 if byte < 0x80 else 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4 if byte >> 3 == 30 else 0
        return back if length > back else 0
    return 0


def labeled(data: bytes, label: bytes) -> bytes:
    """Every line of `data` with a label in front."""
    lines = data.split(b"\n")
    last = lines.pop()
    text = b"".join(label + line + b"\n" for line in lines)
    return text + label + last if last else text


class Limit:
    """How much of one stream may go to the KVS: what would pass that is dropped, by whole pieces."""

    __slots__ = ("limit", "total", "warned")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self.warned = False

    def admits(self, size: int) -> bool:
        """Counts a piece; False if it is to be dropped."""
        self.total += size
        return self.total <= self.limit

    @property
    def truncated(self) -> int:
        """How much there was above the limit."""
        return max(0, self.total - self.limit)


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str, most: int = 1 << 30) -> int:
    """A size in bytes, with a unit k, M or G if need be. Raises ValueError for what is none, or above `most`."""
    number, unit = text, ""
    if text and text[-1].isalpha():
        number, unit = text[:-1], text[-1].lower()
    try:
        size = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise ValueError(f"invalid size: {text}") from None
    if size < 0 or size > most:
        raise ValueError(f"invalid size: {text}: it must be between 0 and {most}")
    return size
