"""flux ping — the time that a service takes to answer (spec 03, 14.2)."""

from __future__ import annotations

import os
import time
from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, OutputClosed, connect, run, show
from flux.constants import FLUX_NODEID_ANY, FLUX_NODEID_UPSTREAM
from flux.core.handle import Flux
from flux.rpc import RPC

COMMAND = Command(
    "ping",
    "Measure round-trip latency to Flux services",
    [
        Option("r", "rank", "Send to this rank: a number, a host name, any or upstream.", "RANK"),
        Option("p", "pad", "Send N more bytes, which come back too (K, M and G are powers of 1024).", "N"),
        Option("i", "interval", "Wait N between requests, a duration such as 10ms (default: 1s).", "N"),
        Option("c", "count", "Stop after N requests (default: 0, never).", "N"),
        Option("b", "batch", "Send all requests at once (with --count)."),
        Option("u", "userid", "Show the userid and roles that the service sees."),
    ],
    arguments="TARGET",
    words=(1, 1),
    complete=("@module",),
    description="Sends requests to a service and prints how long each answer takes, and the way it went. TARGET is a "
    "service, a rank, a host, any, or upstream; or RANK!SERVICE for a service on a rank.",
    examples=(
        ("flux ping --count=3 --interval=100ms broker", "Three requests to the broker, a tenth of a second apart."),
        ("flux ping -c1 '0!heartbeat'", "One to the module heartbeat on rank 0."),
    ),
    see_also=("module", "uptime"),
)

_NODEIDS = {"any": FLUX_NODEID_ANY, "upstream": FLUX_NODEID_UPSTREAM}
_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_ADDED = frozenset({"route", "userid", "rolemask", "rank"})


class Target:
    """Who is asked.

    Attributes:
        nodeid: rank, or FLUX_NODEID_ANY or _UPSTREAM.
        service: its name.
        header: what is printed first.
        topic: the request's topic as errors show it, with the rank if one was named.
    """

    def __init__(self, handle: Flux, target: str, rank: str | None) -> None:
        where, bang, service = target.rpartition("!")
        node = where if bang else None
        # Any word may be the name of a host, but for these two.
        hosts = [] if (node or target) in _NODEIDS and rank is None else _hosts(handle)
        if not bang and _nodeid(target, hosts) is not None:
            node, service = target, "broker"
        if rank is not None:
            if node is not None:
                raise Failure("--rank and TARGET both try to specify a nodeid")
            node = rank
        name = "any" if node is None else node
        nodeid = _nodeid(name, hosts)
        if nodeid is None or not service:
            raise Failure(f"invalid nodeid/host: '{name if nodeid is None else target}'")
        self.nodeid = nodeid
        self.service = service
        self.header = f"{name}!{service}"
        if name in hosts and not name.isdigit():
            self.header += f" (rank {nodeid})"
        self.topic = f"{service}.ping" if name == "any" else f"{name}!{service}.ping"


def _hosts(handle: Flux) -> list[str]:
    """Host names by rank."""
    try:
        names = handle.attr_get("hostlist")
    except OSError:
        return []  # an instance that does not know its hosts can still be pinged by rank
    if "[" not in names:
        return names.split(",")
    from flux.hostlist import Hostlist

    return [str(name) for name in Hostlist(names)]


def _nodeid(name: str, hosts: list[str]) -> int | None:
    """The nodeid that a word stands for; None if it is no word for one."""
    if name in _NODEIDS:
        return _NODEIDS[name]
    if name.isascii() and name.isdigit():
        return int(name) if int(name) < FLUX_NODEID_UPSTREAM else None
    return hosts.index(name) if name in hosts else None


def _number(text: str, option: str) -> int:
    number, scale = text, 1
    if option == "pad" and text[-1:] in _SUFFIXES:
        number, scale = text[:-1], _SUFFIXES[text[-1]]
    if not (number.isascii() and number.isdigit()):
        raise Failure(f"invalid --{option} value '{text}': it must be a whole number")
    return int(number) * scale


