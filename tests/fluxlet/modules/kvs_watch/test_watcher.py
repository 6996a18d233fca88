"""Watcher: outcomes of lookups in, answers out (spec 05, 9.2 and 9.3)."""

from __future__ import annotations

import errno
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux.constants import (
    FLUX_KVS_READDIR,
    FLUX_KVS_STREAM,
    FLUX_KVS_TREEOBJ,
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_APPEND,
    FLUX_KVS_WATCH_FULL,
    FLUX_KVS_WATCH_INITIAL_SENTINEL,
    FLUX_KVS_WATCH_UNIQ,
    FLUX_MSGFLAG_STREAMING,
)
from flux.message import Message
from fluxlet.modules.kvs_watch.watcher import (
    Answer,
    Blob,
    Done,
    End,
    Outcome,
    Sentinel,
    Value,
    Watcher,
    check_flags,
)

ENOENT, EISDIR, EINVAL = errno.ENOENT, errno.EISDIR, errno.EINVAL
NO_NAMESPACE = errno.EOPNOTSUPP


def val(text: str) -> bytes:
    return json.dumps({"data": text, "type": "val", "ver": 1}).encode()


def valref(*refs: str) -> bytes:
    return json.dumps({"data": refs, "type": "valref", "ver": 1}).encode()


DIRREF = b'{"data":["sha1-00"],"type":"dirref","ver":1}'
SYMLINK = b'{"data":{"target":"x"},"type":"symlink","ver":1}'

OVERWRITTEN = End(EINVAL, "value of key watched with WATCH_APPEND overwritten")
SHORTENED = End(EINVAL, "key watched with WATCH_APPEND shortened")


def watcher(flags: int) -> Watcher:
    return Watcher(Message.request(b"kvs-watch.lookup"), "primary", "a.b", flags)


def run(flags: int, *found: bytes | int) -> list[list[Answer]]:
    """The answers after each of a series of lookups: tree objects, or errnos."""
    it = watcher(flags)
    told = []
    for seq, what in enumerate(found):
        if it.ended:
            break
        outcome = Outcome(seq, errnum=what) if isinstance(what, int) else Outcome(seq, what)
        told.append(it.settle(it.announce(first=seq == 0), outcome))
    return told


W, WC = FLUX_KVS_WATCH, FLUX_KVS_WAITCREATE
APPEND, STREAM = W | FLUX_KVS_WATCH_APPEND, FLUX_KVS_STREAM
FULL = W | FLUX_KVS_WATCH_FULL
SENTINEL = APPEND | FLUX_KVS_WATCH_INITIAL_SENTINEL


@pytest.mark.parametrize(
    ("flags", "found", "told"),
    [
        pytest.param(
            W, [val("1"), val("1"), val("2")], [[Value(val("1"))], [Value(val("1"))], [Value(val("2"))]], id="plain"
        ),
        pytest.param(W, [ENOENT], [[End(ENOENT)]], id="missing"),
        pytest.param(W, [val("1"), ENOENT, val("2")], [[Value(val("1"))], [End(ENOENT)]], id="unlinked"),
        pytest.param(
            W | FLUX_KVS_WATCH_UNIQ,
            [val("1"), val("1"), val("2"), val("1")],
            [[Value(val("1"))], [], [Value(val("2"))], [Value(val("1"))]],
            id="uniq",
        ),
        pytest.param(
            W | FLUX_KVS_WATCH_UNIQ,
            [val("1"), b'{"ver":1,"type":"val","data":"1"}'],
            [[Value(val("1"))], []],
            id="uniq, other order of members",
        ),
        pytest.param(FULL, [val("1"), val("1"), ENOENT], [[Value(val("1"))], [], [End(ENOENT)]], id="full"),
        pytest.param(WC, [ENOENT, ENOENT, val("1"), val("2")], [[], [], [Value(val("1")), Done()]], id="waitcreate"),
        pytest.param(WC, [EISDIR], [[End(EISDIR)]], id="waitcreate, directory"),
        pytest.param(
            W | WC,
            [ENOENT, val("1"), val("2"), ENOENT],
            [[], [Value(val("1"))], [Value(val("2"))], [End(ENOENT)]],
            id="both",
        ),
        pytest.param(FULL | WC, [ENOENT, ENOENT, val("1")], [[], [], [Value(val("1"))]], id="waitcreate and full"),
        pytest.param(0, [val("1")], [[Value(val("1")), Done()]], id="no flags: answered once"),
        pytest.param(FLUX_KVS_READDIR, [ENOENT], [[End(ENOENT)]], id="no flags: error"),
        pytest.param(APPEND, [val("1")], [[Value(val("1"))]], id="append: value"),
        pytest.param(
            APPEND,
            [val("1"), valref("a", "b"), valref("a", "b", "c", "d"), valref("a", "b", "c", "e")],
            [[Value(val("1"))], [Blob("b")], [Blob("c"), Blob("d")], []],
            id="append: grows",
        ),
        pytest.param(
            APPEND, [valref("a", "b"), val("1")], [[Blob("a"), Blob("b")], [OVERWRITTEN]], id="append: overwritten"
        ),
        pytest.param(APPEND, [val("1"), val("1")], [[Value(val("1"))], [OVERWRITTEN]], id="append: written again"),
        pytest.param(
            APPEND | FLUX_KVS_WATCH_FULL, [val("1"), val("1")], [[Value(val("1"))], []], id="append: another key"
        ),
        pytest.param(
            APPEND, [valref("a", "b"), valref("a")], [[Blob("a"), Blob("b")], [SHORTENED]], id="append: shorter"
        ),
        pytest.param(
            APPEND, [DIRREF], [[End(EISDIR, "dirref cannot be watched with WATCH_APPEND")]], id="append: directory"
        ),
        pytest.param(
            APPEND, [SYMLINK], [[End(EINVAL, "symlink cannot be watched with WATCH_APPEND")]], id="append: link"
        ),
        pytest.param(
            SENTINEL,
            [valref("a"), valref("a", "b")],
            [[Blob("a"), Sentinel()], [Blob("b")]],
            id="sentinel after the data",
        ),
        pytest.param(SENTINEL | WC, [ENOENT, val("1")], [[Sentinel()], [Value(val("1"))]], id="sentinel without data"),
        pytest.param(SENTINEL, [ENOENT], [[End(ENOENT)]], id="no sentinel after an error"),
        pytest.param(STREAM, [valref("a", "b")], [[Blob("a"), Blob("b"), End(errno.ENODATA)]], id="stream"),
        pytest.param(STREAM, [val("1")], [[Value(val("1")), End(errno.ENODATA)]], id="stream: value"),
        pytest.param(STREAM, [ENOENT], [[End(ENOENT)]], id="stream: missing"),
        pytest.param(STREAM, [DIRREF], [[End(EISDIR, "dirref cannot be streamed")]], id="stream: directory"),
        pytest.param(STREAM, [SYMLINK], [[End(EINVAL, "symlink cannot be streamed")]], id="stream: link"),
        pytest.param(
            STREAM | WC, [ENOENT, valref("a")], [[], [Blob("a"), End(errno.ENODATA)]], id="stream: when it is created"
        ),
        pytest.param(W, [NO_NAMESPACE], [[End(NO_NAMESPACE)]], id="no namespace"),
        pytest.param(W | WC, [NO_NAMESPACE], [[]], id="no namespace yet"),
        pytest.param(W | WC, [errno.EPERM], [[End(errno.EPERM)]], id="not allowed"),
    ],
)
def test_answers_to_a_series_of_lookups(flags: int, found: list[bytes | int], told: list[list[Answer]]) -> None:
    assert run(flags, *found) == told


