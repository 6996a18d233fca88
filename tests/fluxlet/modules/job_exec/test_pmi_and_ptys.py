"""What tasks talk to the shell about: PMI; and terminals that clients attach to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from exec_player import JobPlayer, Played

import flux
from flux.constants import FLUX_RPC_STREAMING
from flux.core import fluid

VECTORS = Path(__file__).parents[3] / "vectors"

#: A PMI client: sends each line of its script that begins with >, prints what comes back.
CLIENT = """
import os, socket
sock = socket.socket(fileno=int(os.environ["PMI_FD"]))
file = sock.makefile("rw", encoding="utf-8", newline="\\n")
rank = os.environ["PMI_RANK"]
def ask(line):
    file.write(line.replace("RANK", rank) + "\\n"); file.flush()
    print(file.readline(), end="", flush=True)
"""


def client(*lines: str) -> list[str]:
    return [sys.executable, "-c", CLIENT + "".join(f"ask({line!r})\n" for line in lines)]


def test_tasks_exchange_their_keys(player: JobPlayer) -> None:
    probe = client("cmd=get_my_kvsname")
    name = player.output(player.run(probe)).strip().rpartition("=")[2]
    assert name.startswith(("ƒ", "f"))
    script = CLIENT + (
        "import re\n"
        "file.write('cmd=get_my_kvsname\\n'); file.flush(); name = file.readline().strip().rpartition('=')[2]\n"
        "ask(f'cmd=put kvsname={name} key=kRANK value=v a l RANK')\n"
        "ask('cmd=barrier_in')\n"
        "for other in range(3): ask(f'cmd=get kvsname={name} key=k{other}')\n"
        "ask(f'cmd=get kvsname={name} key=flux.taskmap')\n"
        "ask(f'cmd=get kvsname={name} key=PMI_process_mapping')\n"
        "ask(f'cmd=get kvsname={name} key=flux.instance-level')\n"
        "ask('cmd=finalize')\n"
    )
    job = player.run([sys.executable, "-c", script], slots=3)
    for rank in range(3):
        assert player.output(job, rank=rank).splitlines() == [
            "cmd=put_result rc=0",
            "cmd=barrier_out rc=0",
            "cmd=get_result rc=0 value=v a l 0",
            "cmd=get_result rc=0 value=v a l 1",
            "cmd=get_result rc=0 value=v a l 2",
            'cmd=get_result rc=0 value={"version":1,"map":[[0,1,3,1]]}',
            "cmd=get_result rc=0 value=(vector,(0,1,3))",
            "cmd=get_result rc=0 value=1",
            "cmd=finalize_ack rc=0",
        ]


def test_who_speaks_no_pmi_ends_the_job_and_loses_no_output(player: JobPlayer) -> None:
    job = player.run([sys.executable, "-c", "print('before', flush=True)" + CLIENT + "ask('hello')\n"])
    assert job.status == 256
    assert player.raised[-1]["note"] == "PMI-1 wire protocol error"
    assert player.output(job) == "before\n"


def test_a_bad_option_of_pmi_ends_the_job_that_uses_it(player: JobPlayer) -> None:
    job = player.run(client("cmd=get_maxes"), {"pmi-simple": {"exchange": {"k": 0}}})
    assert job.status == 256
    assert player.raised[-1]["note"] == "invalid value for option pmi-simple.exchange.k: 0"


def test_abort_raises_an_exception(player: JobPlayer) -> None:
    job = player.run(client("cmd=abort exitcode=3 error_msg=went wrong"))
    assert player.raised[-1]["note"] == "PMI_Abort: went wrong"
    assert "finish" in job.kinds


# Terminals.


class Terminal:
    """A client of a job's terminal."""

    def __init__(self, player: JobPlayer, job: Played) -> None:
        self.player = player
        self.topic = f"{player.service(job)}.terminus.0"
        attach = {"type": "attach", "mode": "rw", "winsize": {"rows": 40, "cols": 100}}
        self.messages: list[dict[str, Any]] = []
        self.errnum = 0
        self._rpc = flux.rpc.RPC(player.handle, self.topic, attach, 0, FLUX_RPC_STREAMING)
        self._rpc._state.add_hook(self._answered)

    def _answered(self) -> None:
        state = self._rpc._state
        if state.errnum:
            self.errnum = state.errnum
            return
        self.messages.append(json.loads(state.value.payload_str))
        state.reset()

    def ask(self, **payload: Any) -> None:
        self.player.handle.rpc(self.topic, payload, 0).get()

    @property
    def text(self) -> str:
        return "".join(message["data"] for message in self.messages if message["type"] == "data")


