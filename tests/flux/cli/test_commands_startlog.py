"""flux startlog (spec 03, 7.2 and 14.9)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_instance import Instance as CommandInstance
from command_instance import recording

from flux.cli.commands.startlog import line, runs
from flux.eventlog import EventLogEvent
from fluxlet.testing import Instance


def event(name: str, timestamp: float, **context: Any) -> EventLogEvent:
    return EventLogEvent({"timestamp": timestamp, "name": name, "context": {"version": 1, **context}})


def test_runs_are_told_from_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        event("start", 1000.0, core_version="0.87.0"),
        event("start", 2000.0, core_version="0.88.0"),
        event("finish", 2000.69),
        event("other", 2001.0, version=7),
        event("finish", 2002.0),
        event("start", 3000.0),
    ]
    found = runs(events)
    assert [(run.start, run.finish) for run in found] == [(1000.0, None), (2000.0, 2000.69), (3000.0, None)]
    monkeypatch.setenv("TZ", "UTC")
    assert [line(run, run is found[-1], 3000.21) for run in found] == [
        "1970-01-01 00:16 - crashed",
        "1970-01-01 00:33 - 1970-01-01 00:33 (0.69s)",
        "1970-01-01 00:50 - running (0.21s)",
    ]
    assert line(found[1], False, 0.0, version=True).startswith("                   0.88.0  1970-01-01 00:33 - ")
    assert line(found[2], False, 0.0, version=True).startswith("                  unknown  ")


def test_events_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^startlog event version 2 is not known"):
        runs([event("start", 1.0, version=2)])


def startlog(instance: Instance, *words: str) -> tuple[str, int]:
    done = instance.run(sys.executable, "-m", "fluxlet", "startlog", *words, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout, done.returncode


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, Any]:
    """Arguments of an instance whose state stays."""
    (tmp_path / "state").mkdir()
    return {"attributes": {"statedir": str(tmp_path / "state")}}


def test_starts_ends_and_crashes(kept: dict[str, Any]) -> None:
    minute = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    with Instance(**kept) as instance:
        assert startlog(instance, "--check")[1] == 0
    with Instance(**kept) as instance:
        output, code = startlog(instance, "--check")
        assert code == 0
        assert re.fullmatch(rf"{minute} - {minute} \(\S+s\)\n{minute} - running \(\S+s\)\n", output)
        instance.kill()
    with Instance(**kept) as instance:
        output, code = startlog(instance, "--check", "-v")
        assert code == 1
        assert re.search(rf"^ +0\.88\.\S+  {minute} - crashed\n.* - running \(\S+s\)\n\Z", output, flags=re.M)
        assert startlog(instance, "--check", "--quiet") == ("", 1)


def test_events_of_ones_own() -> None:
    with Instance() as instance:
        key = ("--test-startlog-key", "my.log")
        assert startlog(instance, *key) == ("", 0)
        startlog(instance, *key, "--post-start-event")
        startlog(instance, *key, "--post-finish-event")
        assert re.fullmatch(r"\S+ \S+ - \S+ \S+ \(\S+s\)\n", startlog(instance, *key)[0])
        startlog(instance, *key, "--post-start-event", "--test-startlog-version", "9")
        done = instance.run(
            sys.executable, "-m", "fluxlet", "startlog", *key, capture_output=True, text=True, check=False
        )
        text = "flux-startlog: startlog event version 9 is not known: this is for version 1\n"
        assert (done.stderr, done.returncode) == (text, 1)


def test_without_an_instance(tmp_path: Path) -> None:
    environ = {**os.environ, "FLUX_URI": f"local://{tmp_path}/nosuch"}
    done = subprocess.run(
        [sys.executable, "-m", "fluxlet", "startlog"], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.returncode) == ("flux: flux_open: No such file or directory\n", 1)


def test_requests_are_those_of_the_reference(instance: CommandInstance) -> None:
    for number, words in ((0, ()), (2, ("--post-finish-event",)), (3, ("--post-start-event",))):
        instance.take()
        assert instance.run("startlog", *words).returncode == 0
        # The reference asks for its rank first, to log in its name what goes wrong.
        wanted = [entry for entry in recording("broker-startlog", number) if entry["topic"] != "attr.get"]
        assert [without_data(entry) for entry in instance.take()] == [without_data(entry) for entry in wanted]


def without_data(entry: dict[str, Any]) -> dict[str, Any]:
    """A request without the text of its event, which has the time."""
    payload = entry["payload"]
    ops = [{**op, "dirent": {**op["dirent"], "data": ""}} for op in payload.get("ops", ())]
    return {**entry, "payload": {**payload, "ops": ops}}
