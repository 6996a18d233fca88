"""What flux top shows of what it knows: pure."""

from __future__ import annotations

import pytest

from flux.cli.commands.top.picture import ASCII, Piece, Symbols, bar, cells, cut, header, line, summary, time_left
from flux.cli.commands.top.state import Amount, Counts, State
from flux.job.info import JobInfo
from flux.resource.list import SchedResourceList

CONFIG = {"queues": {"batch": {"requires": ["batch"]}, "debug": {"requires": ["debug"]}, "sub": {"parent": "batch"}}}


def row(pieces: list[Piece]) -> str:
    text = ""
    for piece in sorted(pieces):
        text = text[: piece.column].ljust(piece.column) + piece.text
    return text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Amount(0, 0, 8), "nodes [          0/8]"),
        (Amount(4, 0, 8), "nodes [|||||     4/8]"),
        (Amount(1, 1, 100), "nodes [|    |1/100]"),
        (Amount(8, 8, 8), "nodes [||||||||||8/8]"),
        (Amount(0, 8, 8), "nodes [||||||||||0/8]"),
        (Amount(0, 0, 0), "nodes [          0/0]"),
    ],
)
def test_bars(amount: Amount, text: str) -> None:
    assert " ".join(row(bar("nodes", amount, 21)).split()) == " ".join(text.split())


def test_a_bar_without_room_is_numbers() -> None:
    assert row(bar("gpus", Amount(1, 0, 2), 4)) == " gpus [1/2]"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3585.6, "59.76m⌚"), (90000.0, "1.04d⌚"), (7200.0, "2.00h⌚"), (1.5, "1.50s⌚"), (-3.0, "0.00s⌚")],
)
def test_the_time_that_is_left(seconds: float, text: str) -> None:
    assert time_left(seconds, Symbols()) == text
    assert time_left(seconds, ASCII) == text.removesuffix("⌚")


def test_texts_are_cut_by_the_columns_they_take() -> None:
    assert [cut("名前x", width) for width in range(6)] == ["", "", "名", "名", "名前", "名前x"]
    assert cut("a\x1b[2Jb\n", 10) == "a?[2Jb?"
    assert cells("e\u0301名") == 3


JOB = {
    "id": 1 << 40,
    "userid": 0,
    "state": 16,
    "name": "sim",
    "queue": "batch",
    "ntasks": 4,
    "nnodes": 2,
    "t_run": 10.0,
}


def test_jobs_have_a_column_for_queues_if_there_are_any() -> None:
    state, job = State(), JobInfo(JOB)
    assert header(state) == "       JOBID USER     ST NTASKS NNODES  RUNTIME NAME"
    assert line(state, job, 100.0) == f"{job.id.f58:>12} root      R      4      2     1.5m sim"
    state.take_config(CONFIG)
    assert header(state) == "       JOBID QUEUE    USER     ST NTASKS NNODES  RUNTIME NAME"
    assert line(state, job, 100.0).split() == [job.id.f58, "batch", "root", "R", "4", "2", "1.5m", "sim"]
    assert len(line(state, job, 100.0)) == len(header(state)) - 1


def resources() -> SchedResourceList:
    nodes = {
        "R_lite": [{"rank": "0-2", "children": {"core": "0-3"}}],
        "starttime": 0,
        "expiration": 0,
        "nodelist": ["n[0-2]"],
        "properties": {"batch": "0-1", "debug": "2"},
    }
    return SchedResourceList({"all": {"version": 1, "execution": nodes}, "down": None, "allocated": None})


def test_queues_are_gone_through_and_have_their_own_figures() -> None:
    state = State("debug")
    state.take_config(CONFIG)
    state.take_resources(resources())
    counts = {"successful": 0, "failed": 0, "canceled": 0, "timeout": 0, "inactive_purged": 0}
    states = dict.fromkeys(("depend", "priority", "sched", "run", "cleanup", "inactive", "total"), 0)
    whole = {**counts, "successful": 5, "canceled": 2, "job_states": {**states, "sched": 3}}
    state.take_stats({**whole, "queues": [{**counts, "job_states": {**states, "run": 1}, "name": "debug"}]})
    seen = []
    for _ in range(4):
        seen.append((state.queue, state.counts(), state.amounts()["cores"].total))
        state.next_queue(1)
    assert seen == [
        ("debug", Counts(0, 1, 0, 0), 4),
        ("sub", Counts(), 8),
        (None, Counts(3, 0, 5, 2), 12),
        ("batch", Counts(), 8),
    ]
    state.next_queue(-1)
    assert state.constraint() == {"and": [{"states": [48]}, {"queue": ["batch"]}]}


def test_a_queue_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="No such queue: nosuch"):
        State("nosuch").take_config(CONFIG)


@pytest.mark.parametrize("width", [1, 20, 80, 200])
def test_the_summary_has_six_lines_of_any_width(width: int) -> None:
    state = State()
    lines = summary(state, "ƒA/ƒB", True, width, 0.0, Symbols())
    assert len(lines) == 6
    assert all(piece.column >= 0 for pieces in lines for piece in pieces)