def test_a_client_at_the_terminal(player: JobPlayer) -> None:
    """As recorded (exec-job-pty-attach)."""
    script = "tty; stty size; read line; echo got $line; exit 3"
    job = player.start(["sh", "-c", script], {"pty": {"interactive": 1}})
    player.started(job)
    player.until(lambda: "shell.init" in player.lookup(f"{fluid.kvs(job.id)}.guest.exec.eventlog"))
    init = next(event["context"] for event in player.events(job) if event["name"] == "shell.init")
    assert (init["pty"], "capture" in init) == ("terminus.0", False)
    terminal = Terminal(player, job)
    player.until(lambda: terminal.text.count("\r\n") >= 2)
    assert terminal.messages[0] == {"type": "attach"}
    terminal.ask(type="data", data="hello\r")
    player.wait(job)
    player.until(lambda: terminal.errnum)
    assert job.status == 3 << 8
    assert terminal.text.startswith("/dev/")
    assert terminal.text.endswith("hello\r\ngot hello\r\n")
    assert terminal.messages[-1] == {"type": "exit", "message": "session exiting", "status": 768}
    assert player.output(job) == ""


def test_the_size_of_a_terminal(player: JobPlayer) -> None:
    job = player.start(["sh", "-c", "read line; stty size"], {"pty": {"interactive": 1}})
    player.started(job)
    terminal = Terminal(player, job)
    terminal.ask(type="resize", winsize={"rows": 11, "cols": 22})
    terminal.ask(type="data", data="\r")
    player.wait(job)
    assert "11 22\r\n" in terminal.text
    with pytest.raises(OSError, match="No service matching"):
        terminal.ask(type="data", data="x")


def test_a_terminal_without_client_waits_until_the_job_is_canceled(player: JobPlayer) -> None:
    job = player.start(["true"], {"pty": {"interactive": 1}})
    player.started(job)
    listing = player.handle.rpc(f"{player.service(job)}.terminus.list", {}, 0).get()
    assert [session["id"] for session in listing["sessions"]] == [0]
    assert not job.released
    player.exception(job.id)
    assert player.wait(job).released


def test_what_a_terminal_shows_can_be_captured(player: JobPlayer) -> None:
    job = player.run(["sh", "-c", "tty >/dev/null && echo a terminal; stty size"], {"pty": 1})
    assert (job.status, player.output(job)) == (0, "a terminal\r\n25 80\r\n")
    eofs = [e["context"]["stream"] for e in player.events(job, "output") if e.get("context", {}).get("eof")]
    assert sorted(eofs) == ["stderr", "stdout"]


def test_bad_terminal_messages_are_refused(player: JobPlayer) -> None:
    job = player.start(["sleep", "60"], {"pty": {"interactive": 1}})
    player.started(job)
    topic = f"{player.service(job)}.terminus.0"
    for bad in (
        {},
        {"type": "nosuch"},
        {"type": "attach"},
        {"type": "resize", "winsize": {"rows": -1, "cols": 1}},
        {"type": "resize"},
    ):
        with pytest.raises(OSError, match=r"terminal|attach"):
            player.handle.rpc(topic, bad, 0).get()
    player.exception(job.id)
    player.wait(job)


def test_the_process_table(player: JobPlayer) -> None:
    job = player.start(["sleep", "60"], slots=2)
    player.started(job)
    table = player.handle.rpc(f"{player.service(job)}.proctable", {}, 0).get()
    assert (table["ids"], table["executables"]) == ([[0, 1]], [["sleep", [[-1, -1]]]])
    player.exception(job.id)
    player.wait(job)


def test_processes_beside_the_tasks(player: JobPlayer) -> None:
    """What `flux exec --jobid` and debuggers use; they end with the tasks."""
    job = player.start(["cat"])
    player.started(job)
    service = player.service(job)
    assert player.handle.rpc(f"{service}.rexec.list", {}, 0).get() == {"rank": 0, "procs": []}  # as recorded
    command = {"cmdline": ["sh", "-c", "echo $FLUX_JOB_ID; exec sleep 600"], "env": {}, "opts": {}, "channels": []}
    messages: list[Any] = []
    rpc = flux.rpc.RPC(player.handle, f"{service}.rexec.exec", {"cmd": command, "flags": 3, "local_flags": 0}, 0, 2)
    state = rpc._state

    def answered() -> None:
        messages.append(state.errnum or json.loads(state.value.payload_str))
        if not state.errnum:
            state.reset()

    state.add_hook(answered)
    player.until(lambda: any(isinstance(m, dict) and m["type"] == "output" for m in messages))
    assert messages[0]["type"] == "started"
    assert messages[1]["io"]["data"] == f"{fluid.f58(job.id)}\n"
    procs = player.handle.rpc(f"{service}.rexec.list", {}, 0).get()["procs"]
    assert [proc["pid"] for proc in procs] == [messages[0]["pid"]]
    player.handle.rpc(f"{service}.stdin", {"stream": "stdin", "rank": "all", "eof": True}, 0).get()
    player.wait(job)
    assert job.status == 0
    player.until(lambda: messages[-1] == 61)
    assert messages[-2] == {"type": "finished", "status": 15} or {"type": "finished", "status": 15} in messages
