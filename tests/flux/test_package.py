"""The package `flux`: what importing it gives, and what it costs (spec 02, section 1)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flux
import flux.core.handle


def evaluate(code: str, *path: Path) -> Any:
    """`result` as `code` leaves it in a Python of its own."""
    script = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n{code}\nimport json; print(json.dumps(result))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_flux_is_the_class() -> None:
    assert flux.Flux is flux.core.handle.Flux
    assert set(flux.__all__) == {"core", "kvs", "rpc", "constants", "Flux"}
    assert not hasattr(flux, "__version__")


def test_eager_and_lazy_submodules() -> None:
    eager = ["core.handle", "core.inner", "core.watchers", "constants", "message", "rpc", "future", "util"]
    eager += ["core", "utils", "wrapper"]
    loaded = evaluate("import flux; result = sorted(m for m in sys.modules if m.startswith('flux.'))")
    assert set(loaded) >= {f"flux.{name}" for name in eager}
    assert "flux.eventlog" not in loaded
    assert evaluate("import flux; result = flux.eventlog.EventLogEvent.__name__") == "EventLogEvent"


def test_import_brings_only_what_it_needs_and_starts_nothing() -> None:
    code = "import flux, threading; result = [threading.active_count(), sorted(sys.modules)]"
    threads, loaded = evaluate(code)
    assert threads == 1
    for heavy in ("msgspec", "asyncio", "argparse", "subprocess", "datetime", "ctypes", "yaml", "fluxlet"):
        assert heavy not in loaded


def test_unknown_submodule_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flux' has no attribute 'nosuch'"):
        flux.nosuch  # noqa: B018


def test_module_missing_inside_a_submodule_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "broken.py").write_text("import no_such_module_anywhere\n")
    code = "import flux\ntry: flux.broken\nexcept ModuleNotFoundError as exc: result = exc.name"
    assert evaluate(code, tmp_path) == "no_such_module_anywhere"


def test_other_distributions_add_modules(tmp_path: Path) -> None:
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "extra.py").write_text("value = 7\n")
    assert evaluate("import flux; result = flux.extra.value", tmp_path) == 7


@pytest.mark.parametrize(
    "name", ["resource.list", "resource.status", "job.list", "job.info", "job.executor", "job.event"]
)
def test_submodules_of_packages_load_when_they_are_named(name: str) -> None:
    package = name.partition(".")[0]
    assert evaluate(f"import flux.{package}; result = flux.{name}.__name__") == f"flux.{name}"


@pytest.mark.parametrize("package", ["job", "resource"])
def test_packages_say_what_they_have_not(package: str) -> None:
    code = f"import flux.{package}\ntry: flux.{package}.nosuch\nexcept AttributeError as exc: result = str(exc)"
    assert evaluate(code) == f"module 'flux.{package}' has no attribute 'nosuch'"


@pytest.mark.parametrize("package", ["flux.job", "flux.resource", "flux.util", "flux.cli.base"])
def test_names_that_have_not_been_loaded_are_listed(package: str) -> None:
    # Programs ask this way what a release of Flux can do.
    api = json.loads((Path(__file__).parents[1] / "spec" / "api.json").read_text())["modules"][package]
    names = [name for name, entry in api.items() if entry["tier"] != "rare"]
    assert evaluate(f"import {package}; result = sorted(set({names}) - set(dir({package})))") == []