def _interval(text: str | None) -> float:
    if text is None:
        return 1.0
    from flux.util import parse_fsd

    try:
        return parse_fsd(text)
    except ValueError:
        raise Failure(f"invalid --interval value '{text}': it must be a duration such as 0.5s or 10ms") from None


class Pinger:
    """Sends requests at their times and prints what comes back."""

    def __init__(self, handle: Flux, target: Target, parsed: Parsed) -> None:
        self.handle = handle
        self.target = target
        self.pad = "p" * _number(parsed.value("pad") or "0", "pad")
        self.interval = _interval(parsed.value("interval"))
        self.count = _number(parsed.value("count") or "0", "count")
        self.batch = parsed.has("batch")
        if self.batch and not self.count:
            raise Failure("--batch needs --count")
        self.show_userid = parsed.has("userid")
        self.sent = 0
        self.answered = 0
        self._ended: Failure | OutputClosed | None = None
        self._timer = handle.timer_watcher_create(self.interval, self._on_time, repeat=self.interval)

    def run(self) -> None:
        """Returns when all is answered. Raises Failure."""
        if self.batch:
            while self.sent < self.count:
                self._send()
        else:
            self._send()
            if self.interval and self.sent != self.count:
                self._timer.start()
        if self.handle.reactor_run() < 0 and self._ended is None:
            self._ended = Failure("lost connection to Flux")
        if self._ended is not None:
            raise self._ended

    def _on_time(self, handle: Flux, watcher: Any, revents: int, args: Any) -> None:
        self._send()
        if self.sent == self.count:
            self._timer.stop()

    def _send(self) -> None:
        now = time.monotonic_ns()
        payload = {
            "seq": self.sent,
            "time.tv_sec": now // 1_000_000_000,
            "time.tv_nsec": now % 1_000_000_000,
            "pad": self.pad,
        }
        self.sent += 1
        self.handle.rpc(f"{self.target.service}.ping", payload, self.target.nodeid).then(self._answer, payload)

    def _answer(self, request: RPC, payload: dict[str, Any]) -> None:
        now = time.monotonic_ns()
        try:
            self._print(request.get(), payload, now)
        except OSError as exc:
            # The broker's own text says no more than its errno, and scripts look for this one.
            self._end(Failure(f"{self.target.topic}: {os.strerror(exc.errno or 0)}"))
            return
        except (Failure, OutputClosed) as exc:
            self._end(exc)
            return
        self.answered += 1
        if self.answered == self.count:
            self.handle.reactor_stop()
        elif not self.interval and not self.batch:
            self._send()

    def _end(self, why: Failure | OutputClosed) -> None:
        self._ended = why
        self.handle.reactor_stop()

    def _print(self, answer: Any, payload: dict[str, Any], now: int) -> None:
        # What comes back is what was sent, and four things that the service has added.
        if not isinstance(answer, dict) or {**answer, **payload} != answer or answer.keys() != payload.keys() | _ADDED:
            raise Failure(f"{self.target.topic}: Protocol error")
        sent = payload["time.tv_sec"] * 1_000_000_000 + payload["time.tv_nsec"]
        who = ""
        if self.show_userid:
            who = f" userid={answer['userid']} rolemask=0x{answer['rolemask'] & 0xFFFFFFFF:x}"
        show(
            f"{answer['rank']}!{self.target.service}.ping pad={len(self.pad)}{who} seq={payload['seq']} "
            f"time={(now - sent) / 1e6:.3f} ms ({answer['route']})"
        )


def _body(parsed: Parsed) -> int:
    with connect(COMMAND) as handle:
        target = Target(handle, parsed.words[0], parsed.value("rank"))
        pinger = Pinger(handle, target, parsed)
        show(f"flux-ping {target.header}")
        pinger.run()
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
