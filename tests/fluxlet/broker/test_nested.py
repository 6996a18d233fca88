"""What an instance that is a job says to the one around it: as the reference (vectors/broker-nested)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_instance import Instance, recording
from in_process import error_of

from flux.brokermod import request_handler
from flux.job.JobID import JobID
from flux.message import Message
from fluxlet.broker.nested import critical_nodes, introduce
from fluxlet.service import Service

SAID = recording("broker-nested", 0)


class JobManager(Service):
    """Takes memos."""

    @request_handler("memo")
    def memo(self, msg: Message) -> None:
        self.answer(msg)


class JobExec(Service):
    """Takes critical ranks."""

    @request_handler("critical-ranks")
    def critical(self, msg: Message) -> None:
        self.answer(msg)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Instance]:
    running = Instance(str(tmp_path), {"job-manager": JobManager, "job-exec": JobExec})
    yield running
    running.stop()


def attributes(uri: str) -> dict[str, str]:
    memo = SAID[0]["payload"]
    return {
        "jobid": str(JobID(memo["id"])),
        "hostname": "vm",
        "local-uri": memo["memo"]["uri"].replace("ssh://vm", "local://"),
        "parent-uri": uri,
        "broker.critical-ranks": "0",
        "broker.mapping": "[[0,1,1,1]]",
        "size": "1",
    }


def test_it_says_what_the_reference_does(parent: Instance) -> None:
    introduce(attributes(parent.uri))
    assert parent.take() == SAID


def test_instance_that_has_no_use_for_critical_ranks(parent: Instance) -> None:
    parent.broker.unload("job-exec")
    introduce(attributes(parent.uri))


def test_instance_that_takes_no_memo(parent: Instance) -> None:
    parent.broker.unload("job-manager")
    assert error_of(lambda: introduce(attributes(parent.uri)))[0] == errno.ENOSYS


def test_critical_ranks_are_nodes_there() -> None:
    assert critical_nodes("0-3", "[[0,2,2,1]]", 4) == "0-1"
    assert critical_nodes("0,2", None, 4) == "0,2"
