"""fluxlet/pythonpath: `import flux` in a Python that sees nothing else of our installation.

The interpreters are those found under pyenv and on PATH; each runs with an environment of PATH and PYTHONPATH
only, so nothing of the test's own environment helps.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import flux
import fluxlet

assert fluxlet.__file__ is not None
assert flux.__file__ is not None
SHIM = Path(fluxlet.__file__).parent / "pythonpath"
HOME = Path(flux.__file__).parent
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


@cache
def interpreter(version: str) -> str | None:
    """A Python of that version, outside of any virtual environment."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "/root/.pyenv")) / "versions"
    candidates = [str(path / "bin/python") for path in sorted(pyenv.glob(f"{version}.*"))]
    on_path = shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin:/bin")
    candidates += [on_path] if on_path else []
    if sys.version.startswith(f"{version}."):
        candidates.append(os.path.realpath(sys.executable))
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def run(python: str, code: str, *path: Path | str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` with PYTHONPATH set to `path`."""
    environ |= {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [python, "-s", "-c", code]
    return subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True)


def evaluate(python: str, code: str, *path: Path | str) -> Any:
    """`result` as `code` leaves it."""
    done = run(python, f"{code}\nimport json; print(json.dumps(result))", *path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} on this machine")
    return found


DESCRIPTION = """
import flux, sys
spec = flux.__spec__
result = {
    "file": flux.__file__, "path": list(flux.__path__), "name": flux.__name__, "package": flux.__package__,
    "doc": flux.__doc__, "cached": getattr(flux, "__cached__", None),
    "loader": type(flux.__loader__).__name__,
    "spec": [spec.name, spec.origin, spec.cached, list(spec.submodule_search_locations), spec.parent],
    "same_loader": spec.loader is flux.__loader__, "loader_path": flux.__loader__.path,
    "entered": sys.modules["flux"] is flux, "initializing": getattr(spec, "_initializing", False),
    "names": sorted(vars(flux)),
}
"""


def test_module_is_indistinguishable_from_the_real_one(python: str) -> None:
    real = evaluate(python, DESCRIPTION, HOME.parent)
    shimmed = evaluate(python, DESCRIPTION, SHIM)
    assert shimmed == real
    assert shimmed["file"] == str(HOME / "__init__.py")
    assert shimmed["path"] == [str(HOME)]


def test_nothing_else_of_the_installation_is_visible(python: str) -> None:
    code = """
import importlib.util, sys, flux.eventlog
result = [importlib.util.find_spec("fluxlet") is None,
          [entry for entry in sys.path if entry.startswith(SITE)]]
"""
    assert evaluate(python, f"SITE = {str(HOME.parent)!r}\n{code}", SHIM) == [True, [str(SHIM)]]


def test_submodules_come_from_the_real_package(python: str) -> None:
    code = """
import flux.eventlog, flux.abc.journal, pkgutil
from flux import constants
result = [flux.eventlog.__file__, flux.abc.journal.__file__, constants.FLUX_NODEID_ANY,
          flux.eventlog is __import__("sys").modules["flux.eventlog"],
          "eventlog" in [name for _, name, _ in pkgutil.iter_modules(flux.__path__)]]
"""
    assert evaluate(python, code, SHIM) == [
        str(HOME / "eventlog.py"),
        str(HOME / "abc/journal.py"),
        0xFFFFFFFF,
        True,
        True,
    ]


def test_objects_pickle_to_and_from_the_real_package(python: str) -> None:
    make = """
import pickle
from flux.eventlog import EventLogEvent
result = pickle.dumps(EventLogEvent({"timestamp": 1.5, "name": "n"})).hex()
"""
    pickled = evaluate(python, make, SHIM)
    read = f"import pickle; result = [str(pickle.loads(bytes.fromhex({pickled!r})))]"
    for path in (SHIM, HOME.parent):
        assert evaluate(python, read, path) == ["1.50000: n {}"]


def test_other_projects_extend_the_package(python: str, tmp_path: Path) -> None:
    """The extension is the real package's doing; the shim must neither prevent it nor add itself."""
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux/thirdparty.py").write_text("")
    code = "import flux; result = list(flux.__path__)"
    for order in [(SHIM, tmp_path), (tmp_path, SHIM)]:
        real = [HOME.parent if entry == SHIM else entry for entry in order]
        assert evaluate(python, code, *order) == evaluate(python, code, *real)


def test_shim_before_and_after_the_real_package_changes_nothing(python: str) -> None:
    code = "import flux, flux.eventlog; result = [flux.__file__, flux.__path__[0], flux.eventlog.__file__]"
    wanted = [str(HOME / "__init__.py"), str(HOME), str(HOME / "eventlog.py")]
    assert evaluate(python, code, SHIM, HOME.parent) == wanted
    assert evaluate(python, code, HOME.parent, SHIM) == wanted


def test_module_survives_reload(python: str) -> None:
    code = """
import flux, importlib
again = importlib.reload(flux)
result = [again is flux, flux.__file__, list(flux.__path__)]
"""
    assert evaluate(python, code, SHIM) == [True, str(HOME / "__init__.py"), [str(HOME)]]


def test_byte_code_of_the_package_is_cached(python: str, tmp_path: Path) -> None:
    """In a copy, so that the cache is known to be empty before and full after."""
    (tmp_path / "fluxlet").mkdir()
    shutil.copytree(SHIM, tmp_path / "fluxlet/pythonpath", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux/__init__.py").write_text("'''Real.'''\nanswer = 42\n")
    code = "import flux; result = [flux.answer, flux.__doc__, flux.__cached__]"
    answer, doc, cached = evaluate(python, code, tmp_path / "fluxlet/pythonpath")
    assert (answer, doc) == (42, "Real.")
    assert Path(cached).parent == tmp_path / "flux/__pycache__"
    assert Path(cached).exists()


def test_extended_path_leaves_the_shim_out(python: str, tmp_path: Path) -> None:
    shutil.copytree(SHIM, tmp_path / "fluxlet/pythonpath", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux/__init__.py").write_text("import pkgutil\n__path__ = pkgutil.extend_path(__path__, __name__)\n")
    (tmp_path / "third/flux").mkdir(parents=True)
    code = "import flux; result = list(flux.__path__)"
    path = evaluate(python, code, tmp_path / "fluxlet/pythonpath", tmp_path / "third")
    assert path == [str(tmp_path / "flux"), str(tmp_path / "third/flux")]


def test_missing_package_is_reported(python: str, tmp_path: Path) -> None:
    shutil.copytree(SHIM, tmp_path / "fluxlet/pythonpath", ignore=shutil.ignore_patterns("__pycache__"))
    done = run(python, "import flux", tmp_path / "fluxlet/pythonpath")
    assert done.returncode == 1
    assert f"is missing: expected {tmp_path / 'flux'}" in done.stderr.splitlines()[-1]


def test_other_threads_wait_for_the_whole_package(python: str, tmp_path: Path) -> None:
    """A thread that imports flux while another is at it must never see half a module."""
    shutil.copytree(SHIM, tmp_path / "fluxlet/pythonpath", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux/__init__.py").write_text(
        "import __main__\n"
        "__main__.inside.set()\n"
        # Set by the other thread only if it did not wait for us; so this passes the time it would need.
        "__main__.waiting.wait(0.2)\n"
        "complete = True\n"
    )
    code = """
import threading
inside, waiting, result = threading.Event(), threading.Event(), []
def second():
    inside.wait()
    import flux
    result.append(hasattr(flux, "complete"))
    waiting.set()
thread = threading.Thread(target=second)
thread.start()
import flux
thread.join()
"""
    assert evaluate(python, code, tmp_path / "fluxlet/pythonpath") == [True]


def test_python_that_is_too_old_gets_a_sentence() -> None:
    python = interpreter("3.8") or interpreter("3.9") or interpreter("3.10")
    if python is None:
        pytest.skip("no Python between 3.8 and 3.10 on this machine")
    done = run(python, "import flux", SHIM)
    assert done.returncode == 1
    assert "needs Python 3.11 or later; this is 3." in done.stderr.splitlines()[-1]
