"""rundir, statedir and the socket's place: who makes, checks and removes them (spec 03, section 4)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fluxlet.broker.rundir import (
    MAX_RUNDIR,
    PID_FILE,
    Directory,
    DirectoryError,
    check_owner,
    claim,
    default_parent,
    prepare,
    remove_stale,
    remove_tree,
    socket_path,
)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_by_default_a_directory_of_a_random_name_is_made_for_us_alone(tmp_path: Path) -> None:
    first, second = (prepare("rundir", None, str(tmp_path)) for _ in range(2))
    assert first.path != second.path
    assert os.path.dirname(first.path) == str(tmp_path)
    assert (len(os.path.basename(first.path)), mode(first.path)) == (len("flux-XXXXXX"), 0o700)
    assert first.cleanup
    assert first.temporary


def test_a_given_one_that_does_not_exist_is_made_and_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "run")
    assert prepare("rundir", path, "/unused") == Directory(path, cleanup=True, temporary=False)
    assert mode(path) == 0o700


def test_a_given_one_that_exists_is_used_and_kept(tmp_path: Path) -> None:
    assert prepare("statedir", str(tmp_path), "/unused") == Directory(str(tmp_path), False, False)


def test_a_given_one_with_the_sticky_bit_is_a_parent_like_tmp(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    made = prepare("rundir", str(tmp_path), "/unused")
    assert os.path.dirname(made.path) == str(tmp_path)
    assert made.cleanup


@pytest.mark.parametrize(
    ("given", "parent", "text"),
    [
        (None, "T/nosuch", "rundir cannot create directory in T/nosuch: No such file or directory"),
        ("T/no/such", "T", "rundir error creating T/no/such: No such file or directory"),
        ("T/file", "T", "rundir T/file is not a directory: Not a directory"),
        ("T/weak", "T", "rundir T/weak does not have owner=rwx permissions"),
    ],
)
def test_what_will_not_do_is_said(tmp_path: Path, given: str | None, parent: str, text: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "weak").mkdir(mode=0o500)
    place = str(tmp_path)
    with pytest.raises(DirectoryError) as caught:
        prepare("rundir", given and given.replace("T/", f"{place}/"), parent.replace("T", place))
    assert str(caught.value) == text.replace("T/", f"{place}/")


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(DirectoryError) as caught:
        check_owner("rundir", str(tmp_path))
    assert str(caught.value) == f"rundir {tmp_path} is not owned by instance owner: Operation not permitted"


@pytest.mark.parametrize("length", [MAX_RUNDIR, MAX_RUNDIR + 1])
def test_rundir_may_be_as_long_as_a_socket_address_allows(tmp_path: Path, length: int) -> None:
    path = f"{tmp_path}/" + "x" * (length - len(str(tmp_path)) - 1)
    if length <= MAX_RUNDIR:
        assert prepare("rundir", path, "/unused").path == path
        return
    with pytest.raises(DirectoryError) as caught:
        prepare("rundir", path, "/unused")
    assert str(caught.value) == (
        f"rundir length of {length} bytes exceeds max 96 to allow for AF_UNIX socket creation."
    )
    assert prepare("statedir", path, "/unused").path == path


@pytest.mark.parametrize(
    ("name", "tmpdir", "parent", "warned"),
    [
        ("rundir", None, "/tmp", False),
        ("statedir", None, "/var/tmp", False),
        ("rundir", "/scratch", "/scratch", False),
        ("statedir", "/scratch", "/scratch", False),
        ("rundir", "/" + "x" * 83, "/" + "x" * 83, False),
        ("rundir", "/" + "x" * 84, "/tmp", True),
        ("statedir", "/" + "x" * 200, "/" + "x" * 200, False),
    ],
)
def test_the_default_parent_is_tmpdir_unless_a_socket_would_not_fit(
    name: str, tmpdir: str | None, parent: str, warned: bool
) -> None:
    found, warning = default_parent(name, tmpdir)
    assert (found, warning is not None) == (parent, warned)


def test_the_socket_is_in_rundir_unless_set(tmp_path: Path) -> None:
    assert socket_path(None, "/run/x") == "/run/x/local-0"
    assert socket_path(f"local://{tmp_path}/sock", "/run/x") == f"{tmp_path}/sock"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("ssh://host/x", "local-uri is malformed"),
        ("local:///nosuch/sock", "local-uri directory cannot stat /nosuch: No such file or directory"),
        ("local://T/" + "x" * 120, "local-uri length of "),
    ],
)
def test_a_local_uri_that_will_not_do_is_said(tmp_path: Path, uri: str, text: str) -> None:
    with pytest.raises(DirectoryError) as caught:
        socket_path(uri.replace("T", str(tmp_path)), "/unused")
    assert str(caught.value).startswith(text)


# What killed brokers have left.


def abandoned(parent: Path) -> Path:
    """A directory whose broker has been killed."""
    script = (
        "import os, sys\n"
        "from fluxlet.broker.rundir import prepare, claim\n"
        "made = prepare('rundir', None, sys.argv[1]); claim(made); print(made.path, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(parent)], capture_output=True, text=True, check=False)
    path = Path(done.stdout.strip())
    (path / "bin").mkdir()
    (path / "bin" / "flux").symlink_to("/nosuch")
    return path


def test_a_directory_whose_broker_is_dead_is_removed(tmp_path: Path) -> None:
    path = abandoned(tmp_path)
    assert remove_stale(str(tmp_path)) == [str(path)]
    assert not path.exists()


def test_a_directory_whose_broker_lives_is_kept(tmp_path: Path) -> None:
    made = prepare("rundir", None, str(tmp_path))
    lock = claim(made)
    assert remove_stale(str(tmp_path)) == []
    assert int(Path(made.path, PID_FILE).read_text()) == os.getpid()
    os.close(lock)
    # The lock is gone, the process is there: where locks do not work, this is what protects it.
    assert remove_stale(str(tmp_path)) == []


def test_a_locked_directory_is_kept_even_if_its_pid_is_nobodys_here(tmp_path: Path) -> None:
    path = abandoned(tmp_path)
    dead = Path(path, PID_FILE).read_text()
    made = prepare("rundir", None, str(tmp_path))
    lock = claim(made)
    # As in a container with a process table of its own.
    Path(made.path, PID_FILE).write_text(dead)
    assert remove_stale(str(tmp_path)) == [str(path)]
    os.close(lock)


@pytest.mark.parametrize("name", ["flux-abc", "flux-abcdefg", "other-abcdef", "flux-nopid1"])
def test_directories_that_are_not_a_brokers_are_kept(tmp_path: Path, name: str) -> None:
    path = abandoned(tmp_path)
    if name == "flux-nopid1":
        (path / PID_FILE).unlink()
    path.rename(tmp_path / name)
    assert remove_stale(str(tmp_path)) == []
    assert (tmp_path / name).exists()


def test_a_link_to_a_dead_brokers_directory_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = abandoned(elsewhere)
    (tmp_path / "flux-abcdef").symlink_to(path)
    assert remove_stale(str(tmp_path)) == []
    assert path.exists()


def test_a_tree_is_removed_with_what_its_owner_has_locked_and_links_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    tree = tmp_path / "tree"
    (tree / "sub" / "locked").mkdir(parents=True)
    (tree / "sub" / "locked" / "file").touch()
    (tree / "link").symlink_to(outside)
    (tree / "sub" / "locked").chmod(0o500)
    (tree / "sub").chmod(0)
    assert remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "precious").exists()
    assert remove_tree(str(tree))
