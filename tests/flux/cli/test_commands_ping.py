"""flux ping (spec 03, 14.2)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from command_instance import Instance, recording

import flux

LINE = r" time=\d+\.\d{3} ms \([0-9a-f]{8}(![0-9a-f]{8})+\)"


def untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for line in lines:
        for name in ("time.tv_sec", "time.tv_nsec"):
            if name in line.get("payload", {}):
                line["payload"][name] = 0
    return lines


@pytest.mark.parametrize(
    ("words", "vector", "conn"),
    [
        ("-c2 -i50ms broker", "broker-ping", 0),
        ("-c1 kvs", "broker-ping", 1),
        ("-c1 -p5 0", "broker-ping", 2),
        ("-c1 nosuch", "broker-ping", 3),
        ("-c1 5", "broker-ping", 4),
        ("-c1 upstream", "broker-ping", 5),
        ("-c2 -i10ms -p8 broker", "wire-ping-tool", 0),
    ],
)
def test_requests_are_those_of_the_reference(instance: Instance, words: str, vector: str, conn: int) -> None:
    instance.run("ping", *words.split())
    assert untimed(instance.take()) == untimed(recording(vector, conn))


@pytest.mark.parametrize(
    ("words", "header", "line"),
    [
        ("-c1 kvs", "any!kvs", r"0!kvs\.ping pad=0 seq=0"),
        ("-c1 broker", "any!broker", r"0!broker\.ping pad=0 seq=0"),
        ("-c1 any", "any!broker", r"0!broker\.ping pad=0 seq=0"),
        ("-c1 0", "0!broker", r"0!broker\.ping pad=0 seq=0"),
        ("-c1 0!kvs", "0!kvs", r"0!kvs\.ping pad=0 seq=0"),
        ("-c1 -r0 kvs", "0!kvs", r"0!kvs\.ping pad=0 seq=0"),
        ("-c1 vm", "vm!broker (rank 0)", r"0!broker\.ping pad=0 seq=0"),
        ("-c1 vm!kvs", "vm!kvs (rank 0)", r"0!kvs\.ping pad=0 seq=0"),
        ("-c1 -p2K kvs", "any!kvs", r"0!kvs\.ping pad=2048 seq=0"),
        ("-c1 -u kvs", "any!kvs", r"0!kvs\.ping pad=0 userid=\d+ rolemask=0x5 seq=0"),
    ],
)
def test_output(instance: Instance, words: str, header: str, line: str) -> None:
    done = instance.run("ping", *words.split())
    first, second = done.stdout.splitlines()
    assert first == f"flux-ping {header}"
    assert re.fullmatch(line + LINE, second)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("options", ["-i 0", "-i 1ms", "-b"])
def test_count_requests_are_sent_and_answered(instance: Instance, options: str) -> None:
    done = instance.run("ping", "-c3", *options.split(), "kvs")
    assert re.findall(r" seq=(\d) ", done.stdout) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("-c1 nosuch", "nosuch.ping: Function not implemented"),
        ("-c1 5", "5!broker.ping: No route to host"),
        ("-c1 upstream", "upstream!broker.ping: No route to host"),
        ("-c1 x!kvs", "invalid nodeid/host: 'x'"),
        ("-c1 -r x kvs", "invalid nodeid/host: 'x'"),
        ("-r0 0", "--rank and TARGET both try to specify a nodeid"),
        ("-r0 0!kvs", "--rank and TARGET both try to specify a nodeid"),
        ("-b kvs", "--batch needs --count"),
        ("-i x kvs", "invalid --interval value 'x': it must be a duration such as 0.5s or 10ms"),
        ("-c x kvs", "invalid --count value 'x': it must be a whole number"),
    ],
)
def test_errors(instance: Instance, words: str, error: str) -> None:
    done = instance.run("ping", *words.split())
    assert (done.stderr, done.returncode) == (f"flux-ping: {error}\n", 1)


def test_options_behind_the_target_are_a_usage_error(instance: Instance) -> None:
    done = instance.run("ping", "kvs", "-c", "1")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("Usage: flux-ping [OPTIONS] TARGET\n")


def test_an_answer_that_is_not_the_request_is_refused(instance: Instance) -> None:
    def answer(handle: flux.Flux, watcher: Any, message: Any, args: Any) -> None:
        handle.respond(message, {"seq": 0})
        handle.reactor_stop()

    with flux.Flux(instance.uri) as server:
        server.service_register("odd").get()
        watcher = server.msg_watcher_create(answer, flux.constants.FLUX_MSGTYPE_REQUEST, "odd.ping")
        watcher.start()
        process = instance.start("ping", "-c1", "odd")
        server.reactor_run()
        watcher.destroy()
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("flux-ping any!odd\n", "flux-ping: odd.ping: Protocol error\n", 1)
