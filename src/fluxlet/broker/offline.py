"""Archives of the KVS that an instance begins with, or leaves behind: attributes `content.restore`
and `content.dump` (spec 05, 11.4).

Both are done while the KVS is not there: the restore before it is loaded, the dump when it has been removed. Together
they are the way to be rid of what no key leads to any more.

Rules:
- `auto` is a file of the state directory: `dump/YYYYMMDD_HHMMSS.tgz`, with a link `dump/RESTORE` to the newest. An
  instance that keeps no state has `dump` in its working directory. The link is gone once it has been followed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

AUTO = "auto"
_LINK = "RESTORE"


def _directory(attributes: Mapping[str, str]) -> str:
    kept = attributes.get("statedir-cleanup", "1") != "1"
    return os.path.join(attributes["statedir"] if kept else ".", "dump")


def restore_words(attributes: Mapping[str, str]) -> list[str] | None:
    """The command that restores what attribute content.restore names; None if there is nothing to restore.

    Raises OSError if the file cannot be read.
    """
    path = attributes.get("content.restore")
    if path == AUTO:
        link = os.path.join(_directory(attributes), _LINK)
        path = os.path.realpath(link) if os.path.islink(link) else None
    if path is None:
        return None
    with open(path, "rb"):
        pass  # before anything is thrown away for it
    return ["restore", "--quiet", "--checkpoint", "--size-limit=100M", path]


def restored(attributes: Mapping[str, str]) -> None:
    """To be called when it has been restored. Raises OSError."""
    link = os.path.join(_directory(attributes), _LINK)
    if attributes.get("content.restore") == AUTO and os.path.islink(link):
        os.unlink(link)


def dump_words(attributes: Mapping[str, str], now: float) -> list[str] | None:
    """The command that writes what attribute content.dump names; None: nothing is to be written.

    Args:
        now: seconds since the epoch, after which a file is called.

    Raises OSError if the directory cannot be made.
    """
    path = attributes.get("content.dump")
    if path is None:
        return None
    if path == AUTO:
        directory = _directory(attributes)
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, time.strftime("%Y%m%d_%H%M%S.tgz", time.localtime(now)))
    how = ["--quiet", "--ignore-failed-read", "--no-cache", "--maxreqs=128", "--checkpoint"]
    return ["dump", *how, path]


def dumped(attributes: Mapping[str, str], path: str) -> None:
    """To be called when `path` has been written. Raises OSError."""
    if attributes.get("content.dump") == AUTO:
        link = os.path.join(os.path.dirname(path), _LINK)
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(os.path.basename(path), link)
