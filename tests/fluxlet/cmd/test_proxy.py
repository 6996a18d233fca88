"""flux proxy (spec 03, 14.7)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_instance import Instance, recording

import flux
from flux.cli.tool import Failure
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_RPC_STREAMING
from fluxlet.cmd.proxy import check_version

PREFIX = f"{sys.executable} -m fluxlet.cmd.driver"


@pytest.fixture
def tmpdir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A TMPDIR short enough for sockets; it is to be empty in the end."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as directory:
        yield directory
        assert os.listdir(directory) == []


def run(instance: Instance, *words: str, **env: str | None) -> subprocess.CompletedProcess[str]:
    return instance.run("proxy", *words, **{"SHELL": "/bin/sh", **env})


@pytest.mark.parametrize(
    ("words", "out", "code"),
    [
        (["true"], "", 0),
        (["exit 6"], "", 6),
        (["sh", "-c", "exit 5"], "", 0),
        (["echo", "a", "  b"], "a b\n", 0),
        (["kill -TERM $$"], "", 128 + signal.SIGTERM),
        (["test $FLUX_URI = local://$(echo $TMPDIR/flux-proxy-*/local)"], "", 0),
        (["stat -c %a ${FLUX_URI#local://} $(dirname ${FLUX_URI#local://})"], "777\n700\n", 0),
        (["echo ${FLUX_PROXY_REMOTE-unset}"], "unset\n", 0),
        ([f"{PREFIX} getattr size"], "1\n", 0),
    ],
)
def test_the_command_is_the_shells(instance: Instance, tmpdir: str, words: list[str], out: str, code: int) -> None:
    done = run(instance, instance.uri, *words, TMPDIR=tmpdir, FLUX_URI=None)
    assert (done.stdout, done.stderr, done.returncode) == (out, "", code)


def test_without_a_command_it_is_a_shell(instance: Instance) -> None:
    done = instance.run("proxy", instance.uri, input="echo $FLUX_URI\nexit 3\n", SHELL="/bin/sh")
    assert done.stdout.startswith("local:///tmp/flux-proxy-")
    assert done.returncode == 3


def test_an_unset_shell_is_the_systems(instance: Instance) -> None:
    assert run(instance, instance.uri, "echo", "$0", SHELL=None).stdout == "/bin/sh\n"


def test_a_remote_target_is_named_in_the_environment(instance: Instance, tmp_path: Path) -> None:
    ssh, rflux = tmp_path / "ssh", tmp_path / "flux"
    ssh.write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift 2; done\nshift\nexec /bin/sh -c "$*"\n')
    rflux.write_text(f'#!/bin/sh\nexec {PREFIX} "$@"\n')
    for path in (ssh, rflux):
        path.chmod(0o755)
    uri = f"ssh://me@host:22{instance.path}"
    command = f"echo $FLUX_PROXY_REMOTE; {PREFIX} ping -c1 broker"
    done = run(instance, uri, command, FLUX_SSH=str(ssh), FLUX_SSH_RCMD=str(rflux))
    remote, _, ping = done.stdout.splitlines()
    assert remote == "me@host:22"
    assert len(ping.rpartition("(")[2].split("!")) == 5  # two hops more than without


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("local:///no/such", "flux-proxy: local:///no/such: broker socket /no/such was not found"),
        ("ssh://host/path", "flux-proxy: ssh://host/path: ssh: no route"),
        ("ssh://host", "flux-proxy: ssh://host: Invalid argument"),
    ],
)
def test_a_target_that_cannot_be_reached(instance: Instance, tmp_path: Path, target: str, error: str) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho ssh: no route >&2\nexit 255\n")
    ssh.chmod(0o755)
    done = run(instance, target, "true", FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0", FLUX_SSH=str(ssh))
    assert (done.stderr, done.returncode) == (error + "\n", 1)


def test_a_target_that_stands_for_no_uri(instance: Instance) -> None:
    done = run(instance, "no-such-job", "true")
    assert done.stderr.splitlines()[0] == "flux-proxy: Unable to resolve no-such-job to a URI"
    assert done.returncode == 1


VERSIONS = "proxy version 0.88.0 may not interoperate with broker version {}"


@pytest.mark.parametrize("version", ["0.88.0", "0.88.7", "0.88.0-59-g4a5e79f56"])
def test_versions_that_fit(version: str) -> None:
    assert check_version(version, force=False) is None


@pytest.mark.parametrize("version", ["0.87.0", "1.88.0", "0.88", "nonsense", ""])
def test_versions_that_do_not_fit(version: str) -> None:
    with pytest.raises(Failure) as info:
        check_version(version, force=False)
    assert info.value.text == f"fatal: {VERSIONS.format(version)} (--force to connect anyway)"
    assert check_version(version, force=True) == f"warning: {VERSIONS.format(version)}"


def test_force_connects_to_another_version(instance: Instance) -> None:
    instance.run("setattr", "-f", "version", "9.9.9")
    assert run(instance, instance.uri, "true").returncode == 1
    done = run(instance, "--force", instance.uri, "echo", "ok")
    assert (done.stdout, done.returncode) == ("ok\n", 0)
    assert done.stderr == f"flux-proxy: warning: {VERSIONS.format('9.9.9')}\n"


def test_a_tmpdir_that_is_none_is_not_used(instance: Instance) -> None:
    done = run(instance, instance.uri, "echo $FLUX_URI", TMPDIR="/no/such")
    assert done.stderr == "flux-proxy: TMPDIR (/no/such) is not a directory: using /tmp\n"
    assert done.stdout.startswith("local:///tmp/flux-proxy-")


def test_a_tmpdir_too_long_for_a_socket_is_not_used(instance: Instance, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    done = run(instance, instance.uri, "echo $FLUX_URI", TMPDIR=str(long))
    assert "is too long for a socket in it: using /tmp" in done.stderr
    assert done.stdout.startswith("local:///tmp/flux-proxy-")


# Through the proxy.


class Proxy:
    """A running `flux proxy` and what it says."""

    def __init__(self, instance: Instance, *options: str) -> None:
        # The command gives away the URI and stays.
        self.process = subprocess.Popen(
            instance.command("proxy", *options, instance.uri, "echo $FLUX_URI; exec cat"),
            env=instance.environment(SHELL="/bin/sh"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.uri = self.process.stdout.readline().strip()

    def read_error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self) -> tuple[str, int]:
        """Ends the command; what is left on stderr, and the exit code."""
        _, err = self.process.communicate(timeout=60)
        return err, self.process.returncode


@pytest.fixture
def start(instance: Instance) -> Iterator[Callable[..., Proxy]]:
    started: list[Proxy] = []

    def start(*options: str) -> Proxy:
        started.append(Proxy(instance, *options))
        return started[-1]

    yield start
    for proxy in started:
        if proxy.process.poll() is None:
            proxy.process.terminate()
        proxy.process.communicate(timeout=60)


@pytest.fixture
def proxy(start: Callable[..., Proxy]) -> Proxy:
    return start()


def test_subscriptions_are_passed_on_as_recorded(instance: Instance, proxy: Proxy) -> None:
    with flux.Flux(proxy.uri) as handle, flux.Flux(instance.uri) as publisher:
        handle.event_subscribe("heartbeat.pulse")
        publisher.event_send("heartbeat.pulse")
        event = handle.event_recv()
        handle.event_unsubscribe("heartbeat.pulse")
    assert (event.topic, event.raw) == ("heartbeat.pulse", None)
    sent = [line for line in instance.take() if line["type"] == "request"]
    assert sent == recording("broker-proxy", 0)


def test_each_client_gets_its_own_answers_and_events_once(instance: Instance, proxy: Proxy) -> None:
    with flux.Flux(proxy.uri) as first, flux.Flux(proxy.uri) as second, flux.Flux(instance.uri) as publisher:
        rpcs = [(handle.rpc("broker.ping", {"n": n}), n) for n in range(20) for handle in (first, second)]
        assert all(rpc.get()["n"] == n for rpc, n in rpcs)
        for topic in ("foo", "foo", "f"):
            first.event_subscribe(topic)
        second.event_subscribe("foo")
        second.event_subscribe("bar")
        publisher.event_send("foo")
        publisher.event_send("bar")
        assert [second.event_recv().topic for _ in range(2)] == ["foo", "bar"]
        publisher.event_send("f.end")
        assert [first.event_recv().topic for _ in range(2)] == ["foo", "f.end"]


def test_one_clients_unsubscribe_leaves_the_others_alone(instance: Instance, proxy: Proxy) -> None:
    with flux.Flux(proxy.uri) as second, flux.Flux(instance.uri) as publisher:
        with flux.Flux(proxy.uri) as first:
            for handle in (first, second):
                handle.event_subscribe("foo")
            first.event_unsubscribe("foo")
            with pytest.raises(OSError, match="ENOENT"):
                first.event_unsubscribe("foo")
            first.event_subscribe("foo")
        publisher.rpc("event.publish", {"topic": "foo", "flags": 0}).get()
        assert second.event_recv().topic == "foo"


def test_services_belong_to_one_client_and_go_with_it(instance: Instance, proxy: Proxy) -> None:
    with flux.Flux(instance.uri) as caller, flux.Flux(proxy.uri) as other:
        with flux.Flux(proxy.uri) as server:
            server.service_register("svc").get()
            with pytest.raises(FileExistsError):
                other.service_register("svc").get()
            with pytest.raises(FileExistsError):
                caller.service_register("svc").get()
            with pytest.raises(FileNotFoundError):
                other.service_unregister("svc").get()
            for client in (caller, other):
                rpc = client.rpc("svc.x", {"a": 1})
                server.respond(server.recv(FLUX_MSGTYPE_REQUEST), {"b": 2})
                assert rpc.get() == {"b": 2}
            unanswered = caller.rpc("svc.x", {})
            server.recv(FLUX_MSGTYPE_REQUEST)
        with pytest.raises(OSError, match="No route to host"):
            unanswered.get()
        other.service_register("svc").get()
        other.service_unregister("svc").get()
        with pytest.raises(OSError, match=r"No service matching svc\.x is registered"):
            caller.rpc("svc.x", {}).get()


def test_streams_pass_and_the_notice_of_their_end(instance: Instance, proxy: Proxy) -> None:
    with flux.Flux(instance.uri) as server:
        server.service_register("svc").get()
        with flux.Flux(proxy.uri) as client:
            rpc = client.rpc("svc.watch", {}, flags=FLUX_RPC_STREAMING)
            request = server.recv(FLUX_MSGTYPE_REQUEST)
            for n in range(3):
                server.respond(request, {"n": n})
                assert rpc.get() == {"n": n}
                rpc.reset()
        notice = server.recv(FLUX_MSGTYPE_REQUEST)
        assert (notice.topic, notice.routes) == ("svc.disconnect", request.routes)


def test_what_the_owner_says_of_itself_is_left_to_the_broker(
    instance: Instance, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_HANDLE_USERID", "1234")
    monkeypatch.setenv("FLUX_HANDLE_ROLEMASK", "0x2")
    with flux.Flux(proxy.uri) as handle:
        answer = handle.rpc("broker.ping", {}).get()
    assert (answer["userid"], answer["rolemask"]) == (1234, 2)


def test_a_client_that_sends_nonsense_is_disconnected_alone(instance: Instance, proxy: Proxy) -> None:
    with flux.Flux(proxy.uri) as handle, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bad:
        bad.connect(proxy.uri.removeprefix("local://"))
        assert bad.recv(1) == b"\0"
        bad.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert bad.recv(1) == b""
        assert handle.attr_get("size") == "1"


# Ends.


def test_a_lost_broker_hangs_up_on_the_command(instance: Instance, proxy: Proxy) -> None:
    with flux.Flux(proxy.uri) as handle:
        instance.stop()
        assert proxy.read_error() == "flux-proxy: Lost connection to Flux\n"
        with pytest.raises(ConnectionResetError):
            handle.recv()
    assert proxy.read_error() == "flux-proxy: Sending SIGHUP to child processes\n"
    proxy.process.wait(60)
    assert proxy.end() == ("", 128 + signal.SIGHUP)
    assert not os.path.exists(proxy.uri.removeprefix("local://"))


def test_nohup_spares_the_command(instance: Instance, start: Callable[..., Proxy]) -> None:
    proxy = start("--nohup")
    instance.stop()
    assert proxy.read_error() == "flux-proxy: Lost connection to Flux\n"
    assert proxy.end() == ("", 0)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_handed_on(instance: Instance, proxy: Proxy, signum: int) -> None:
    proxy.process.send_signal(signum)
    proxy.process.wait(60)
    assert proxy.end() == ("", 128 + signum)


def test_the_terminals_interrupt_is_the_commands_business(instance: Instance, proxy: Proxy) -> None:
    proxy.process.send_signal(signal.SIGINT)
    with flux.Flux(proxy.uri) as handle:
        assert handle.attr_get("size") == "1"
    assert proxy.end() == ("", 0)


def test_an_ignored_hangup_stays_ignored(instance: Instance) -> None:
    code = f"trap '' HUP; exec {PREFIX} proxy {instance.uri} 'kill -HUP $$; kill -HUP $PPID; echo alive'"
    done = subprocess.run(
        ["/bin/sh", "-c", code], env=instance.environment(SHELL="/bin/sh"), capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("alive\n", 0)


def test_reconnect_goes_on_where_it_was(instance: Instance, start: Callable[..., Proxy]) -> None:
    """The broker drops the proxy's connection and takes it back: subscriptions and services are there again."""
    proxy = start("--reconnect")
    with flux.Flux(proxy.uri) as client, flux.Flux(instance.uri) as other:
        other.service_register("deaf").get()
        client.event_subscribe("foo")
        client.service_register("svc").get()
        pending = client.rpc("deaf.x", {})
        other.recv(FLUX_MSGTYPE_REQUEST)
        server = instance.broker.server
        victim = next(link for link in server.connections if link.pid == proxy.process.pid)
        victim.sock.shutdown(socket.SHUT_RDWR)
        assert proxy.read_error() == "flux-proxy: Lost connection to Flux: trying to reconnect\n"
        assert proxy.read_error() == "flux-proxy: Reconnected to Flux\n"
        with pytest.raises(ConnectionResetError, match="RPC aborted due to broker reconnect"):
            pending.get()
        rpc = other.rpc("svc.x", {})
        client.respond(client.recv(FLUX_MSGTYPE_REQUEST), {})
        assert rpc.get() == {}
        other.event_send("foo")
        assert client.event_recv().topic == "foo"
    assert proxy.end() == ("", 0)
