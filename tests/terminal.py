"""A program on a terminal of its own: what it prints, what is typed."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import termios
from collections.abc import Mapping
from types import TracebackType

PATIENCE = 60.0


class Terminal:
    """Runs a program on a pseudo-terminal; it is killed at the end of the `with` block.

    Args:
        argv: its words; the first is looked for in the PATH of `environ`.
        environ: its environment.
        directory: where it runs.
    """

    def __init__(self, argv: list[str], environ: Mapping[str, str], directory: str | os.PathLike[str] = "/") -> None:
        self.seen = ""
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.chdir(directory)
            os.execvpe(argv[0], argv, environ)
        self.resize(40, 200)

    def resize(self, lines: int, columns: int) -> None:
        """Gives the terminal another size."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        """Types a text."""
        os.write(self._fd, text.encode())

    def _read(self) -> bool:
        assert select.select([self._fd], [], [], PATIENCE)[0], f"nothing more after {self.seen!r}"
        try:
            data = os.read(self._fd, 4096)
        except OSError as exc:
            if exc.errno == errno.EIO:  # Linux: nobody has it open any more
                return False
            raise
        self.seen += data.decode(errors="replace")
        return bool(data)

    def expect(self, text: str) -> str:
        """Waits until `text` has been printed; returns what came before it since the last call."""
        while text not in self.seen:
            assert self._read(), f"no {text!r} in {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before

    def quiet(self, seconds: float) -> None:
        """Reads until nothing has been printed for some time, or the program has ended."""
        while select.select([self._fd], [], [], seconds)[0] and self._read():
            pass

    def end(self) -> tuple[int, str]:
        """Waits for the end of the program; its exit code, and what is printed until then."""
        while self._read():
            pass
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), self.seen

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)
