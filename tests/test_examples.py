"""The programs in examples/ run as their first line says, and print what their readers are promised."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLUX = Path(sys.executable).parent / "flux"

PRINTED = {
    "async_fanout": """\
100 answers, the last is {'number': 99, 'square': 9801}
100 calls were under way at the same time
given up: a call that would have taken a minute
and one more: {'number': 12, 'square': 144}
""",
    "echo_service": """\
said: {'text': 'hello'}
counted: [1, 2, 3, 4, 5]
refused: echo.count needs an integer: to
""",
    "exec_everywhere": """\
0: HELLO FROM 0
1: HELLO FROM 1
2: HELLO FROM 2
3: HELLO FROM 3
rank 3 said b'ready\\n' and left with 3
echoed: ('stdout', b'are you there?\\n')
""",
    "jobs_any_order": """\
hare has arrived
tortoise has arrived
there are no more waitable jobs
""",
    "jobs_bulk": """\
200 jobs, ids in order: True
200 completed
""",
    "jobs_cancel": """\
running: CANCELED, not needed any more, return code 143
held: CANCELED, not needed any more, return code -128
prepared: exit code 7
""",
    "jobs_ensemble": """\
prepare: COMPLETED
member-0: COMPLETED
member-1: COMPLETED
member-2: COMPLETED
member-3: FAILED
report: COMPLETED
collect: FAILED (dependency)
""",
    "jobs_executor": """\
exec: No such file or directory
exit codes [0, 1, 2, 3]; 4 were seen to start
""",
    "kvs_follow": """\
step 1 of 3: 1
step 2 of 3: 4
step 3 of 3: 9
the other program: left 3 results: 9 is the last
""",
    "kvs_results": """\
left 3 results: 9 is the last
""",
    "jobs_in_order": """\
exit 0: success
sleep 0.2: success
exit 3: task(s) exited with exit code 3
kill -9 $$: task(s) Killed
""",
    "jobs_kvs": """\
{'number': 1, 'square': 1}
{'number': 2, 'square': 4}
{'number': 3, 'square': 9}
{'number': 4, 'square': 16}
sum: 30
""",
    "jobs_nested": """\
all: COMPLETED; at level 1, 4 of 4 steps succeeded
some: COMPLETED; at level 1, 2 of 4 steps succeeded
a job of that instance: COMPLETED
it is a job itself: True
and that has ended: CANCELED
""",
    "jobs_plugin": """\
refused: project must be one of moon, mars, not sun
{'priority': 10}
{'priority': 20}
['submit', 'dependency-add', 'validate', 'dependency-remove']
COMPLETED
3 jobs have ended
""",
    "jobs_sliding_window": """\
20 jobs, never more than 4 at a time
""",
    "jobs_status": """\
alloc
start
finish
clean
hello from 0
greeting S held
greeting CD Exit 0
1 successful, 1 pending
""",
    "jobs_synchronized": """\
consumer.ready
producer COMPLETED
consumed a
consumed b
consumed c
consumer COMPLETED
""",
    "jobs_watch": """\
1: 1 squared is 1
2: 2 squared is 4
3: 3 squared is 9
4: (no) four!
the worst exit code: 4
""",
    "ticker": """\
ticker.tick {'number': 1}
ticker.tick {'number': 2}
ticker.tick {'number': 3}
the reactor ended with 0 watchers left
""",
}

#: Those that want more than one.
RANKS = {"exec_everywhere": 4}


def run(name: str) -> subprocess.CompletedProcess[str]:
    """Runs an example in an instance of its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))}
    ranks = [f"--test-size={RANKS[name]}"] if name in RANKS else []
    command = [str(FLUX), "start", *ranks, sys.executable, str(ROOT / "examples" / f"{name}.py")]
    return subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", PRINTED)
def test_example_prints_what_it_promises(name: str) -> None:
    done = run(name)
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTED[name], "")


def test_tour_goes_through_all_its_steps() -> None:
    done = run("tour")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^== (.*)", done.stdout, flags=re.M) == [
        "connect",
        "log, and read it back",
        "call a service",
        "serve `tour.greet`, called from a second process",
        "events",
        "timers, descriptors and signals on one reactor",
        "a barrier of 4 processes",
        "the same under asyncio",
    ]
    assert done.stdout.endswith("That was the tour.\n")


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*PRINTED, "tour"}


@pytest.mark.parametrize("name", [*PRINTED, "tour"])
def test_example_says_how_to_run_it(name: str) -> None:
    text = (ROOT / "examples" / f"{name}.py").read_text()
    ranks = f"--test-size={RANKS[name]} " if name in RANKS else ""
    assert f"`flux start {ranks}python examples/{name}.py`" in text.split('"""')[1]
