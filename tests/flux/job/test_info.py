"""JobInfo: what is said of how jobs have ended."""

from __future__ import annotations

import pytest

from flux.constants import FLUX_JOB_RESULT_FAILED, FLUX_JOB_STATE_INACTIVE
from flux.job import JobInfo


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (7 << 8, 7, "Exit 7"),
        (137 << 8, 137, "Killed"),
        (193 << 8, 193, "Exit 193"),
        (255 << 8, 255, "Exit 255"),
        (9, -9, "Exit -9"),
        (100, -100, "Exit -100"),
        (127, -127, "Exit -127"),
    ],
)
def test_every_wait_status_there_can_be(status: int, code: int, reason: str) -> None:
    facts = {"id": 1, "state": FLUX_JOB_STATE_INACTIVE, "result": FLUX_JOB_RESULT_FAILED, "waitstatus": status}
    info = JobInfo(facts)
    assert info.returncode == code
    assert info.inactive_reason == reason


def test_attributes_are_also_where_flux_core_keeps_them() -> None:
    info = JobInfo({"id": 1, "nnodes": 2, "exception_occurred": True, "exception_note": "oops"})
    assert (info._nnodes, info._nodelist, info._exception.note) == (2, "", "oops")
    with pytest.raises(AttributeError):
        _ = info._nope
