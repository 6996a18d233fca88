"""flux config (spec 03, 14.6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_instance import Instance, recording

import flux
from flux.cli.tool import Failure
from fluxlet.cmd.config import assign, parsed_value, shown

CONFIG: dict[str, Any] = {
    "heartbeat": {"period": "3s"},
    "foo": {"i": 42, "dt": {"iso-8601-ts": "1979-05-27T07:32:00Z"}, "r": 0.5, "b": True, "a": [1, "x"], "s": "ƒ x"},
    "d": "1.5m",
}


@pytest.fixture
def configured(instance: Instance) -> Instance:
    """An instance with a configuration."""
    with flux.Flux(instance.uri) as handle:
        handle.rpc("config.load", CONFIG).get()
    instance.take()
    return instance


def run(instance: Instance, *words: str, **options: Any) -> tuple[str, str, int]:
    done = instance.run("config", *words, **options)
    return done.stdout, done.stderr, done.returncode


def config(instance: Instance) -> Any:
    with flux.Flux(instance.uri) as handle:
        return handle.rpc("config.get").get()


def test_requests_are_those_of_the_reference(instance: Instance) -> None:
    text = '{"heartbeat":{"period":"3s"},"foo":{"i":42,"dt":{"iso-8601-ts":"1979-05-27T07:32:00Z"}}}'
    assert run(instance, "load", input=text) == ("", "", 0)
    instance.take()
    for number, words in enumerate(
        [("get",), ("get", "foo.i"), ("get", "--type=integer", "foo.i"), ("set", "foo.i", "43"), ("unset", "foo.i")]
    ):
        instance.run("config", *words)
        assert instance.take() == recording("broker-config", number), words
    refused = "flux-config: load: error updating heartbeat: error parsing heartbeat.period FSD value\n"
    assert run(instance, "load", input='[heartbeat]\nperiod = "xx"\n') == ("", refused, 1)
    assert instance.take() == recording("broker-config", 5)
    assert run(instance, "load", input="x = 1\n") == ("", "", 0)
    assert instance.take() == recording("broker-config", 6)
    assert run(instance, "reload") == ("", "", 0)
    assert instance.take() == recording("broker-config", 7)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["foo.i"], "42"),
        (["foo.r"], "0.5"),
        (["foo.b"], "true"),
        (["foo.a"], '[1,"x"]'),
        (["foo.s"], "ƒ x"),
        (["heartbeat"], '{"period":"3s"}'),
        (["-t", "integer", "foo.i"], "42"),
        (["-t", "real", "foo.r"], "0.5"),
        (["-t", "boolean", "foo.b"], "true"),
        (["-t", "array", "foo.a"], '[1,"x"]'),
        (["-t", "object", "heartbeat"], '{"period":"3s"}'),
        (["-t", "string", "d"], "1.5m"),
        (["-t", "any", "d"], "1.5m"),
        (["-t", "fsd", "d"], "1.5m"),
        (["-t", "fsd-integer", "d"], "90"),
        (["--type=fsd-real", "d"], "90.000000"),
        (["-d", "x", "no.such"], "x"),
        (["-q", "--default=x", "no"], "x"),
        (["-d", "x", "foo.i"], "42"),
    ],
)
def test_get(configured: Instance, words: list[str], output: str) -> None:
    assert run(configured, "get", *words) == (output + "\n", "", 0)


def test_get_without_a_name_is_everything(configured: Instance) -> None:
    text = json.dumps(CONFIG, separators=(",", ":"), ensure_ascii=False)
    assert run(configured, "get") == (text + "\n", "", 0)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["get", "no.such"], "flux-config: no.such is not set"),
        (["get", "foo.i.x"], "flux-config: foo.i.x is not set"),
        (["get", "foo."], "flux-config: foo. is not set"),
        (["get", "-q", "no.such"], ""),
        (["get", "-t", "string", "foo.i"], "flux-config: foo.i does not have the requested type"),
        (["get", "-t", "integer", "foo.b"], "flux-config: foo.b does not have the requested type"),
        (["get", "-t", "fsd", "foo.s"], "flux-config: foo.s does not have the requested type"),
        (["get", "-t", "fsd", "foo.i"], "flux-config: foo.i does not have the requested type"),
        (["get", "-t", "number", "foo.i"], "flux-config: Unknown type: number"),
        (["set", "foo.new", "1"], "flux-config: Type is unknown, please specify --type"),
        (["set", "-t", "integer", "foo.new", "1x"], "flux-config: Error parsing integer value"),
        (["set", "foo.i", "1.5"], "flux-config: Error parsing integer value"),
        (["set", "foo.b", "1"], "flux-config: Error parsing boolean value"),
        (["set", "-t", "number", "foo.i", "1"], "flux-config: Unknown type: number"),
        (
            ["set", "-t", "integer", "d.x", "1"],
            "flux-config: d.x cannot be set: d is a value, not a table",
        ),
        (
            ["set", "heartbeat.period", "xx"],
            "flux-config: load: error updating heartbeat: error parsing heartbeat.period FSD value",
        ),
        (["builtin", "nosuch"], "flux-config: nosuch is invalid"),
        (["builtin", "--intree", "rundir"], "flux-config: rundir is invalid"),
        (
            ["builtin", "--intree", "--installed", "confdir"],
            "flux-config: --intree and --installed cannot be used together",
        ),
        (
            ["get", "--bad"],
            "flux config get: unrecognized option '--bad'\nTry `flux config get --help' for more information.",
        ),
    ],
)
def test_errors(configured: Instance, words: list[str], error: str) -> None:
    assert run(configured, *words) == ("", error and error + "\n", 1)
    assert config(configured) == CONFIG


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["foo.i", "-1"], "i", -1),
        (["foo.s", "42"], "s", "42"),
        (["foo.b", "false"], "b", False),
        (["foo.r", "1"], "r", 1.0),
        (["foo.a", "[]"], "a", []),
        (["-t", "string", "foo.i", "x"], "i", "x"),
        (["-t", "any", "foo.new", "null"], "new", None),
        (["-t", "object", "foo.new", '{"x": 1}'], "new", {"x": 1}),
        (["-t", "fsd", "foo.new", "5m"], "new", "5m"),
    ],
)
def test_set(configured: Instance, words: list[str], name: str, value: Any) -> None:
    assert run(configured, "set", *words) == ("", "", 0)
    assert config(configured) == {**CONFIG, "foo": {**CONFIG["foo"], name: value}}


def test_set_makes_the_tables_on_the_way(configured: Instance) -> None:
    run(configured, "set", "-t", "integer", "x.y.z", "1")
    assert config(configured) == {**CONFIG, "x": {"y": {"z": 1}}}


def test_unset(configured: Instance) -> None:
    for name in ("foo", "heartbeat.period", "no.such", "d.x", "."):
        assert run(configured, "unset", name) == ("", "", 0)
    assert config(configured) == {"heartbeat": {}, "d": "1.5m"}


def test_load_replaces_the_configuration(configured: Instance, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[foo]\nx = 1\ny = "a"\n')
    (tmp_path / "b.toml").write_text('[foo]\ny = "b"\n')
    (tmp_path / "c.json").write_text('{"z": 1}')
    assert run(configured, "load", str(tmp_path)) == ("", "", 0)
    assert config(configured) == {"foo": {"x": 1, "y": "b"}}
    assert run(configured, "load", str(tmp_path / "c.json")) == ("", "", 0)
    assert config(configured) == {"z": 1}
    assert run(configured, "load", input="t = 1979-05-27T07:32:00Z") == ("", "", 0)
    assert config(configured) == {"t": {"iso-8601-ts": "1979-05-27T07:32:00Z"}}
    assert run(configured, "load", input="") == ("", "", 0)
    assert config(configured) == {}


@pytest.mark.parametrize(
    ("words", "text", "error"),
    [
        ((), "x = [\n", "TOML parse error: 1: "),
        ((), '{"x": ', "Error parsing config: 1: "),
        (("/no/such",), "", "Error parsing config: stat: /no/such: No such file or directory"),
    ],
)
def test_what_cannot_be_loaded(configured: Instance, words: tuple[str, ...], text: str, error: str) -> None:
    out, err, status = run(configured, "load", *words, input=text)
    assert (out, status) == ("", 1)
    assert err.startswith(f"flux-config: {error}")
    assert config(configured) == CONFIG


def test_files_are_read_without_an_instance(instance: Instance, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[a]\nx = 1\n")
    options: dict[str, Any] = {"FLUX_URI": "local:///no/such"}
    assert run(instance, "get", "-c", str(file), "a.x", **options) == ("1\n", "", 0)
    assert run(instance, "get", f"--config-path={tmp_path}", **options) == ('{"a":{"x":1}}\n', "", 0)
    out, err, status = run(instance, "get", "-c", "/no/such", **options)
    assert (out, status) == ("", 1)
    assert err == "flux-config: Error parsing config: stat: /no/such: No such file or directory\n"


def test_parts_of_flux_have_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fluxlet.cmd import config as command

    place = tmp_path / "imp" / "conf.d"
    place.mkdir(parents=True)
    (place / "x.toml").write_text("allow = true\n")
    monkeypatch.setattr(command, "conf_builtin_get", lambda name: {"confdir": str(tmp_path)}[name])
    assert command.main(["get", "-c", "imp", "allow"]) == 0
    assert capsys.readouterr().out == "true\n"


def test_reload(configured: Instance) -> None:
    assert run(configured, "reload", "--follower-noop") == ("", "", 0)
    assert [entry["topic"] for entry in configured.take()][-1] == "config.reload"
    configured.broker.attributes.set_internal("config.path", "/no/such")
    text = "flux-config: reload: Config file error: stat: /no/such: No such file or directory\n"
    assert run(configured, "reload") == ("", text, 1)


def test_reload_on_a_follower_may_be_nothing(configured: Instance) -> None:
    configured.broker.attributes.set_internal("rank", "3")
    assert run(configured, "reload", "--follower-noop") == ("", "", 0)
    assert "config.reload" not in [entry["topic"] for entry in configured.take()]


def test_builtin(instance: Instance) -> None:
    for words in (("rundir",), ("--installed", "rundir")):
        assert run(instance, "builtin", *words, FLUX_URI=None) == ("/run/flux\n", "", 0)
    assert run(instance, "builtin", "--intree", "confdir") == ("/etc/flux\n", "", 0)


def test_a_guest_reads_and_changes_nothing(configured: Instance) -> None:
    guest: dict[str, Any] = {"FLUX_HANDLE_USERID": "1234", "FLUX_HANDLE_ROLEMASK": "0x2"}
    assert run(configured, "get", "foo.i", **guest) == ("42\n", "", 0)
    text = "flux-config: load: Request requires owner credentials\n"
    assert run(configured, "unset", "foo", **guest) == ("", text, 1)


def test_without_an_instance(instance: Instance) -> None:
    options: dict[str, Any] = {"FLUX_URI": "local:///no/such", "FLUX_LOCAL_CONNECTOR_RETRY_COUNT": "0"}
    assert run(instance, "get", **options) == ("", "flux: flux_open: No such file or directory\n", 1)


def test_infinity_is_no_integer() -> None:
    assert shown("inf", "fsd", "x") == "inf"
    with pytest.raises(Failure, match="x does not have the requested type"):
        shown("inf", "fsd-integer", "x")


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b"])
def test_names_without_words(name: str) -> None:
    with pytest.raises(Failure, match="invalid name"):
        assign({}, name, 1)


def test_nesting_without_end_is_no_value() -> None:
    with pytest.raises(Failure, match="Error parsing any value"):
        parsed_value("[" * 100_000, "any")
