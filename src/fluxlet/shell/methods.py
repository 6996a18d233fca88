"""The service of a job's shell (spec 07, 5.9): what clients and other shells may ask."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_MSGFLAG_NORESPONSE
from flux.core.codec import load_text
from flux.message import Message
from fluxlet.shell import events
from fluxlet.shell.proctable import Entry, encode

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.shell.job import Job


def _value(msg: Message) -> Any:
    text = msg.text_bytes()
    if text is None:
        return {}
    try:
        return load_text(text)
    except ValueError as exc:
        raise OSError(errno.EPROTO, f"payload is not JSON: {exc}") from None


def _object(msg: Message) -> dict[str, Any]:
    value = _value(msg)
    if not isinstance(value, dict):
        raise OSError(errno.EPROTO, "payload is not a JSON object")
    return value


def serve(job: Job, method: str, msg: Message) -> None:
    """Serves a request for the job's service. Raises OSError for the answer, ENOSYS for an unknown method."""
    handler = _METHODS.get(method)
    if handler is not None:
        handler(job, msg)
    elif method.startswith("rexec."):
        job.subprocesses.serve(method.removeprefix("rexec."), msg)
    elif method.startswith("terminus."):
        _terminus(job, method.removeprefix("terminus."), msg)
    elif job.leader and method in _OF_LEADER:
        _OF_LEADER[method](job, msg)
    else:
        raise OSError(errno.ENOSYS, f"Unknown service method '{msg.topic}'")


def _answer(job: Job, msg: Message, value: Any = None) -> None:
    if not msg.flags & FLUX_MSGFLAG_NORESPONSE:
        job.server.connection.answer(msg, None if value is None else events.payload(value))


def _own_entries(job: Job) -> list[Entry]:
    return [Entry(job.hostname, job.program, task.rank, task.pid, job.rank) for task in job.tasks if task.pid]


def _proctable(job: Job, msg: Message) -> None:
    """The leader's table has the tasks of all ranks, that of another shell its own."""
    found = _own_entries(job)
    if _object(msg).get("plain"):
        _answer(job, msg, {"entries": found})
        return
    left = set(job.duties.followers) if job.duties is not None else set()
    if not left:
        _answer(job, msg, encode(found))
        return

    def ask(shell: int) -> None:
        def answered(state: RpcState) -> None:
            left.discard(shell)
            if not state.errnum:  # else it has just ended
                found.extend(Entry(*entry) for entry in load_text(state.value.text_bytes() or b"{}")["entries"])
            if not left:
                _answer(job, msg, encode(found))

        topic = f"{job.service}.proctable".encode()
        job.server.connection.ask(topic, events.payload({"plain": True}), answered, job.layout.nodes[shell].rank)

    for shell in tuple(left):
        ask(shell)


def _disconnect(job: Job, msg: Message) -> None:
    for terminal in job.terminals:
        terminal.gone(msg)
    if job.has_subprocesses:
        job.subprocesses.serve("disconnect", msg)


def _input(job: Job, msg: Message) -> None:
    """From the leader: stdin for tasks of this rank, which the leader has checked."""
    from binascii import a2b_base64

    from flux.idset import IDset

    value = _object(msg)
    text, ranks = value.get("data", ""), value.get("rank")
    if not isinstance(text, str) or not isinstance(ranks, str):
        raise OSError(errno.EPROTO, "bad input")
    try:
        data = text.encode("utf-8", "surrogateescape")
        if value.get("encoding") == "base64":
            data = a2b_base64(data)
        chosen = None if ranks == "all" else frozenset(IDset(ranks))
    except ValueError:
        raise OSError(errno.EPROTO, "bad input") from None
    job.feed(chosen, data, bool(value.get("eof")))


def _pmi_exchange(job: Job, msg: Message) -> None:
    items = _object(msg)
    job.pmi.child(msg, {key: value for key, value in items.items() if isinstance(value, str)})


def _terminus(job: Job, name: str, msg: Message) -> None:
    if name == "list":
        from fluxlet.shell.pty import listing

        _answer(job, msg, listing(job.terminals, job.service, job.server.rank, job.created))
        return
    for terminal in job.terminals:
        if name == str(terminal.index):
            terminal.request(msg, _value(msg))
            return
    raise OSError(errno.ENOSYS, f"Unknown service method '{msg.topic}'")


# Of the leader.


def _stdin(job: Job, msg: Message) -> None:
    job.need_leader().stdin(_value(msg))
    _answer(job, msg)


def _write(job: Job, msg: Message) -> None:
    """From a follower: an entry of the output."""
    value = _object(msg)
    context = value.get("context")
    if not isinstance(context, dict):
        raise OSError(errno.EPROTO, "bad output")
    job.written(value.get("name"), context)


def _getcredit(job: Job, msg: Message) -> None:
    credits = _object(msg).get("credits")
    if type(credits) is not int:
        raise OSError(errno.EPROTO, "credits: an integer is expected")
    job.when_drained(lambda: _answer(job, msg, {"credits": credits}))


def _doom(job: Job, msg: Message) -> None:
    job.need_leader().doom(_object(msg), job.hostname)
    _answer(job, msg)


def _tasks_complete(job: Job, msg: Message) -> None:
    shell = _object(msg).get("shell_rank")
    if type(shell) is not int:
        raise OSError(errno.EPROTO, "shell_rank: an integer is expected")
    job.need_leader().tasks_complete(shell)
    _answer(job, msg)
    job.check()


def _exception(job: Job, msg: Message) -> None:
    value = _object(msg)
    kind, severity = value.get("type"), value.get("severity")
    shell, message = value.get("shell_rank"), value.get("message", "")
    if not isinstance(kind, str) or type(severity) is not int or type(shell) is not int or not isinstance(message, str):
        raise OSError(errno.EPROTO, "bad exception")
    if kind == "lost-shell":
        job.need_leader().lost(shell, severity, message)
    else:
        job.log(4, f"exception: {message}")
    _answer(job, msg)
    job.check()


_METHODS: dict[str, Callable[[Job, Message], None]] = {
    "proctable": _proctable,
    "disconnect": _disconnect,
    "input": _input,
    "pmi-exchange": _pmi_exchange,
}
_OF_LEADER: dict[str, Callable[[Job, Message], None]] = {
    "stdin": _stdin,
    "write": _write,
    "write-getcredit": _getcredit,
    "doom": _doom,
    "tasks-complete": _tasks_complete,
    "exception": _exception,
}


def allowed(job: Job, msg: Message) -> bool:
    """Whether the sender may use the job's service: its owner, and the instance's."""
    return bool(msg.rolemask & 1) or msg.userid in (job.userid, os.getuid())
