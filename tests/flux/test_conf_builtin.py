"""flux.conf_builtin: the installation's own paths (spec 02, section 16)."""

from __future__ import annotations

from pathlib import Path

import pytest

import flux
from flux.conf_builtin import conf_builtin_get

NAMES = [
    "confdir",
    "libexecdir",
    "datadir",
    "lua_cpath_add",
    "lua_path_add",
    "python_path",
    "python_wrapper",
    "man_path",
    "exec_path",
    "connector_path",
    "module_path",
    "rc1_path",
    "rc3_path",
    "cmdhelp_pattern",
    "pmi_library_path",
    "shell_path",
    "shell_pluginpath",
    "shell_initrc",
    "jobtap_pluginpath",
    "upmi_pluginpath",
    "no_docs_path",
    "rundir",
]

assert flux.__file__ is not None
SITE = Path(flux.__file__).parent.parent


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["auto", "installed"])
def test_every_name_of_the_reference_has_a_text(name: str, which: str) -> None:
    value = conf_builtin_get(name, which)
    assert isinstance(value, str)
    assert value


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"confdir", "rundir", "rc1_path", "rc3_path"}))
def test_paths_lie_in_our_own_installation(name: str) -> None:
    assert Path(conf_builtin_get(name)).is_relative_to(SITE / "fluxlet")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confdir", "/etc/flux"),
        ("rundir", "/run/flux"),
        ("rc1_path", "flux modprobe rc1"),
        ("rc3_path", "flux modprobe rc3"),
    ],
)
def test_values_that_do_not_depend_on_the_installation(name: str, value: str) -> None:
    assert conf_builtin_get(name) == value


def test_python_path_holds_the_flux_package_and_nothing_else() -> None:
    found = [entry.name for entry in Path(conf_builtin_get("python_path")).iterdir()]
    assert found == ["flux"]


def test_rundir_is_known_to_the_installed_tree_only() -> None:
    assert conf_builtin_get("confdir", which="intree") == "/etc/flux"
    with pytest.raises(ValueError, match=r"^No builtin config value for 'rundir'$"):
        conf_builtin_get("rundir", which="intree")


def test_unknown_name_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^No builtin config value for 'nope'$"):
        conf_builtin_get("nope")


def test_unknown_tree_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^which must be one of auto, installed, or intree$"):
        conf_builtin_get("confdir", which="elsewhere")
