"""The pytest plugin: pytest in a process of its own, on small projects that know nothing of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Project = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A function that writes a project's files, given as NAME=TEXT without `.py`, and runs pytest there."""

    def run(*options: str, **files: str) -> subprocess.CompletedProcess[str]:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PYTEST_"))}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options],
            cwd=tmp_path,
            env=own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def outcomes(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The numbers of pytest's last line."""
    last = result.stdout.strip().splitlines()[-1]
    return {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|errors?)", last)}


def test_all_tests_of_a_session_share_one_instance_and_each_has_a_handle_of_its_own(project: Project) -> None:
    tests = """
        seen = []

        def test_first(flux_instance, flux_handle):
            assert flux_handle.attr_get("local-uri") == flux_instance.uri
            seen.append((flux_instance.pid, flux_handle))

        def test_second(flux_instance, flux_handle):
            (pid, handle), = seen
            assert flux_instance.pid == pid
            assert flux_handle is not handle
            assert handle.handle is None  # closed
            assert flux_handle.get_size() == 1
    """
    result = project(test_it=_dedented(tests))
    assert outcomes(result) == {"passed": 2}, result.stdout


def test_the_instance_ends_with_the_session(project: Project, tmp_path: Path) -> None:
    tests = """
        from pathlib import Path

        def test_it(flux_instance):
            Path("rundir").write_text(flux_instance.rundir)
            assert Path(flux_instance.rundir).is_dir()
    """
    result = project(test_it=_dedented(tests))
    assert outcomes(result) == {"passed": 1}, result.stdout
    assert not Path((tmp_path / "rundir").read_text()).exists()


def test_options_of_the_instance_are_a_fixture_to_override(project: Project) -> None:
    conftest = """
        import pytest

        @pytest.fixture(scope="session")
        def flux_instance_options():
            return {"config": {"table": {"key": "value"}}, "attributes": {"test.name": "text"}}
    """
    tests = """
        def test_it(flux_handle):
            assert flux_handle.conf_get("table.key") == "value"
            assert flux_handle.attr_get("test.name") == "text"
    """
    result = project(conftest=_dedented(conftest), test_it=_dedented(tests))
    assert outcomes(result) == {"passed": 1}, result.stdout


def test_an_instance_that_does_not_come_up_is_an_error_with_its_stderr(project: Project) -> None:
    tests = """
        import pytest

        @pytest.fixture(scope="session")
        def flux_instance_options():
            return {"attributes": {"foo": "1"}}

        def test_it(flux_instance):
            pass
    """
    result = project(test_it=_dedented(tests))
    assert outcomes(result) == {"error": 1}, result.stdout
    assert "InstanceError: the instance does not start: exit code 1" in result.stdout
    assert "flux-broker: foo: unknown attribute" in result.stdout


def test_an_instance_that_dies_meanwhile_is_reported(project: Project) -> None:
    tests = """
        import os, signal

        def test_it(flux_instance):
            os.kill(flux_instance.pid, signal.SIGKILL)
            os.waitid(os.P_PID, flux_instance.pid, os.WEXITED | os.WNOWAIT)
    """
    result = project(test_it=_dedented(tests))
    assert outcomes(result) == {"passed": 1, "error": 1}, result.stdout
    assert "InstanceError: the instance has ended by itself: signal 9" in result.stdout


def test_no_instance_is_started_that_no_test_asks_for(project: Project) -> None:
    tests = """
        import sys

        def test_it():
            assert "flux" not in sys.modules
            assert "fluxlet.testing.instance" not in sys.modules
    """
    result = project(test_it=_dedented(tests))
    assert outcomes(result) == {"passed": 1}, result.stdout


def test_fixtures_are_described(project: Project) -> None:
    listed = project("--fixtures").stdout
    for name in ("flux_instance_options", "flux_instance", "flux_handle"):
        assert re.search(rf"^{name}\b.*\n    \S", listed, flags=re.M), name


# What is imported.


def imported(*statements: str) -> set[str]:
    """The modules that the last statement imports and those before it have not."""
    script = "import sys\n{}\nbefore = {{*sys.modules}}\n{}\nprint(*({{*sys.modules}} - before))"
    *first, last = statements
    command = [sys.executable, "-c", script.format("\n".join(first), last)]
    return set(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split())


def test_the_plugin_costs_a_run_without_flux_next_to_nothing() -> None:
    assert imported("import pytest", "import fluxlet.testing.plugin") == {
        "fluxlet",
        "fluxlet.testing",
        "fluxlet.testing.plugin",
    }


def test_pytest_is_not_needed_without_the_plugin() -> None:
    modules = imported("from fluxlet.testing import Instance; Instance")
    assert "fluxlet.testing.instance" in modules
    assert not [name for name in modules if "pytest" in name]


def _dedented(text: str) -> str:
    return re.sub(r"^ {8}", "", text, flags=re.M)
