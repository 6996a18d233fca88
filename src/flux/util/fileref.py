"""`Fileref`: a file, or data to become one, as the JSON object of RFC 37 (spec 02, 13.6)."""

from __future__ import annotations

import base64
import os
import stat
from typing import Any


class Fileref(dict[str, Any]):
    """The description of a regular file.

    Args:
        data: a dict (a JSON object, the content as such); with `encoding`, the content encoded like that;
            else the path of a file to read.
        perms: permission bits; those of a file that is read are its own.
        encoding: ``utf-8`` or ``base64``.

    Raises ValueError for another encoding, OSError if the file cannot be read.
    """

    def __init__(self, data: Any, perms: int = 0o600, encoding: str | None = None) -> None:
        super().__init__()
        if isinstance(data, dict):
            self.update(mode=perms | stat.S_IFREG, data=data)
        elif encoding is None:
            self._read(data)
        elif encoding in ("utf-8", "base64"):
            self.update(mode=perms | stat.S_IFREG, data=data, encoding=encoding)
        else:
            raise ValueError(f"invalid encoding: {encoding}")

    def _read(self, path: str | bytes | os.PathLike[Any]) -> None:
        with open(path, "rb") as file:
            status = os.stat(file.fileno())
            content = file.read()
        self.update(mode=status.st_mode, size=status.st_size)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            text = "\0"
        # Flux's JSON parser refuses NUL in strings, so a file that has one is not text to it.
        if "\0" in text:
            self.update(encoding="base64", data=base64.b64encode(content).decode("ascii"))
        else:
            self.update(encoding="utf-8", data=text)