@given(st.integers(0, 7), st.randoms(use_true_random=False))
def test_outcomes_count_in_the_order_of_the_commits_whatever_the_order_they_come_in(
    number: int, shuffle: random.Random
) -> None:
    it = watcher(W)
    tickets = [(it.announce(first=seq == 0), Outcome(seq, val(str(seq)))) for seq in range(number)]
    in_order = [Value(outcome.treeobj or b"") for _, outcome in tickets]
    shuffle.shuffle(tickets)
    assert [answer for ticket, outcome in tickets for answer in it.settle(ticket, outcome)] == in_order


def test_a_commit_that_the_first_lookup_has_seen_is_not_told_again() -> None:
    it = watcher(W)
    first, second, third = it.announce(first=True), it.announce(), it.announce()
    assert it.settle(second, Outcome(5, val("5"))) == []
    assert it.settle(first, Outcome(5, val("5"))) == [Value(val("5"))]
    assert it.settle(third, Outcome(6, val("6"))) == [Value(val("6"))]


def test_the_end_of_the_namespace_comes_after_what_was_under_way() -> None:
    it = watcher(W)
    first = it.announce(first=True)
    assert it.removed() == []
    assert it.settle(first, Outcome(1, val("1"))) == [Value(val("1")), End(NO_NAMESPACE)]
    assert it.ended


def test_a_namespace_that_comes_into_being_is_looked_at_from_its_first_version() -> None:
    it = watcher(W | WC)
    assert it.settle(it.announce(first=True), Outcome(-1, errnum=NO_NAMESPACE)) == []
    assert it.no_namespace
    assert it.settle(it.announce(first=True), Outcome(0, errnum=ENOENT)) == []
    assert it.settle(it.announce(), Outcome(1, val("1"))) == [Value(val("1"))]


STREAMING = FLUX_MSGFLAG_STREAMING


@pytest.mark.parametrize(
    ("flags", "message_flags", "error", "text"),
    [
        (W, 0, errno.EPROTO, "KVS watch request rejected without streaming RPC flag"),
        (STREAM, 0, errno.EPROTO, "KVS stream request rejected without streaming RPC flag"),
        (W | STREAM, STREAMING, EINVAL, "Cannot KVS watch and stream at the same time"),
        (FLUX_KVS_WATCH_UNIQ, STREAMING, EINVAL, "Must set KVS watch flag with other watch flags"),
        (FLUX_KVS_WATCH_FULL | WC, 0, EINVAL, "Must set KVS watch flag with other watch flags"),
        (
            W | FLUX_KVS_WATCH_INITIAL_SENTINEL,
            STREAMING,
            EINVAL,
            "Must set KVS watch append flag with initial sentinel flag",
        ),
    ],
)
def test_flags_that_do_not_go_together(flags: int, message_flags: int, error: int, text: str) -> None:
    with pytest.raises(OSError, match=text) as info:
        check_flags(flags, message_flags)
    assert info.value.errno == error


@pytest.mark.parametrize("flags", [0, WC, FLUX_KVS_TREEOBJ, FLUX_KVS_READDIR | WC, 1 << 20])
def test_flags_that_need_no_stream(flags: int) -> None:
    check_flags(flags, 0)
    assert watcher(flags).lasting == bool(flags & WC)
