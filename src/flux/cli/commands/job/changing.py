"""flux job: submit, urgency, raise, raiseall, kill, killall, memo, purge."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from flux.cli.commands.job.common import (
    Failure,
    duration,
    handle,
    jobid,
    number,
    show,
    signum,
    states,
    text_of,
    userid,
)
from flux.cli.options import Parsed
from flux.job._requests import wire_id
from flux.job.JobID import JobID

_URGENCIES = {"hold": 0, "default": 16, "expedite": 31}
_OLD = {0: "job held", 31: "job expedited"}
_FLAGS = {"debug": "debug", "waitable": "waitable", "novalidate": "novalidate", "signed": "pre_signed"}


def _say(text: str) -> None:
    print(f"flux-job: {text}", file=sys.stderr)


def submit_command(parsed: Parsed) -> int:
    """Submits a jobspec."""
    from flux.job.submit import submit

    flags: dict[str, bool] = {}
    for word in (word for words in parsed.values("flags") for word in words.split(",")):
        if word not in _FLAGS:
            raise Failure(f"unknown flag: {word}")
        flags[_FLAGS[word]] = True
    name = parsed.words[0] if parsed.words else "-"
    try:
        with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
            text = file.read()
    except OSError as exc:
        raise Failure(f"{name}: {exc.strerror}") from None
    if not text:
        raise Failure("required jobspec is empty")
    with handle() as h:
        try:
            show(str(submit(h, text, urgency=_urgency(parsed.value("urgency") or "16"), **flags)))
        except OSError as exc:
            raise Failure(text_of(exc)) from None
    return 0


def _urgency(word: str) -> int:
    value = _URGENCIES.get(word.lower())
    if value is not None:
        return value
    if not word.isdecimal():
        raise Failure(f'error parsing urgency: "{word}"')
    return int(word)


def urgency_command(parsed: Parsed) -> int:
    """Sets the urgency of a job."""
    word, wanted = parsed.words
    request = {"id": wire_id(jobid(word)), "urgency": _urgency(wanted)}
    with handle() as h:
        try:
            old = h.rpc("job-manager.urgency", request).get()["old_urgency"]
        except OSError as exc:
            raise Failure(f"{word}: {text_of(exc)}") from None
    if parsed.has("verbose"):
        print(f"old urgency: {_OLD.get(old, old)}", file=sys.stderr)
    return 0


def _ids_and_note(words: list[str]) -> tuple[list[tuple[str, JobID]], str | None]:
    """The leading words that are ids, and the rest of them."""
    ids: list[tuple[str, JobID]] = []
    for at, word in enumerate(words):
        try:
            ids.append((word, JobID(word)))
        except ValueError:
            rest = words[at + 1 :] if word == "--" else words[at:]
            return ids, " ".join(rest) if rest else None
    return ids, None


def raise_command(parsed: Parsed) -> int:
    """Raises an exception on jobs."""
    ids, note = _ids_and_note(parsed.words)
    if note is not None and parsed.has("message"):
        raise Failure("Do not set note on command line and with --message")
    note = parsed.value("message") if note is None else note
    request: dict[str, Any] = {
        "severity": number(parsed, "severity", 0),
        "type": parsed.value("type") or "cancel",
    }
    if note is not None:
        request["note"] = note
    return _each(ids, "job-manager.raise", request, "raise")


def _each(ids: list[tuple[str, JobID]], topic: str, request: dict[str, Any], what: str) -> int:
    """Sends a request for each of some jobs; the exit code."""
    status = 0
    with handle() as h:
        rpcs = [(word, h.rpc(topic, {"id": wire_id(target), **request})) for word, target in ids]
        for word, rpc in rpcs:
            try:
                rpc.get()
            except OSError as exc:
                _say(f"{what} {word}: {text_of(exc)}")
                status = 1
    return status


def _all(topic: str, request: dict[str, Any], force: bool, done: str) -> int:
    """Sends a request for all jobs that match."""
    with handle() as h:
        try:
            answer = h.rpc(topic, {"dry_run": not force, **request}).get()
        except OSError as exc:
            raise Failure(text_of(exc)) from None
    count, errors = answer["count"], answer["errors"]
    if count == 0:
        _say("Command matched 0 jobs")
    elif not force:
        _say(f"Command matched {count} jobs (-f to confirm)")
    else:
        _say(f"{done} {count} jobs ({errors} errors)")
    return 0


def raiseall_command(parsed: Parsed) -> int:
    """Raises an exception on all jobs that match."""
    kind, *note = parsed.words
    mask = states(parsed.value("states"), 62)
    if mask & 64:
        raise Failure("Exceptions cannot be raised on inactive jobs")
    request = {
        "userid": userid(parsed.value("user")),
        "states": mask,
        "severity": number(parsed, "severity", 7),
        "type": kind,
        "note": " ".join(note),
    }
    return _all("job-manager.raiseall", request, parsed.has("force"), "Raised exception on")


def _signal(parsed: Parsed, what: str) -> int:
    word = parsed.value("signal") or "TERM"
    found = signum(word)
    if found is None:
        raise Failure(f"{what}: Invalid signal {word}")
    return found


def kill_command(parsed: Parsed) -> int:
    """Sends a signal to jobs."""
    signo = _signal(parsed, "kill")
    ids = []
    for word in parsed.words:
        try:
            ids.append((word, JobID(word)))
        except ValueError:
            raise Failure(f"invalid jobid: {word}") from None
    return _each(ids, "job-manager.kill", {"signum": signo}, "kill")


def killall_command(parsed: Parsed) -> int:
    """Sends a signal to all jobs that match."""
    signo = _signal(parsed, "killall")
    request = {"userid": userid(parsed.value("user")), "signum": signo}
    done = signal.strsignal(signo) or f"Signal {signo}"
    return _all("job-manager.killall", request, parsed.has("force"), done)


def memo_command(parsed: Parsed) -> int:
    """Adds a memo to a job."""
    from flux.util import set_treedict

    word, *pairs = parsed.words
    memo: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise Failure(f"memo: no value for key={key}")
        if text == "-":
            text = sys.stdin.read()
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        set_treedict(memo, key, value)
    request = {"id": wire_id(jobid(word)), "volatile": parsed.has("volatile"), "memo": memo}
    with handle() as h:
        try:
            h.rpc("job-manager.memo", request).get()
        except OSError as exc:
            raise Failure(f"memo: {text_of(exc)}") from None
    return 0


def purge_command(parsed: Parsed) -> int:
    """Forgets inactive jobs."""
    force = parsed.has("force")
    with handle() as h:
        try:
            if parsed.words:
                count = 0
                for word in parsed.words:
                    request = {"id": wire_id(jobid(word)), "force": force}
                    count += h.rpc("job-manager.purge-id", request, 0).get().get("count", 1)
            else:
                count = _purge_old(h, parsed, force)
            inactive = h.rpc("job-manager.stats-get", None, 0).get()["inactive_jobs"]
        except OSError as exc:
            raise Failure(f"purge: {text_of(exc)}") from None
    if force:
        show(f"purged {count} inactive jobs, {inactive} remaining")
    else:
        show(f"use --force to purge {count} of {inactive} inactive jobs")
    return 0


def _purge_old(h: Any, parsed: Parsed, force: bool) -> int:
    batch = number(parsed, "batch", 50)
    request = {
        "age_limit": float(duration(parsed, "age-limit")),
        "num_limit": number(parsed, "num-limit", -1),
        "batch": batch,
        "force": force,
    }
    total = 0
    while True:
        count = h.rpc("job-manager.purge", request, 0).get()["count"]
        total += count
        if not force or count < batch or count == 0:
            return int(total)
