"""fd://N: taking over a descriptor that is connected already (spec 01, 2.3)."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest

import flux


def refusal(uri: str) -> tuple[int, str]:
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        flux.Flux(uri)
    return info.value.errno, info.value.strerror.removeprefix("Unable to connect to Flux: ")


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("fd", (errno.EINVAL, "URI path is not set")),
        ("fd://", (errno.EINVAL, "URI path is not set")),
        ("fd://x", (errno.EINVAL, "error parsing file descriptor")),
        ("fd://987", (errno.EBADF, "Bad file descriptor")),
        ("fd://-1", (errno.EBADF, "Bad file descriptor")),
        ("fd://99999999999999999999", (errno.EBADF, "Bad file descriptor")),
    ],
)
def test_what_is_no_descriptor_is_refused(uri: str, error: tuple[int, str]) -> None:
    assert refusal(uri) == error


def test_what_is_no_socket_is_refused_and_left_open() -> None:
    reader, writer = os.pipe()
    assert refusal(f"fd://{reader}")[0] == errno.ENOTSOCK
    os.fstat(reader)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("greeting", "number"), [(b"\1", errno.EPERM), (b"", errno.ECONNRESET)])
def test_a_refused_connection_is_closed(greeting: bytes, number: int) -> None:
    ours, theirs = socket.socketpair()
    theirs.send(greeting)
    theirs.shutdown(socket.SHUT_WR)
    fd = ours.detach()
    assert refusal(f"fd://{fd}")[0] == number
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    theirs.close()


def test_the_descriptor_closes_with_the_handle(instance_uri: str) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(instance_uri.removeprefix("local://"))
    fd = connection.detach()
    with flux.Flux(f"fd://{fd}") as h:
        assert h.rpc("broker.ping", {"seq": 1}).get()["seq"] == 1
        assert h.core.fileno() == fd
        with pytest.raises(OSError, match="ENOSYS"):
            h.flux_reconnect()
        assert h.get_rank() == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_subprocess_uses_the_connection_it_is_given(instance_uri: str) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(instance_uri.removeprefix("local://"))
    script = "import flux; print(flux.Flux().rpc('broker.ping', {'seq': 4}).get()['seq'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "FLUX_URI": f"fd://{connection.fileno()}"},
        pass_fds=[connection.fileno()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    connection.close()
    assert (done.stdout, done.stderr) == ("4\n", "")
