"""What holds for all tests, and their fixtures: real instances, and handles on them."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from started import StartedInstance

import flux

# The machines are shared: how long an example takes says nothing. Many more: --hypothesis-profile=nightly.
settings.register_profile("fluxlet", deadline=None, max_examples=50)
settings.register_profile("nightly", deadline=None, max_examples=1000)
settings.load_profile("fluxlet")

#: Files that take long, the longest first: they begin, so that no worker is left with one when the others are done.
LONG = [
    "tests/test_docs.py",
    "tests/sim/test_simulation.py",
    "tests/fluxlet/test_start.py",
    "tests/test_examples.py",
    "tests/flux/cli/test_command_job.py",
    "tests/flux/cli/test_command_jobs.py",
    "tests/fluxlet/test_fuzz.py",
    "tests/fluxlet/modules/test_kept_back.py",
    "tests/fluxlet/testing/test_plugin.py",
]

# Who runs us in the background, or by nohup, has us ignore signals, and all that tests start would do so as well.
for signum, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first; the tests of a file stay together, and in their order."""
    turn = {path: number for number, path in enumerate(LONG)}
    items.sort(key=lambda item: turn.get(item.nodeid.partition("::")[0], len(LONG)))


def pytest_collection_finish() -> None:
    """Thousands of tests are a lot to look through each time that garbage is collected, and none of it is any."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def instance_uri() -> Iterator[str]:
    """The URI of an instance of one broker, which all tests share: leave it as you have found it."""
    instance = StartedInstance()
    yield instance.uri
    instance.stop()


@pytest.fixture
def instance_handle(instance_uri: str) -> Iterator[flux.Flux]:
    """A connection to the shared instance, closed after the test."""
    with flux.Flux(instance_uri) as handle:
        yield handle


@pytest.fixture
def start_instance() -> Iterator[Callable[[], StartedInstance]]:
    """A function that starts an instance for this test alone: to be stopped, killed, or both left to us."""
    started: list[StartedInstance] = []

    def start() -> StartedInstance:
        started.append(StartedInstance())
        return started[-1]

    yield start
    for instance in started:
        instance.stop()
