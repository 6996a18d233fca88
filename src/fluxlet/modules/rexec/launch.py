"""Starting a process (spec 04, 5.2).

`subprocess.Popen` does it: by vfork, so that the size of the broker does not matter, with a directory and a process
group, and with an errno if the program cannot be executed. Of its object nothing is used: the server waits itself.

Rules:
- The child has descriptors 0 to 2 and its channels, and no others.
- A directory that cannot be entered is no failure: the process runs in /tmp, and says so on its stderr.
- The guardian knows of the process before anybody could tell that it is ours.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from fluxlet.modules.rexec.command import Command

if TYPE_CHECKING:
    from fluxlet.broker.guardian import Guardian

#: Bits of `local_flags`. The last one is about how the reference starts processes, and means nothing to us.
INHERIT_STDIO = 1
NO_GROUP = 2
FORK_EXEC = 4
LOCAL_FLAGS = INHERIT_STDIO | NO_GROUP | FORK_EXEC

_FALLBACK = "/tmp"


class Launched(NamedTuple):
    """A process that has been started.

    Args:
        pid: its process id.
        stdin: our end of its standard input; None: it has none that we could write to.
        outputs: our ends of its stdout and stderr, those that we listen to.
        channels: our ends of its auxiliary channels.
    """

    pid: int
    stdin: socket.socket | None
    outputs: dict[str, int]
    channels: dict[str, socket.socket]


def launch(
    command: Command,
    environ: dict[str, str],
    streams: frozenset[str],
    local_flags: int,
    feed: bool,
    guardian: Guardian | None,
) -> Launched:
    """Starts a process.

    Args:
        command: what to run.
        environ: its environment; the numbers of its channels are added.
        streams: which of `stdout` and `stderr` are listened to; the child has no descriptor for the other ones.
        local_flags: INHERIT_STDIO, NO_GROUP, FORK_EXEC.
        feed: it has a standard input; else it is at its end.
        guardian: told of the process; None: nobody is.

    Raises OSError with the errno and text for the requestor.
    """
    from subprocess import DEVNULL, Popen  # not every instance has something to start

    inherit = bool(local_flags & INHERIT_STDIO)
    with ExitStack() as ours, ExitStack() as theirs:
        stdin, child_stdin = None, DEVNULL
        if inherit:
            child_stdin = 0
        elif feed:
            stdin, child_end = _socketpair(ours, theirs)
            child_stdin = child_end.fileno()
        outputs: dict[str, int] = {}
        writers: dict[str, int] = {}
        for name in () if inherit else streams:
            outputs[name], writers[name] = os.pipe()
            ours.callback(os.close, outputs[name])
            theirs.callback(os.close, writers[name])
            os.set_blocking(outputs[name], False)
        channels: dict[str, socket.socket] = {}
        numbers = []
        for name in command.channels:
            channels[name], child_end = _socketpair(ours, theirs)
            environ[name] = str(child_end.fileno())
            numbers.append(child_end.fileno())
        words = command.cmdline
        program = find_executable(words[0], environ, command.cwd)
        closed = [] if inherit else [fd for name, fd in (("stdout", 1), ("stderr", 2)) if name not in streams]
        if closed:
            # Popen can give a child any descriptor, but not none.
            _check_executable(os.path.join(command.cwd or "", program))
            closing = " ".join(f"{fd}>&-" for fd in closed)
            words = ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", program, *words[1:]]
            program = "/bin/sh"
        cwd = _directory(command.cwd, writers.get("stderr"))
        if guardian is not None:
            guardian.add_starting(environ["FLUX_URI"])
        pid = 0
        try:
            child = Popen(
                words,
                executable=program,
                stdin=child_stdin,
                stdout=writers.get("stdout", None if inherit else DEVNULL),
                stderr=writers.get("stderr", None if inherit else DEVNULL),
                close_fds=True,
                pass_fds=numbers,
                cwd=cwd,
                env=environ,
                process_group=None if local_flags & NO_GROUP else 0,
            )
            child.returncode = 0  # it is not Popen that waits for it
            pid = child.pid
        except ValueError:
            # A NUL in a word, a = in the name of a variable, text that no file system can have.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
        finally:
            if guardian is not None:
                guardian.started(pid, not local_flags & NO_GROUP)
        ours.pop_all()
    return Launched(pid, stdin, outputs, channels)


def _check_executable(path: str) -> None:
    """Raises what execve(2) would, for the two commonest reasons."""
    os.stat(path)
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _socketpair(ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, socket.socket]:
    mine, child_end = socket.socketpair()
    ours.callback(mine.close)
    theirs.callback(child_end.close)
    mine.setblocking(False)
    return mine, child_end


def _directory(cwd: str | None, stderr: int | None) -> str | None:
    """The directory that the process is to run in; if it is not the one that was wanted, its stderr says so."""
    if cwd is None:
        return None
    try:
        # Entering it, without going there ourselves.
        os.close(os.open(os.path.join(cwd, ".") if cwd else cwd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        if os.access(cwd, os.X_OK):
            return cwd
        errnum = errno.EACCES
    except PermissionError:
        if os.access(cwd, os.X_OK):
            return cwd  # it may be entered, but not listed
        errnum = errno.EACCES
    except OSError as exc:
        errnum = exc.errno or errno.ENOENT
    except ValueError:
        errnum = errno.ENOENT
    if stderr is not None:
        text = f"Could not change dir to {cwd}: {os.strerror(errnum)}. Going to {_FALLBACK} instead\n"
        os.write(stderr, text.encode("utf-8", "surrogateescape")[:4096])
    return _FALLBACK


def find_executable(word: str, environ: Mapping[str, str], cwd: str | None) -> str:
    """The path of a program, as execvp(3) finds it: in the PATH of its environment, then in that of this process.

    Raises OSError: EACCES if all that was found may not be executed, ENOENT if nothing was found.
    """
    if "/" in word:
        return word  # from the directory it runs in; execve tells what is wrong with it
    denied = False
    for variables in (environ, os.environ):
        for directory in variables.get("PATH", os.defpath).split(":"):
            path = os.path.join(cwd or "", directory or ".", word)
            try:
                if os.access(path, os.X_OK) and not os.path.isdir(path):
                    return path
                denied = denied or os.path.isfile(path)
            except ValueError:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    errnum = errno.EACCES if denied else errno.ENOENT
    raise OSError(errnum, os.strerror(errnum))
