"""`flux overlay status` and `errors`: the tree of brokers asked from its root on, child by child (spec 04, 2.10).

Every broker knows how its direct children do. Those that are online are asked in turn, all of a level at once; what
is below the others nobody can ask: the tree says which ranks they are, and they are shown as their parent's ghosts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flux.cli.human_times import paint
from flux.cli.tool import Failure, text_of
from flux.constants import FLUX_RPC_STREAMING
from flux.core.handle import Flux
from flux.rpc import RPC
from flux.util.durations import six_digits

ONLINE = ("full", "partial", "degraded")
STATES = (*ONLINE, "lost", "offline")
#: Requests that are on their way at a time.
_IN_FLIGHT = 512

_COLORS = {"lost": "\033[31m", "offline": "\033[33m"}
_GHOST = "\033[90m"
_PLAIN = "\033[39m"
_MARKED = "\033[1;34m"


class Node(NamedTuple):
    """What is known of a rank.

    Args:
        rank: which.
        status: its name.
        duration: for how long it has been so, in seconds; None if nobody can say.
        error: why it is not online, or cannot be asked.
        elapsed: what it took to ask it, in seconds; None if it was not.
        ghost: it is below a rank that is not online.
        children: below it.
    """

    rank: int
    status: str
    duration: float | None = None
    error: str = ""
    elapsed: float | None = None
    ghost: bool = False
    children: tuple[Node, ...] = ()


class Survey:
    """Asks brokers how they do.

    Args:
        handle: on any of them.
        timeout: for one answer, in seconds; 0: none.
        ghosts: also tell of ranks that cannot be asked.
    """

    def __init__(self, handle: Flux, timeout: float, ghosts: bool = True) -> None:
        self._handle = handle
        self._timeout = timeout
        self._ghosts = ghosts
        self._below: dict[int, tuple[int, ...]] | None = None

    def health(self, rank: int, wait: str | None = None) -> tuple[dict[str, Any], float]:
        """What `overlay.health` of a rank says, and what it took; with `wait` once it is in that status.

        Raises Failure.
        """
        started = time.monotonic()
        request = self._handle.rpc("overlay.health", None, rank, FLUX_RPC_STREAMING if wait else 0)
        try:
            answer = self._answer(request)
            while wait and answer["status"] != wait:
                request.reset()
                answer = self._answer(request)
        except OSError as exc:
            raise Failure(text_of(exc)) from None
        return answer, time.monotonic() - started

    def _answer(self, request: RPC) -> Any:
        if self._timeout:
            request.wait_for(self._timeout)
        return request.get()

    def learn(self, rank: int) -> dict[int, tuple[int, ...]]:
        """The children of each rank from `rank` on down. Raises Failure."""
        if self._below is None:
            try:
                tree = self._answer(self._handle.rpc("overlay.topology", {"rank": rank}, rank))
            except OSError as exc:
                raise Failure(text_of(exc)) from None
            self._below = {}
            trees = [tree]
            while trees:
                tree = trees.pop()
                self._below[tree["rank"]] = tuple(child["rank"] for child in tree["children"])
                trees += tree["children"]
        return self._below

    def tree(self, rank: int, answer: dict[str, Any], elapsed: float) -> Node:
        """All that can be learned of the tree below `rank`, whose own answer is known already. Raises Failure."""
        answers = {rank: (answer, elapsed)}
        failed: dict[int, str] = {}
        waiting = deque(self._askable(answer))
        running: deque[tuple[int, float, RPC]] = deque()
        while waiting or running:
            while waiting and len(running) < _IN_FLIGHT:
                child = waiting.popleft()
                running.append((child, time.monotonic(), self._handle.rpc("overlay.health", None, child)))
            child, started, request = running.popleft()
            try:
                answers[child] = self._answer(request), time.monotonic() - started
            except OSError as exc:
                failed[child] = text_of(exc)
            else:
                waiting += self._askable(answers[child][0])
        return self._node(rank, answer["status"], answer["duration"], answers, failed)

    @staticmethod
    def _askable(answer: dict[str, Any]) -> list[int]:
        return [child["rank"] for child in answer["children"] if child["status"] in ONLINE]

    def _node(
        self,
        rank: int,
        status: str,
        duration: float | None,
        answers: dict[int, tuple[dict[str, Any], float]],
        failed: dict[int, str],
        error: str = "",
    ) -> Node:
        if rank not in answers:
            ghosts = self._ghosts and self._below is not None
            children = tuple(self._ghost(child, status) for child in self._below[rank]) if ghosts else ()  # type: ignore[index]
            return Node(rank, status, duration, failed.get(rank, error), children=children)
        answer, elapsed = answers[rank]
        children = tuple(
            self._node(child["rank"], child["status"], child["duration"], answers, failed, child.get("error", ""))
            for child in answer["children"]
        )
        return Node(rank, answer["status"], answer["duration"], error, elapsed, children=children)

    def _ghost(self, rank: int, status: str) -> Node:
        assert self._below is not None
        return Node(rank, status, ghost=True, children=tuple(self._ghost(child, status) for child in self._below[rank]))


class Drawing:
    """The lines of a tree.

    Args:
        host: the host of a rank.
        verbose: 1: with durations; 2: also with the times that answers took.
        pretty: with connectors.
        down: without what is full.
        marked: ranks to make stand out.
        color: with escape sequences.
    """

    def __init__(
        self,
        host: Callable[[int], str],
        verbose: int = 0,
        pretty: bool = True,
        down: bool = False,
        marked: frozenset[int] = frozenset(),
        color: bool = False,
    ) -> None:
        self._host = host
        self._verbose = verbose
        self._pretty = pretty
        self._down = down
        self._marked = marked
        self._color = color

    def lines(self, node: Node, indent: str = "", connector: str = "", below: str = "") -> Iterator[str]:
        """The line of a rank, and those of what is below it."""
        if self._down and node.status == "full":
            return
        yield f"{indent}{connector}{self._text(node)}"
        children = [child for child in node.children if not (self._down and child.status == "full")]
        for child in children:
            last = child is children[-1]
            if self._pretty:
                yield from self.lines(child, indent + below, "└─ " if last else "├─ ", "   " if last else "│  ")
            else:
                yield from self.lines(child)

    def _text(self, node: Node) -> str:
        name = f"{node.rank} {self._host(node.rank)}"
        if node.rank in self._marked:
            name = paint(_MARKED, name) if self._color else f"<<{name}>>"
        status = node.status
        color = _GHOST if node.ghost else _COLORS.get(status, "")
        if self._color and color:
            status = f"{color}{status}{_PLAIN}"
        text = f"{name}: {status}"
        if self._verbose and node.duration is not None:
            text += f" for {six_digits(node.duration)}"
        if node.error:
            text += f" {node.error}"
        if self._verbose > 1 and node.elapsed is not None:
            text += f" ({node.elapsed * 1000:.3f} ms)"
        return text


def errors(node: Node) -> Iterator[tuple[int, str]]:
    """(rank, what is wrong with it) for all ranks of a tree of which there is something to say."""
    if node.ghost:
        if node.status == "lost":
            yield node.rank, "lost parent"
    elif node.error:
        yield node.rank, node.error
    for child in node.children:
        yield from errors(child)
