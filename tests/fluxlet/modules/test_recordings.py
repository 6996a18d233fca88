"""What clients of the reference said and heard, said again to our services.

Each file in VECTORS is one recording of several connections: requests are sent as recorded, and what the broker
sends back must be what it sent then, but for what differs from run to run (`service_recordings`) and where we mean to
do better.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from service_recordings import Deviation, records, replay

#: Of what other services get and send, which these are without: see test_module_load.
ELSEWHERE = {"module.trace"}

CONFIG = {"heartbeat": {"period": "3s"}, "foo": {"i": 42, "dt": {"iso-8601-ts": "1979-05-27T07:32:00Z"}}}

AT_ONCE = "at one rank groups change at once, not 0.1 s later"


@dataclass
class Case:
    """How a recording is replayed: the configuration, and where we differ."""

    config: dict[str, Any] | None = None
    deviations: dict[int, Deviation] = field(default_factory=dict)


VECTORS = {
    "broker-attr": Case(),
    "broker-log": Case(),
    "broker-event": Case(),
    "broker-state": Case(),
    "broker-service": Case(),
    "broker-guest": Case(),
    "broker-misc": Case(),
    "broker-module": Case(),
    "broker-config": Case(CONFIG),
    "broker-ping": Case(),
    "broker-errors": Case(),
    "broker-runat": Case(),
    "broker-overlay": Case(),
    "broker-groups": Case(
        deviations={
            10: Deviation(AT_ONCE, payload={"members": "0"}),
            11: Deviation(AT_ONCE, absent=True),
            13: Deviation(AT_ONCE, extra={"members": ""}, request=9),
            17: Deviation(
                AT_ONCE, payload={"subtree": {"broker.torpid": "", "foo": "", "nosuch": "", "broker.online": "0"}}
            ),
        }
    ),
    "broker-proxy": Case(
        {"heartbeat": {"period": "0.3s"}},
        deviations={2: Deviation("the plain release", payload={"value": "0.88.0", "flags": 0})},
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_clients_hear_what_the_reference_said(
    name: str, start_broker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = VECTORS[name]
    # Recorded by root.
    settings = {"broker.starttime": "1795313779.38", "security.owner": "0"}
    if name == "broker-config":
        path = tmp_path / "config.json"
        path.write_text(json.dumps(CONFIG))
        settings["config.path"] = str(path)
    broker = start_broker(settings, case.config)
    with ExitStack() as stack:
        replay(records(name), lambda: stack.enter_context(broker.open()), ELSEWHERE.__contains__, case.deviations)


def test_all_recordings_are_about_services_that_answer() -> None:
    # A recording of which nothing is left would test nothing.
    for name in VECTORS:
        sent = [record for record in records(name) if record["topic"] not in ELSEWHERE]
        assert len(sent) >= 7, name


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
