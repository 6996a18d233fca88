"""The service `log`: what the recording broker-log does not show."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, receive, tell, until
from linked import LinkedInstance

import flux
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING, FLUX_RPC_STREAMING

FOLLOW = {"follow": True, "nobacklog": True}


def texts(handle: flux.Flux) -> list[str]:
    """The messages of the ring, without their heads."""
    future = handle.rpc("log.dmesg", {"follow": False}, flags=FLUX_RPC_STREAMING)
    found = []
    while not future.wait_for().error_string():
        found.append((future.get_str() or "").partition(" - - ")[2])
        future.reset()
    assert error_of(future.get)[0] == errno.ENODATA
    return found


def test_what_a_handle_logs_comes_out_in_order(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    handle.rpc("log.clear").get()
    handle.log(6, "one\ntwo\n")
    handle.log(7, "drei ƒ")
    assert texts(handle) == ["one", "two", "drei ƒ"]


def test_append_is_answered_if_it_has_a_matchtag(handle: flux.Flux) -> None:
    assert outcome(ask(handle, "log.append", b"anything", matchtag=5)) == (0, None)
    assert outcome(ask(handle, "log.append", None, matchtag=6)) == (0, None)
    tell(handle, "log.append", b"anything")
    assert ask(handle, "log.clear", matchtag=7).aux2 == 7


def test_guests_have_no_business_with_the_log(handle: flux.Flux) -> None:
    for topic in ("log.append", "log.dmesg", "log.clear", "log.stats-get", "log.setattr"):
        assert ask(handle, topic, None, **GUEST, flags=FLUX_MSGFLAG_STREAMING).aux1 == errno.EPERM


def test_followers_hear_what_comes(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    handle.log(6, "before")
    tell(handle, "log.dmesg", FOLLOW, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
    with broker_thread.open() as other:
        other.log(6, "after")
        assert (receive(handle).payload_str or "").endswith(" - - after")


@pytest.mark.parametrize(("matchtag", "by_other"), [(4, False), (3, True)])
def test_cancel_ends_only_the_senders_own_stream(
    broker_thread: BrokerThread, handle: flux.Flux, matchtag: int, by_other: bool
) -> None:
    tell(handle, "log.dmesg", FOLLOW, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
    with broker_thread.open() as other:
        canceler = other if by_other else handle
        tell(canceler, "log.cancel", {"matchtag": matchtag}, flags=FLUX_MSGFLAG_NORESPONSE)
        canceler.attr_get("rank")
    handle.log(6, "still here")
    assert (receive(handle).payload_str or "").endswith("still here")
    tell(handle, "log.cancel", {"matchtag": 3}, flags=FLUX_MSGFLAG_NORESPONSE)
    end = receive(handle)
    assert (end.aux1, end.aux2, end.raw) == (errno.ENODATA, 3, None)


def test_cancel_says_that_it_has_no_answer(handle: flux.Flux) -> None:
    assert ask(handle, "log.cancel", {"matchtag": 1}).aux1 == errno.EPROTO


def test_a_client_that_goes_follows_no_more(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    service = broker_thread.broker.modules["log"].instance
    with broker_thread.open() as other:
        tell(other, "log.dmesg", FOLLOW, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
        other.attr_get("log-stderr-level")
        assert broker_thread.call(lambda: len(service.followers)) == 1  # type: ignore[union-attr]
    until(lambda: broker_thread.call(lambda: len(broker_thread.broker.clients.all)) == 1)
    assert broker_thread.call(lambda: len(service.followers)) == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("payload", [None, "x", {}, {"follow": 1}])
def test_bad_dmesg_requests(handle: flux.Flux, payload: object) -> None:
    assert ask(handle, "log.dmesg", payload, flags=FLUX_MSGFLAG_STREAMING).aux1 == errno.EPROTO


def test_dmesg_is_a_stream(handle: flux.Flux) -> None:
    assert ask(handle, "log.dmesg", FOLLOW).aux1 == errno.EPROTO


def test_statistics(handle: flux.Flux) -> None:
    before = handle.rpc("log.stats-get").get()
    handle.log(7, "mine")
    tell(handle, "log.append", b"nobody's")
    handle.rpc("log.clear").get()
    after = handle.rpc("log.stats-get").get()
    assert after == {
        "ring-used": 0,
        "count": before["count"] + 1,
        "local": before["local"] + 1,
        "remote": before["remote"] + 1,
    }


def test_setattr(handle: flux.Flux) -> None:
    assert ask(handle, "log.setattr", {"name": "log-stderr-level", "value": "5"}).aux1 == 0
    assert handle.attr_get("log-stderr-level") == "5"
    answer = ask(handle, "log.setattr", {"name": "log-stderr-level", "value": "8"})
    assert outcome(answer) == (errno.EINVAL, "invalid level")
    answer = ask(handle, "log.setattr", {"name": "rank", "value": "8"})
    assert outcome(answer) == (errno.EINVAL, "unknown log attribute")


def test_errors_of_a_leaf_show_on_rank_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    instance = LinkedInstance(str(tmp_path), 0, 1)
    instance.start()
    try:
        with flux.Flux(f"local://{tmp_path}/local-2") as leaf, flux.Flux(f"local://{tmp_path}/local-0") as root:
            leaf.log(3, "bad news")
            leaf.log(6, "no news")
            for rank, counts in ((2, "local"), (1, "remote"), (0, "remote")):
                until(lambda rank=rank, counts=counts: root.rpc("log.stats-get", nodeid=rank).get()[counts] > 0)
            assert [text for text in texts(leaf) if "news" in text] == ["bad news", "no news"]
            assert not any("news" in text for text in texts(root))
    finally:
        instance.stop()
    shown = capsys.readouterr().err
    assert shown.count(".err[2]: bad news") == 1
    assert "no news" not in shown


def test_messages_are_kept_as_they_came(handle: flux.Flux) -> None:
    handle.rpc("log.clear").get()
    text = "<48>1 2026-11-22T02:16:18.213975Z 0 app 1 - - " + json.dumps({"a": "line\none"})
    tell(handle, "log.append", text.encode())
    assert handle.rpc("log.dmesg", {"follow": False}, flags=FLUX_RPC_STREAMING).get_str() == text
