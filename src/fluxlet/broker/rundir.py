"""The directories of a broker: `rundir`, `statedir`, and the place of its socket (spec 03, section 4).

Rules:
- A directory that we make is ours alone (mode 0700); one that we are given must be ours.
- Who removes what is decided here, when the directory is made: `Directory.cleanup`.
- A directory that we made with a random name holds `broker.pid`, which the broker keeps locked while it lives. A
  later broker removes such a directory when nobody holds the lock and the process is gone (section 17): both,
  for a process may be invisible from another container, and locks may not work on a network file system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

#: Longest path of rundir, in bytes, so that a socket's address in it fits.
MAX_RUNDIR = 96
#: sizeof(sun_path) - 1, which the system does not tell.
MAX_SOCKET = 107 if os.uname().sysname == "Linux" else 103

PID_FILE = "broker.pid"
_PREFIX = "flux-"
_RANDOM = 6
_NAME_LENGTH = len("/") + len(_PREFIX) + _RANDOM


class DirectoryError(Exception):
    """A directory or address cannot be used; the text says why, for the log."""


class Directory(NamedTuple):
    """A directory in use: its path, whether it goes at exit, and whether we gave it a random name."""

    path: str
    cleanup: bool
    temporary: bool = False


def default_parent(name: str, tmpdir: str | None) -> tuple[str, str | None]:
    """Where `rundir` or `statedir` goes by default, and a warning or None.

    A TMPDIR too long for the address of a socket in it is not used for rundir (section 17).
    """
    if tmpdir is None:
        return ("/tmp" if name == "rundir" else "/var/tmp"), None
    length = len(os.fsencode(tmpdir)) + _NAME_LENGTH
    if name == "rundir" and length > MAX_RUNDIR:
        return "/tmp", (
            f"rundir: TMPDIR is too long for a socket in it ({length} bytes exceeds max {MAX_RUNDIR}): using /tmp"
        )
    return tmpdir, None


def prepare(
    name: str, given: str | None, parent: str, about_to: Callable[[str], None] = lambda path: None
) -> Directory:
    """Makes the directory ready.

    Args:
        name: `rundir` or `statedir`, for messages.
        given: what the user set, or None.
        parent: where to make one if nothing is set.
        about_to: told of the directory that is made, before it is.

    Raises DirectoryError.
    """
    if given is None:
        return _temporary(name, parent, about_to)
    _check_length(name, given)
    try:
        mode = os.stat(given).st_mode
    except FileNotFoundError:
        about_to(given)
        try:
            os.mkdir(given, 0o700)
        except OSError as exc:
            raise DirectoryError(f"{name} error creating {given}: {exc.strerror}") from None
        return Directory(given, cleanup=True)
    except OSError as exc:
        raise DirectoryError(f"{name} cannot stat {given}: {exc.strerror}") from None
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return _temporary(name, given, about_to)
    check_owner(name, given)
    return Directory(given, cleanup=False)


def _check_length(name: str, path: str, more: int = 0) -> None:
    length = len(os.fsencode(path)) + more
    if name == "rundir" and length > MAX_RUNDIR:
        raise DirectoryError(
            f"rundir length of {length} bytes exceeds max {MAX_RUNDIR} to allow for AF_UNIX socket creation."
        )


def _temporary(name: str, parent: str, about_to: Callable[[str], None]) -> Directory:
    _check_length(name, parent, _NAME_LENGTH)
    parent = parent.rstrip("/") or "/"
    while True:
        path = os.path.join(parent, _PREFIX + os.urandom(_RANDOM // 2).hex())
        about_to(path)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        except OSError as exc:
            raise DirectoryError(f"{name} cannot create directory in {parent}: {exc.strerror}") from None
        return Directory(path, cleanup=True, temporary=True)


def check_owner(name: str, path: str) -> None:
    """Raises DirectoryError unless `path` is a directory of this user that this user may use in every way."""
    try:
        found = os.stat(path)
    except OSError as exc:
        raise DirectoryError(f"{name} cannot stat {path}: {exc.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise DirectoryError(f"{name} {path} is not a directory: {os.strerror(errno.ENOTDIR)}")
    if found.st_uid != os.getuid():
        raise DirectoryError(f"{name} {path} is not owned by instance owner: {os.strerror(errno.EPERM)}")
    if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        raise DirectoryError(f"{name} {path} does not have owner=rwx permissions")


def socket_path(uri: str | None, rundir: str, rank: int = 0) -> str:
    """The path of the broker's socket: that of `local-uri` if the user has set it. Raises DirectoryError."""
    if uri is None:
        return os.path.join(rundir, f"local-{rank}")
    if not uri.startswith("local://"):
        raise DirectoryError("local-uri is malformed")
    path = uri.removeprefix("local://")
    check_owner("local-uri directory", os.path.dirname(path) or ".")
    length = len(os.fsencode(path))
    if length > MAX_SOCKET:
        raise DirectoryError(f"local-uri length of {length} bytes exceeds max {MAX_SOCKET} AF_UNIX socket path length")
    return path


# Whose a directory is, and what has become of it.


def claim(directory: Directory) -> int:
    """Writes the pid file of a directory and locks it; the lock lasts until the descriptor returned is closed."""
    path = os.path.join(directory.path, PID_FILE)
    fd = os.open(path + ".new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"%d\n" % os.getpid())
        _lock(fd)
        # Under its name only once it is locked: nobody ever sees it free while we live.
        os.rename(path + ".new", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # held by a living broker, or a file system without locks
    return True


def remove_stale(parent: str) -> list[str]:
    """Removes this user's directories in `parent` that brokers have left behind; returns their paths."""
    try:
        entries = os.scandir(parent)
    except OSError:
        return []  # who wants to make a directory here will hear about it
    removed = []
    with entries:
        for entry in entries:
            name = entry.name
            named_so = len(name) == len(_PREFIX) + _RANDOM and name.startswith(_PREFIX)
            if named_so and _stale(entry) and remove_tree(entry.path):
                removed.append(entry.path)
    return removed


def _stale(entry: os.DirEntry[str]) -> bool:
    try:
        if not entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_uid != os.getuid():
            return False
        fd = os.open(os.path.join(entry.path, PID_FILE), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # gone meanwhile, or none of ours
    try:
        pid = int(os.read(fd, 32))
        return pid > 0 and _lock(fd) and not _exists(pid)
    except ValueError:
        return False
    finally:
        os.close(fd)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_tree(path: str) -> bool:
    """Removes a directory and all in it; links are not followed. False if something could not be removed."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
        os.rmdir(path)
    except FileNotFoundError:
        return True  # somebody else removes it too
    except PermissionError:
        try:
            if os.lstat(path).st_mode & stat.S_IRWXU == stat.S_IRWXU:
                return False
            os.chmod(path, 0o700)  # its owner has locked it: that does not keep it
        except OSError:
            return False
        return remove_tree(path)
    except OSError:
        return False
    return True
