"""flux.importer: files and namespace packages as plugins (spec 02, section 16)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux.importer import import_path, import_plugins, import_plugins_pkg


@pytest.fixture(autouse=True)
def modules_are_forgotten() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(directory: Path, **files: str) -> str:
    """A directory with ``NAME.py`` for each keyword; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    return str(directory)


@pytest.mark.parametrize(
    ("file", "name"), [("happy.py", "happy"), ("a.b.py", "a.b"), ("plugin", "plugin"), ("py.txt", "py.txt")]
)
def test_file_becomes_a_module_named_by_its_base_name(tmp_path: Path, file: str, name: str) -> None:
    path = tmp_path / file
    path.write_text("answer = 42\nme = __name__\n")
    module = import_path(str(path))
    assert (module.__name__, module.me, module.answer, module.__file__) == (name, name, 42, str(path))
    assert name not in sys.modules


def test_file_is_loaded_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "fresh.py"
    path.write_text("state = []\n")
    assert import_path(path).state is not import_path(path).state


def test_missing_file_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        import_path(str(tmp_path / "absent.py"))


def test_plugins_of_a_namespace_package_come_from_all_its_directories(tmp_path: Path) -> None:
    one = write(tmp_path / "one/nsp_a/plugins", alpha="x = 1\n")
    two = write(tmp_path / "two/nsp_a/plugins", beta="x = 2\n")
    roots = [str(Path(one).parents[1]), str(Path(two).parents[1])]
    before = list(sys.path)
    plugins = import_plugins("nsp_a.plugins", roots)
    assert {name: module.x for name, module in plugins.items()} == {"alpha": 1, "beta": 2}
    assert plugins["alpha"] is sys.modules["nsp_a.plugins.alpha"]
    assert sys.path == before


def test_plugin_directories_come_after_the_first_entry_of_the_path(tmp_path: Path) -> None:
    root = write(tmp_path, unused="")
    write(tmp_path / "nsp_b", where="import sys\npath = list(sys.path)\n")
    before = list(sys.path)
    seen = import_plugins("nsp_b", [root, "/second"])["where"].path
    assert seen == [before[0], root, "/second", *before[1:]]


def test_unknown_package_has_no_plugins(tmp_path: Path) -> None:
    before = list(sys.path)
    assert import_plugins("nsp_unknown", [str(tmp_path)]) == {}
    assert import_plugins("nsp_unknown.sub.plugins") == {}
    assert import_plugins("flux.nsp_unknown") == {}
    assert sys.path == before


@pytest.mark.parametrize("text", ["import nsp_not_there\n", "1/0\n", "def\n"])
def test_plugin_that_fails_is_named_and_the_path_restored(tmp_path: Path, text: str) -> None:
    write(tmp_path / "nsp_c", broken=text)
    before = list(sys.path)
    with pytest.raises(ImportError, match=r"^failed to import broken plugin: .+") as caught:
        import_plugins("nsp_c", [str(tmp_path)])
    assert caught.value.__cause__ is not None
    assert sys.path == before


def test_package_that_cannot_import_something_is_an_error_not_an_unknown_package(tmp_path: Path) -> None:
    write(tmp_path / "nsp_d", __init__="import nsp_d_needs_this\n")
    before = list(sys.path)
    with pytest.raises(ModuleNotFoundError, match="nsp_d_needs_this"):
        import_plugins("nsp_d", [str(tmp_path)])
    assert sys.path == before


def test_what_a_plugin_adds_to_the_path_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    write(tmp_path / "nsp_e", adds="import sys\nsys.path.insert(0, '/added')\n")
    before = list(sys.path)
    import_plugins("nsp_e", [str(tmp_path)])
    assert sys.path == ["/added", *before]


def test_import_plugins_pkg_takes_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "nsp_f", one="", two="")
    monkeypatch.syspath_prepend(str(tmp_path))
    import nsp_f  # type: ignore[import-not-found]

    plugins = import_plugins_pkg(nsp_f)
    assert {name: module.__name__ for name, module in plugins.items()} == {
        "one": "nsp_f.one",
        "two": "nsp_f.two",
    }
