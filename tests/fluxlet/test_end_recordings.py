"""What a client of the reference saw of an instance's end, with an instance of ours that ends."""

from __future__ import annotations

import re
from typing import Any

import pytest
from in_process import receive
from service_recordings import check, message_of, records

from fluxlet.testing import Instance

#: The reference cleans up by commands, and runs rc1 and rc3 as such: ours are within the broker (spec 03, 17).
_OWN_WAY = re.compile(r"broker\.info\[0\]: (cleanup\.\d|rc3\.0): ").match
_CLEANUP = {"cleanup-success", "cleanup-none", "rc3-success", "rc3-none"}


def test_a_watcher_of_states_sees_them_and_then_the_end_of_the_connection() -> None:
    lines = records("broker-monitor")
    with Instance() as instance, instance.handle() as handle:
        handle.send(message_of(lines[0], ()))
        check(receive(handle), lines[1])
        instance.stop()
        for line in lines[2:]:
            check(receive(handle), line)
        with pytest.raises(ConnectionResetError):
            handle.recv()


def plain(line: str) -> str:
    """A line of the log without what differs from run to run."""
    line = re.sub(r" [0-9.e-]+m?s$", " TIME", line.rstrip("\n"))
    line = re.sub(r"rc2\.0: .* Hangup", "rc2.0: PROGRAM Hangup", line)
    event = re.match(r"broker\.info\[0\]: ([a-z0-9-]+): ", line)
    return line.replace(event[1], "EVENT") if event is not None and event[1] in _CLEANUP else line


def log_of(messages: list[Any]) -> list[str]:
    return [plain(payload["log"]) for payload in messages if not _OWN_WAY(payload["log"])]


def test_who_ends_an_instance_sees_how_it_does() -> None:
    lines = records("broker-shutdown")
    (request,) = (line for line in lines if line["topic"] == "shutdown.start" and line["dir"] == "c>b")
    told = [line for line in lines if line["topic"] == "shutdown.start" and line["dir"] == "b>c"]
    with Instance() as instance:
        with instance.handle() as handle:
            handle.send(message_of(request, ()))
            heard = [receive(handle)]
            while not heard[-1].aux1:
                heard.append(receive(handle))
            check(heard.pop(), told.pop())
            for message in heard:
                check(message, {**told[0], "payload": message.payload})
        assert log_of([message.payload for message in heard]) == log_of([line["payload"] for line in told])
        # The program that ties the instance to us has been hung up.
        assert instance.wait() == 129
