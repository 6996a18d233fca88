"""The files of attributes.system.files, written into the job's temporary directory (RFC 37; spec 07, 5.13)."""

from __future__ import annotations

import binascii
import json
import os
import stat
from typing import Any

from fluxlet.shell.options import ShellError


def write_files(files: dict[str, Any], directory: str) -> None:
    """Writes them. Raises ShellError for an entry that is none, or a file that cannot be written."""
    for name, entry in files.items():
        mode, data = _content(name, entry)
        path = os.path.normpath(os.path.join(directory, name))
        if os.path.isabs(name) or not path.startswith(directory + os.sep):
            raise ShellError(f"files: {name} is not inside the job's temporary directory")
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            if stat.S_ISLNK(mode):
                os.symlink(data.decode(), path)
                continue
            if stat.S_ISDIR(mode):
                os.makedirs(path, stat.S_IMODE(mode), exist_ok=True)
                continue
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        except OSError as exc:
            raise ShellError(f"files: {name}: {exc.strerror}") from None


def _content(name: str, entry: Any) -> tuple[int, bytes]:
    if isinstance(entry, str):
        return 0o100600, entry.encode("utf-8", "surrogateescape")
    if not isinstance(entry, dict) or type(entry.get("mode", 0)) is not int:
        raise ShellError(f"files: invalid entry for {name}")
    mode = entry.get("mode", 0o100600)
    data = entry.get("data", "")
    if not isinstance(data, str):
        return mode, json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")
    encoding = entry.get("encoding", "utf-8")
    if encoding == "utf-8":
        return mode, data.encode("utf-8", "surrogateescape")
    if encoding == "base64":
        try:
            return mode, binascii.a2b_base64(data)
        except binascii.Error as exc:
            raise ShellError(f"files: {name}: {exc}") from None
    raise ShellError(f"files: {name}: unknown encoding {encoding}")
