"""flux env, python, help, version (spec 03, 2.4)."""

from __future__ import annotations

import platform
import tomllib
from pathlib import Path

import pytest
from command_instance import Instance

from flux.cli.environment import python_path
from flux.conf_builtin import conf_builtin_get
from flux.version import CORE_VERSION, FLUXLET_VERSION

FLUX_PATH = conf_builtin_get("python_path")


def test_version_with_an_instance(instance: Instance) -> None:
    assert instance.run("version", "ignored").stdout == (
        "commands:    \t\t0.88.0\n"
        "libflux-core:\t\t0.88.0\n"
        "broker:  \t\t0.88.0\n"
        f"FLUX_URI:\t\t{instance.uri}\n"
        f"build-options:\t\t+python=={platform.python_version()}\n"
        f"fluxlet: \t\t{FLUXLET_VERSION}\n"
    )


def test_version_without_an_instance(instance: Instance) -> None:
    done = instance.run("version", FLUX_URI=None)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "commands",
        "libflux-core",
        "build-options",
        "fluxlet",
    ]
    assert done.returncode == 0


def test_version_fails_behind_what_it_knows_when_the_instance_is_gone(instance: Instance) -> None:
    done = instance.run("version", FLUX_URI="local:///nonexistent", FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert done.stdout == f"commands:    \t\t{CORE_VERSION}\nlibflux-core:\t\t{CORE_VERSION}\n"
    assert (done.stderr, done.returncode) == ("flux: flux_open: No such file or directory\n", 1)


def test_our_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["version"] == FLUXLET_VERSION


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, FLUX_PATH),
        ({"PYTHONPATH": "/a:/b"}, f"{FLUX_PATH}:/a:/b"),
        ({"PYTHONPATH": f"/a:{FLUX_PATH}", "FLUX_PYTHONPATH_PREPEND": "/c"}, f"/c:{FLUX_PATH}:/a"),
    ],
)
def test_python_path(environ: dict[str, str], path: str) -> None:
    assert python_path(environ) == path


def test_env_prints_what_a_shell_can_read(instance: Instance) -> None:
    lines = instance.run("env", PYTHONPATH="/a").stdout.splitlines()
    assert all(line.startswith("export ") for line in lines)
    assert f'export FLUX_URI="{instance.uri}"' in lines
    assert f'export PYTHONPATH="{FLUX_PATH}:/a"' in lines


def test_env_prints_no_uri_where_there_is_none(instance: Instance) -> None:
    assert "FLUX_URI" not in instance.run("env", FLUX_URI=None).stdout


def test_env_runs_a_command(instance: Instance) -> None:
    done = instance.run("env", "sh", "-c", 'echo "$PYTHONPATH"; exit 3')
    assert (done.stdout, done.returncode) == (f"{FLUX_PATH}\n", 3)


def test_env_says_what_it_cannot_run(instance: Instance) -> None:
    done = instance.run("env", "nosuch-command", "-x")
    assert (done.stderr, done.returncode) == ("flux: execvp (nosuch-command): No such file or directory\n", 1)


def test_python_runs_an_interpreter_that_has_flux(instance: Instance) -> None:
    code = "import flux, sys; print(flux.Flux().attr_get('size'), sys.argv[1:])"
    done = instance.run("python", "-c", code, "-x", "--help")
    assert (done.stdout, done.stderr) == ("1 ['-x', '--help']\n", "")


def test_python_answers_questions(instance: Instance) -> None:
    assert instance.run("python", "--get-path").stdout == f"{FLUX_PATH}\n"
    version = ".".join(platform.python_version_tuple()[:2])
    assert instance.run("python", "--list-versions").stdout == f"python{version}\n"


def test_help_is_a_manual_made_from_the_table(instance: Instance) -> None:
    done = instance.run("help", "event")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith("NAME\n       flux-event - Send and receive Flux events\n\nSYNOPSIS\n")
    assert "\n       flux event pub [OPTIONS] topic [payload]\n" in done.stdout
    assert "--count=N" in done.stdout
    assert "\033" not in done.stdout
    assert instance.run("help", "flux-event").stdout == done.stdout


def test_help_of_a_subcommand(instance: Instance) -> None:
    done = instance.run("help", "event", "pub")
    assert done.stdout.startswith("NAME\n       flux-event-pub - ")
    done = instance.run("help", "event", "nosuch")
    assert (done.stderr, done.returncode) == ("flux-help: flux event has no sub-command nosuch\n", 1)


@pytest.mark.parametrize("words", [(), ("flux",)])
def test_help_of_flux_is_its_own(instance: Instance, words: tuple[str, ...]) -> None:
    own = instance.run("--help")
    done = instance.run("help", *words)
    assert done.stderr.startswith("Usage: flux ")
    assert (done.stdout, done.stderr, done.returncode) == (own.stdout, own.stderr, 0)


def test_help_prefers_a_manual_page(instance: Instance, tmp_path: Path) -> None:
    man = tmp_path / "man"
    man.write_text('#!/bin/sh\necho "man $*"\n')
    man.chmod(0o755)
    assert instance.run("help", "event", PATH=f"{tmp_path}:/usr/bin:/bin").stdout == "man flux-event\n"
