"""ssh:// (spec 01, 2.5): the command that is run, a connection through `flux relay`, and what is said when it fails."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from pathlib import Path

import pytest
from command_instance import Instance

import flux
from flux.connector.ssh import SshConnector, ssh_command

#: Does what ssh does: options and host are its own, the rest is for a shell.
SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift 2; done
shift
exec /bin/sh -c "$*"
"""


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stand-in for ssh, and a `flux` for the other side."""
    command = script(tmp_path / "ssh", SSH)
    monkeypatch.setenv("FLUX_SSH", command)
    monkeypatch.setenv(
        "FLUX_SSH_RCMD", script(tmp_path / "rflux", f'#!/bin/sh\nexec {sys.executable} -m fluxlet.cmd.driver "$@"\n')
    )
    return command


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An environment that decides the whole command line; the directory of the local `flux`."""
    for name in ("FLUX_SSH_RCMD", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLUX_SSH", "ssh")
    script(tmp_path / "flux", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "variables", "command"),
    [
        ("h/r/local-0", {}, "ssh h env PATH=/r/bin:{}:/bin:/usr/bin flux relay /r/local-0"),
        ("me@h:22/r/s", {}, "ssh -p 22 me@h env PATH=/r/bin:{}:/bin:/usr/bin flux relay /r/s"),
        ("H.Example/r/s", {}, "ssh H.Example env PATH=/r/bin:{}:/bin:/usr/bin flux relay /r/s"),
        ("[::1]:22/r/s", {}, "ssh -p 22 ::1 env PATH=/r/bin:{}:/bin:/usr/bin flux relay /r/s"),
        (
            "h/r/s",
            {"LD_LIBRARY_PATH": "/l"},
            "ssh h env PATH=/r/bin:{}:/bin:/usr/bin LD_LIBRARY_PATH=/l flux relay /r/s",
        ),
        ("h/r/s", {"FLUX_SSH_RCMD": "/x/flux"}, "ssh h /x/flux relay /r/s"),
        (
            "h/r/s",
            {"FLUX_SSH_RCMD": "/x/flux", "LD_LIBRARY_PATH": "/l"},
            "ssh h env LD_LIBRARY_PATH=/l /x/flux relay /r/s",
        ),
        ("h/a$b/s", {"FLUX_SSH_RCMD": "flux"}, "ssh h flux relay '/a$b/s'"),
    ],
)
def test_command(
    clean: str, monkeypatch: pytest.MonkeyPatch, path: str, variables: dict[str, str], command: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert " ".join(ssh_command(path)) == command.format(clean)


@pytest.mark.parametrize(
    "path", ["", "h", "/p", "h:x/p", "h:99999/p", "h/p?q", "h/p#f", "-oProxyCommand=x/p", "-l@h/p"]
)
def test_a_malformed_uri_is_refused(clean: str, path: str) -> None:
    with pytest.raises(OSError, match="Invalid argument") as info:
        ssh_command(path)
    assert info.value.errno == errno.EINVAL


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_handle_works_through_it_and_leaves_nothing_behind(instance: Instance, ssh: str) -> None:
    descriptors, processes = len(os.listdir("/proc/self/fd")), children()
    with flux.Flux(f"ssh://me@host:22{instance.path}") as handle:
        assert handle.attr_get("size") == "1"
        big = "x" * 3_000_000
        assert handle.rpc("broker.ping", {"pad": big}).get()["pad"] == big
        handle.event_subscribe("foo")
        handle.event_send("foo", {"a": 1})
        assert handle.event_recv().payload == {"a": 1}
        assert children() != processes
    assert children() == processes
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_this_host_is_reached_without_ssh_unless_the_user_names_one(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = instance.uri.removeprefix("local://")
    monkeypatch.delenv("FLUX_SSH", raising=False)
    monkeypatch.setenv("PATH", "/nosuch")
    with flux.Flux(f"ssh://{socket.gethostname()}{path}") as handle:
        assert handle.attr_get("rank") == "0"
    monkeypatch.setenv("FLUX_SSH", script(tmp_path / "ssh", "#!/bin/sh\necho refused >&2; exit 1\n"))
    for host in (socket.gethostname(), "elsewhere"):
        with pytest.raises(OSError, match="refused"):
            flux.Flux(f"ssh://{host}{path}")


def test_what_is_sent_before_closing_arrives(instance: Instance, ssh: str) -> None:
    with flux.Flux(f"ssh://host{instance.path}") as handle:
        handle.event_send("last.words")
    assert any(sent["topic"] == "last.words" for sent in instance.take())


def test_it_can_be_opened_again(instance: Instance, ssh: str) -> None:
    processes = children()
    connector = SshConnector(f"host{instance.path}")
    first = connector._child.pid
    connector.reconnect()
    assert connector._child.pid != first
    connector.close()
    connector.close()
    assert children() == processes


UNCLEAN = (
    "Unable to establish clean ssh connection.\n"
    "Hint: Check that shell init files do not write to stdout when non-interactive."
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit 255", UNCLEAN),
        ("echo Welcome", UNCLEAN),
        ("echo Welcome; cat", UNCLEAN),
        ("echo '  ssh: no such host' >&2; exit 255", "ssh: no such host"),
        ("echo Welcome; echo and a reason >&2", "and a reason"),
    ],
)
def test_ssh_explains_its_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    descriptors, processes = len(os.listdir("/proc/self/fd")), children()
    monkeypatch.setenv("FLUX_SSH", script(tmp_path / "ssh", f"#!/bin/sh\n{text}\n"))
    with pytest.raises(OSError, match="Unable to connect") as info:
        flux.Flux("ssh://host/path")
    assert (info.value.errno, info.value.strerror) == (errno.ECONNRESET, f"Unable to connect to Flux: {message}")
    assert (len(os.listdir("/proc/self/fd")), children()) == (descriptors, processes)


def test_the_relay_explains_its_failure(instance: Instance, ssh: str) -> None:
    with pytest.raises(OSError, match=r": local:///no/such: No such file or directory$"):
        flux.Flux("ssh://host/no/such")


@pytest.mark.parametrize(("mode", "number"), [(None, errno.ENOENT), (stat.S_IRUSR, errno.EACCES)])
def test_ssh_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, number: int) -> None:
    command = tmp_path / "ssh"
    if mode is not None:
        command.write_text(SSH)
        command.chmod(mode)
    monkeypatch.setenv("FLUX_SSH", str(command))
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Hint: set FLUX_SSH in environment to override") as info:
        SshConnector("host/path")
    assert info.value.errno == number
    assert info.value.strerror.startswith(f"ssh-connector: {command}: {os.strerror(number)}\n")
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_command_shows_what_ssh_says(instance: Instance, tmp_path: Path) -> None:
    command = script(tmp_path / "ssh", "#!/bin/sh\necho ssh: no route >&2\nexit 255\n")
    done = instance.run("getattr", "size", FLUX_URI="ssh://host/path", FLUX_SSH=command)
    assert done.stderr.splitlines() == ["flux: flux_open: Connection reset by peer", "flux: ssh: no route"]
