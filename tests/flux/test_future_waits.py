"""Futures: waits for several answers, continuations that are stopped, handles that are dropped."""

from __future__ import annotations

import gc
import warnings

import pytest

import flux
from flux.future import WaitAllFuture

pytest_plugins = ["linked_instance"]


def test_wait_for_answers_only_is_no_deadlock(rank0: str) -> None:
    handle = flux.Flux()
    both = WaitAllFuture()
    both.push(handle.rpc("broker.ping", {"n": 1}))
    both.push(handle.rpc("broker.ping", {"n": 2}, nodeid=1))
    assert both.get() is None
    assert [child.get()["rank"] for child in both.children] == [0, 1]


def test_wait_for_an_answer_that_does_not_come_in_time(rank0: str) -> None:
    service, handle = flux.Flux(), flux.Flux()
    service.service_register("never").get()
    both = WaitAllFuture()
    both.push(handle.rpc("never.x"))
    with pytest.raises(TimeoutError):
        both.wait_for(0.01)


def test_stopped_continuation_is_not_called_and_holds_no_loop(rank0: str) -> None:
    service, handle = flux.Flux(), flux.Flux()
    service.service_register("never").get()
    called: list[int] = []
    waiting = handle.rpc("never.x")
    waiting.then(lambda future: called.append(1))
    waiting.stop()
    assert handle.reactor_run() == 0
    answered = handle.rpc("broker.ping", {})
    answered.then(lambda future: called.append(2))
    answered.stop()
    assert answered.get()["rank"] == 0
    assert handle.reactor_run() == 0
    assert not called


def test_continuation_may_be_set_again_after_stop(rank0: str) -> None:
    handle = flux.Flux()
    called: list[int] = []
    future = handle.rpc("broker.ping", {})
    future.then(lambda future: called.append(1))
    future.stop()
    future.then(lambda future: called.append(2))
    assert handle.reactor_run() == 0
    assert called == [2]


def test_dropped_handle_is_closed_without_a_warning(rank0: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle = flux.Flux()
        assert handle.rpc("broker.ping", {}).get()["rank"] == 0
        del handle
        gc.collect()
