"""flux event pub and sub (spec 03, 14.3)."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest
from command_instance import Instance, recording

import flux


@pytest.mark.parametrize(
    ("words", "vector", "conn"),
    [
        (["foo.a"], "wire-event-tool", 0),
        (["-l", "foo.b", '{"x":1}'], "wire-event-tool", 1),
        (["-s", "foo.c", '{"x":1}'], "wire-event-tool", 2),
        (["-s", "-r", "foo.d", "raw"], "wire-event-tool", 3),
        (["-p", "foo.e"], "wire-event-tool", 4),
        (["foo"], "broker-event", 1),
        (["-s", "foo", '{"a":1}'], "broker-event", 2),
        (["-s", "-r", "foobar", "rawbytes"], "broker-event", 4),
        (["-l", "baz", "{}"], "broker-event", 6),
    ],
)
def test_what_pub_sends_is_what_the_reference_sends(
    instance: Instance, words: list[str], vector: str, conn: int
) -> None:
    done = instance.run("event", "pub", *words)
    assert (done.stderr, done.returncode) == ("", 0)
    assert instance.take() == recording(vector, conn)


def test_words_are_joined_to_one_payload(instance: Instance) -> None:
    instance.run("event", "pub", "foo", "a", "b")
    assert instance.take()[0]["payload"] == {"text": "a b"}


def test_a_synchronous_event_prints_its_number(instance: Instance) -> None:
    assert re.fullmatch(r"seq=\d+\n", instance.run("event", "pub", "-s", "foo").stdout)


@pytest.mark.parametrize("raw", [(), ("-r",)])
def test_a_synchronous_private_event_is_private(instance: Instance, raw: tuple[str, ...]) -> None:
    """The reference forgets the flag unless the payload is raw (spec 03, section 17)."""
    instance.run("event", "pub", "-s", "-p", *raw, "foo", "{}")
    assert instance.take()[0]["payload"]["flags"] == flux.constants.FLUX_MSGFLAG_PRIVATE


def subscriber(instance: Instance, *words: str) -> Any:
    """`flux event sub`, subscribed."""
    process = instance.start("event", "sub", *words)
    with instance.news:
        arrived = instance.news.wait_for(lambda: any(sent["topic"] == "event.subscribe" for sent in instance.sent), 60)
    assert arrived
    return process


def test_sub_prints_topic_and_payload_and_ends_after_count(instance: Instance) -> None:
    process = subscriber(instance, "-c4", "foo")
    with flux.Flux(instance.uri) as handle:
        handle.event_send("bar", {"not": "shown"})
        handle.event_send("foo")
        handle.event_send("foobar", {"a": 1})
        handle.event_send("foo", "text")
    instance.run("event", "pub", "-r", "foo", "raw\n\x7f")
    out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["foo\t", 'foobar\t{"a": 1}', "foo\ttext", "foo\traw.."]
    assert (err, process.returncode) == ("", 0)


def test_sub_without_topics_takes_all(instance: Instance) -> None:
    process = subscriber(instance, "-c1")
    flux.Flux(instance.uri).event_send("anything")
    assert process.communicate(timeout=60)[0] == "anything\t\n"
    assert instance.take()[0]["payload"] == {"topic": ""}


def test_sub_shows_each_event_at_once_and_ends_by_ctrl_c_like_any_program(instance: Instance) -> None:
    process = subscriber(instance, "foo")
    flux.Flux(instance.uri).event_send("foo", {"a": 1})
    assert process.stdout.readline() == 'foo\t{"a": 1}\n'
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_sub_ends_by_sigpipe_when_nobody_reads(instance: Instance) -> None:
    process = subscriber(instance, "foo")
    process.stdout.close()
    flux.Flux(instance.uri).event_send("foo")
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == -signal.SIGPIPE


def test_sub_tells_when_the_broker_goes(instance: Instance) -> None:
    process = subscriber(instance, "foo")
    instance.stop()
    assert process.communicate(timeout=60) == ("", "flux-event: Connection reset by peer\n")
    assert process.returncode == 1


def test_a_count_must_be_a_number(instance: Instance) -> None:
    done = instance.run("event", "sub", "-c", "x")
    assert (done.stderr, done.returncode) == ("flux-event: invalid count 'x': it must be a whole number\n", 1)
