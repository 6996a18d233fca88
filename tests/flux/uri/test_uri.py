"""flux.uri: URIs and targets without an instance, and plugins (spec 04, section 6)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux.uri import URI, FluxURIResolver, JobURI, URIResolverURI

HERE = socket.gethostname()


@pytest.fixture(autouse=True)
def no_preference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUX_URI_RESOLVE_LOCAL", raising=False)


def test_a_uri_has_parts() -> None:
    uri = URI("ssh://me@host:22/a/b?local")
    assert (uri.uri, uri.scheme, uri.netloc, uri.path) == ("ssh://me@host:22/a/b?local", "ssh", "me@host:22", "/a/b")
    assert (uri.query, str(uri)) == ("local", uri.uri)


@pytest.mark.parametrize(
    ("uri", "host", "remote", "local"),
    [
        ("local:///tmp/x/local-0", None, f"ssh://{HERE}/tmp/x/local-0", "local:///tmp/x/local-0"),
        ("local:///tmp/x/local-0", "far", "ssh://far/tmp/x/local-0", "local:///tmp/x/local-0"),
        ("ssh://me@far:22/tmp/x", "other", "ssh://me@far:22/tmp/x", "local:///tmp/x"),
    ],
)
def test_both_forms(uri: str, host: str | None, remote: str, local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = JobURI(uri, host)
    assert (found.remote, found.local, str(found)) == (remote, local, uri)
    monkeypatch.setenv("FLUX_URI_RESOLVE_LOCAL", "")
    assert (found.remote, str(found)) == (remote, local)


def test_the_local_form_can_be_forced() -> None:
    uri = JobURI("ssh://far/x")
    uri.force_local = True
    assert str(uri) == "local:///x"


def test_what_is_no_uri_of_an_instance_has_no_forms() -> None:
    uri = JobURI("http://far/x")
    for form in ("remote", "local"):
        with pytest.raises(ValueError, match=r"^http://far/x is neither a local nor an ssh URI$"):
            getattr(uri, form)


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("local:///x", "local:///x"),
        ("ssh://far/x", "ssh://far/x"),
        ("local:///x?remote", f"ssh://{HERE}/x"),
        ("ssh://far/x?local", "local:///x"),
        ("ssh://far/x?remote", "ssh://far/x"),
        ("ssh://far/x?wait", "ssh://far/x"),
    ],
)
def test_a_uri_resolves_to_itself_in_the_form_that_is_wanted(target: str, uri: str) -> None:
    assert str(FluxURIResolver().resolve(target)) == uri


def test_not_both_forms() -> None:
    with pytest.raises(ValueError, match="either local or remote"):
        FluxURIResolver().resolve("local:///x?local&remote")


def test_a_scheme_without_plugin() -> None:
    with pytest.raises(NotImplementedError, match=r"^No plugin for URI scheme foo$"):
        FluxURIResolver().resolve("foo:1")


@pytest.mark.parametrize(
    ("target", "scheme", "path"), [("ƒ2", "jobid", "ƒ2"), ("/", "jobid", "/"), ("pid:1", "pid", "1")]
)
def test_a_target_without_scheme_is_a_job(target: str, scheme: str, path: str) -> None:
    uri = URIResolverURI(f"{target}?wait&x=1")
    assert (uri.scheme, uri.path, uri.query_dict) == (scheme, path, {"wait": [""], "x": ["1"]})


# Plugins.

PLUGIN = """
from flux.uri import JobURI, URIResolverPlugin

class URIResolver(URIResolverPlugin):
    def describe(self):
        return "Get what was asked for"
    def resolve(self, uri):
        return JobURI("local:///" + uri.path)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[str]:
    """A directory with the plugin `echo`."""
    directory = tmp_path / "flux" / "uri" / "resolvers"
    directory.mkdir(parents=True)
    (directory / "echo.py").write_text(PLUGIN)
    yield str(tmp_path)
    sys.modules.pop("flux.uri.resolvers.echo", None)


def test_our_plugins_describe_themselves() -> None:
    plugins = FluxURIResolver().plugins()
    assert list(plugins) == ["jobid", "lsf", "pid", "slurm"]
    assert all(plugins.values())


def test_a_directory_of_plugins_is_for_the_resolver_that_names_it(plugin: str) -> None:
    path = list(sys.path)
    resolver = FluxURIResolver([plugin])
    assert resolver.plugins()["echo"] == "Get what was asked for"
    assert str(resolver.resolve("echo:x")) == "local:///x"
    assert "echo" not in FluxURIResolver().plugins()
    assert sys.path == path


def test_plugins_on_the_python_path_are_found(plugin: str) -> None:
    code = "from flux.uri import FluxURIResolver; print(FluxURIResolver().resolve('echo:x?remote'))"
    environ = {**os.environ, "PYTHONPATH": plugin}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"ssh://{HERE}/x\n", "")


def test_a_plugin_that_does_not_load_is_an_import_error(tmp_path: Path, plugin: str) -> None:
    (tmp_path / "flux" / "uri" / "resolvers" / "echo.py").write_text("import no_such_module\n")
    with pytest.raises(ImportError, match="failed to import echo plugin"):
        FluxURIResolver([plugin]).plugins()
    assert str(FluxURIResolver([plugin]).resolve("local:///x")) == "local:///x"
