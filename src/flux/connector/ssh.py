"""ssh://[USER@]HOST[:PORT]/PATH — an instance on another machine, through `flux relay` there (spec 01, 2.5).

Rules:

- ssh talks over one end of a socket pair, so that from there on it is a stream connection like any other.
- Whatever ssh and the remote side say on stderr goes to a nameless file: it is what an error is explained with, and
  a pipe that nobody reads would block ssh when full.
- The child is always reaped, and lives no longer than the connection.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from typing import IO
from urllib.parse import urlsplit

from flux.connector.stream import StreamConnector, read_greeting

#: Seconds that the child has to end by itself, once there is nothing more to read for it.
_PATIENCE = 5.0


def _invalid() -> OSError:
    return OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def ssh_command(path: str) -> list[str]:
    """The command line that connects to a URI; `path` is what follows ``ssh://``.

    Words that the remote shell would take apart are quoted; usual ones look as they always did. Raises
    OSError(EINVAL) for a URI without host or path, with a bad port, with a query or a fragment.
    """
    try:
        uri = urlsplit(f"//{path}")
        port = uri.port
    except ValueError:
        raise _invalid() from None
    user, at, _ = uri.netloc.rpartition("@")
    # Not `hostname`: that is in lower case, and names in ssh's configuration are not.
    host = uri.netloc.rpartition("@")[2]
    if port is not None or host.endswith(":"):
        host = host.rpartition(":")[0]
    host = host.removeprefix("[").removesuffix("]")
    if not host or host.startswith("-") or user.startswith("-") or not uri.path or "?" in path or "#" in path:
        raise _invalid()
    command = [os.environ.get("FLUX_SSH") or shutil.which("ssh") or "/usr/bin/ssh"]
    if port is not None:
        command += ["-p", str(port)]
    command.append(f"{user}{at}{host}")
    libraries = os.environ.get("LD_LIBRARY_PATH")
    remote = os.environ.get("FLUX_SSH_RCMD")
    variables = []
    if remote is None:
        flux = shutil.which("flux")
        directories = [os.path.join(os.path.dirname(uri.path), "bin")]
        if flux is not None:
            directories.append(os.path.dirname(os.path.abspath(flux)))
        variables.append("PATH=" + ":".join([*directories, "/bin", "/usr/bin"]))
    if libraries is not None:
        variables.append(f"LD_LIBRARY_PATH={libraries}")
    if variables:
        command += ["env", *[shlex.quote(variable) for variable in variables]]
    return [*command, remote or "flux", "relay", shlex.quote(uri.path)]


class SshConnector(StreamConnector):
    """A connection to the instance at `path` (what follows ``ssh://``).

    Raises OSError EINVAL for a malformed URI, ECONNRESET with ssh's own words if there is no connection to be had,
    or the errno with which ssh cannot be run. The environment's FLUX_SSH and FLUX_SSH_RCMD name the command
    to run here and the `flux` to run there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        super().__init__(self._start())

    def _start(self) -> socket.socket:
        """Runs ssh; the connected, greeted socket."""
        command = ssh_command(self._path)
        ours, theirs = socket.socketpair()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the connection
        try:
            with theirs:
                fd = theirs.fileno()
                self._child = subprocess.Popen(command, stdin=fd, stdout=fd, stderr=self._stderr.fileno())
        except OSError as exc:
            ours.close()
            self._stderr.close()
            text = f"ssh-connector: {command[0]}: {os.strerror(exc.errno or errno.EIO)}"
            raise OSError(exc.errno, f"{text}\nHint: set FLUX_SSH in environment to override") from None
        try:
            read_greeting(ours)
        except OSError:
            with ours:
                # Not closed yet: unread bytes would reset the connection, and the child complain of that.
                ours.shutdown(socket.SHUT_RDWR)
                raise self._explain() from None
        except BaseException:
            ours.close()
            self._end()
            raise
        return ours

    def _explain(self) -> OSError:
        """Why the far side did not greet us; ends the child, so that all its words are there."""
        self._reap()
        self._stderr.seek(0)
        text = self._stderr.read().decode("utf-8", "replace").strip()
        self._stderr.close()
        if not text:
            text = (
                "Unable to establish clean ssh connection.\n"
                "Hint: Check that shell init files do not write to stdout when non-interactive."
            )
        return OSError(errno.ECONNRESET, text)

    def _reap(self) -> None:
        """Waits for the child, whose input has ended; one that does not care is told more clearly."""
        for end in (self._child.terminate, self._child.kill):
            try:
                self._child.wait(_PATIENCE)
                return
            except subprocess.TimeoutExpired:
                end()
        self._child.wait()

    def _end(self) -> None:
        self._reap()
        self._stderr.close()

    def close(self) -> None:
        super().close()
        if not self._stderr.closed:
            self._end()

    def reconnect(self) -> None:
        self.close()
        self._use(self._start())
