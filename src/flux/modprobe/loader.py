"""Where modules and tasks are described: files in the directories of a search path (flux-modprobe(1))."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flux.conf_builtin import conf_builtin_get


def default_flux_confdir() -> Path:
    """The directory of the machine's Flux configuration."""
    return Path(conf_builtin_get("confdir"))


class ConfigLoader:
    """Finds the files.

    Args:
        searchpath: directories, in order.
        print_func: told of each file that is used.
    """

    def __init__(self, searchpath: Sequence[str | os.PathLike[str]], print_func: Callable[[str], object]) -> None:
        self.searchpath = [Path(directory) for directory in searchpath]
        self._print = print_func

    def get_toml_files(self) -> list[Path]:
        """``modprobe.toml`` and ``modprobe.d/*.toml``, in the order in which they count."""
        return self._files("modprobe.toml", "modprobe.d", "*.toml")

    def get_rc_files(self, name: str = "rc1") -> list[Path]:
        """``NAME.py`` and ``NAME.d/*.py``, in the order in which they are read."""
        return self._files(f"{name}.py", f"{name}.d", "*.py")

    def _files(self, single: str, directory: str, pattern: str) -> list[Path]:
        found: list[Path] = []
        for place in self.searchpath:
            files = [place / single, *sorted((place / directory).glob(pattern))]
            found += [file for file in files if file.is_file()]
        for file in found:
            self._print(f"loading {file}")
        return found

    @staticmethod
    def build_searchpath(builtindir: str = "datadir") -> list[str]:
        """The directories: FLUX_MODPROBE_PATH, or else ours and the machine's; and FLUX_MODPROBE_PATH_APPEND.

        Args:
            builtindir: ``datadir`` for descriptions of modules, ``libexecdir`` for rc files.
        """
        path = os.environ.get("FLUX_MODPROBE_PATH")
        if path is None:
            places = [os.path.join(conf_builtin_get(builtindir), "modprobe"), str(default_flux_confdir() / "modprobe")]
        else:
            places = path.split(":")
        places += os.environ.get("FLUX_MODPROBE_PATH_APPEND", "").split(":")
        return list(dict.fromkeys(place for place in places if place))


def run_all_rc_scripts(runlevel: str) -> None:
    """Runs the user's scripts, in the order of their names: those of FLUX_RC_EXTRA, after the machine's.

    Args:
        runlevel: ``rc1`` or ``rc3``: they are the executables of ``<runlevel>.d``.

    Raises OSError if one cannot be run, or fails.
    """
    places = [default_flux_confdir(), *map(Path, filter(None, os.environ.get("FLUX_RC_EXTRA", "").split(":")))]
    for place in places:
        for script in sorted((place / f"{runlevel}.d").glob("*")):
            if script.is_file() and os.access(script, os.X_OK):
                print(f"running {script}", flush=True)
                code = subprocess.run([script], check=False).returncode
                if code:
                    raise OSError(0, f"{script} failed with exit code {code}")
