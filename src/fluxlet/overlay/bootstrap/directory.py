"""PMI without a PMI server: processes exchange values in a directory that all of them see.

For launchers whose PMI cannot be used without a library of theirs (Slurm). The directory is the user's alone, and
that is what protects the keys exchanged in it.

Rules:
- A value is a file, which appears complete: it is written under another name and renamed.
- Whoever waits looks again and again, with longer and longer pauses, and not for ever.
- Rank 0 removes the directory when all have read what they wanted.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping

from fluxlet.broker.rundir import remove_tree
from fluxlet.overlay.bootstrap.pmi_wire import PmiError

#: Seconds to wait for other processes.
PATIENCE = 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.5


class DirectoryClient:
    """What `PmiClient` is with a server.

    Args:
        path: of the directory; it is made if need be.
        rank, size: of this process, and of the launch.
        kvsname: what the launch is called.
        known: values that are there from the start.
        patience: how long to wait for others, in seconds.
    """

    def __init__(
        self,
        path: str,
        rank: int,
        size: int,
        kvsname: str,
        known: Mapping[str, str],
        patience: float = PATIENCE,
    ) -> None:
        self.path = path
        self.rank = rank
        self.size = size
        self.kvsname = kvsname
        self._known = dict(known)
        self._patience = patience
        self._barriers = 0

    def init(self) -> None:
        """Makes the directory. Raises PmiError if it is not ours alone."""
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)
            found = os.stat(self.path)
        except OSError as exc:
            raise PmiError(f"{self.path}: {exc.strerror}") from None
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PmiError(f"{self.path} is open to others")

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name.replace("/", "_"))

    def put(self, key: str, value: str) -> None:
        """Stores a value, for all to see after the next barrier. Raises PmiError."""
        new = self._file(f".{key}.{self.rank}")
        try:
            with open(new, "w", encoding="utf-8") as file:
                file.write(value)
            os.rename(new, self._file(key))
        except OSError as exc:
            raise PmiError(f"{new}: {exc.strerror}") from None

    def get(self, key: str) -> str | None:
        """A value; None if nobody has stored it."""
        if key in self._known:
            return self._known[key]
        try:
            with open(self._file(key), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise PmiError(f"{self._file(key)}: {exc.strerror}") from None

    def barrier(self) -> None:
        """Waits for all processes. Raises PmiError if they do not come."""
        self._barriers += 1
        name = f"barrier-{self._barriers}"
        if self.rank == 0:
            self._all(name)
            self.put(name, "")
        else:
            self.put(f"{name}.{self.rank}", "")
            self._wait(lambda: self.get(name) is not None, "rank 0")

    def _all(self, name: str) -> None:
        """Rank 0: waits until all others have left a file of that name."""
        wanted = {f"{name}.{rank}" for rank in range(1, self.size)}

        def complete() -> bool:
            # The directory is read, not its files looked for: that a file is missing may be remembered for long.
            wanted.difference_update(os.listdir(self.path))
            return not wanted

        self._wait(complete, f"{len(wanted)} others")

    def _wait(self, condition: Callable[[], bool], whom: str) -> None:
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while not condition():
            if time.monotonic() > deadline:
                raise PmiError(f"{self.path}: waited {self._patience:g}s in vain for {whom}")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def finalize(self) -> None:
        """Ends the exchange. Raises PmiError."""
        if self.rank:
            self.put(f"done.{self.rank}", "")
            return
        self._all("done")
        remove_tree(self.path)

    def close(self) -> None:
        """There is nothing to close."""
