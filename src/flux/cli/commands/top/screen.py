"""The terminal of ``flux top``: draws pictures, reads keys, and goes from instance to instance.

One instance is asked at a time: who goes into a job's instance leaves the one above, and connects anew when coming
back.
"""

from __future__ import annotations

import curses
import locale
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from flux.cli.commands.top.feed import Feed, lost
from flux.cli.commands.top.picture import ASCII, HEADER, SUMMARY, Piece, Symbols, cut, header, line, summary
from flux.cli.commands.top.state import State
from flux.cli.tool import Failure
from flux.constants import FLUX_JOB_STATE_RUN, FLUX_POLLIN
from flux.core.handle import Flux
from flux.job._infoparts import _reachable
from flux.job.info import JobInfo

#: Run times are drawn anew so often.
_TICK = 1.0
_CTRL_L = 12
_COLORS = {
    "used": curses.COLOR_YELLOW,
    "down": curses.COLOR_RED,
    "instance": curses.COLOR_BLUE,
    "alive": curses.COLOR_RED,
}
_ATTRIBUTES = {"dim": curses.A_DIM, "bold": curses.A_BOLD, "header": curses.A_REVERSE, "instance": curses.A_BOLD}


class Place:
    """An instance that is looked at.

    Args:
        uri: of it; None: the enclosing one.
        path: the jobs that were gone through to it.
        queue: the one that is shown; None: all.

    Attributes:
        selected: id of the current job.
    """

    def __init__(self, uri: str | None, path: tuple[str, ...] = (), queue: str | None = None) -> None:
        self.uri = uri
        self.path = path
        self.queue = queue
        self.selected: int | None = None


class Top:
    """The program.

    Args:
        connect: gives a handle on the instance at a URI; raises Failure.
        color: whether to use colors.
        once: end when everything has been drawn once.
    """

    def __init__(self, connect: Callable[[str | None], Flux], color: bool, once: bool) -> None:
        self._connect = connect
        self._color = color
        self._once = once
        self.by_result = True
        self.notice = ""
        self._window: Any = None
        self._styles: dict[str, int] = {}
        self.symbols = Symbols()
        self._encoding = "utf-8"

    def run(self, place: Place) -> State:
        """Shows an instance until the user has seen enough; what was known of it at the end. Raises Failure."""
        places = [place]
        handle = self._connect(place.uri)  # errors are told before the screen is cleared
        self._begin()
        try:
            while True:
                view = View(self, handle, places[-1])
                with handle:
                    inner = view.run()
                if inner is not None:
                    places.append(inner)
                elif len(places) == 1:
                    return view.state
                else:
                    places.pop()
                handle, places = self._enter(places)
        finally:
            curses.endwin()

    def _enter(self, places: list[Place]) -> tuple[Flux, list[Place]]:
        """A handle on the last instance, or if that has gone on the one above it."""
        try:
            return self._connect(places[-1].uri), places
        except Failure as exc:
            if len(places) == 1:
                raise
            self.notice = f"{places[-1].path[-1]}: {exc.text}"
            return self._enter(places[:-1])

    def _begin(self) -> None:
        # Of the environment, as curses itself sees it.
        locale.setlocale(locale.LC_ALL, "")
        self._encoding = locale.getencoding()
        if self._encoding.lower().replace("-", "") != "utf8":
            self.symbols = ASCII
        try:
            curses.setupterm(os.environ.get("TERM", "unknown"), sys.stdout.fileno())
        except curses.error as exc:
            raise Failure(f"this terminal cannot be used: {exc}") from None
        if not curses.tigetstr("cup"):
            raise Failure(f"this terminal cannot be used: {os.environ['TERM']} cannot move the cursor")
        self._window = curses.initscr()
        curses.noecho()
        curses.cbreak()
        self._window.keypad(True)
        self._window.nodelay(True)
        if curses.tigetstr("civis"):
            curses.curs_set(0)
        self._styles = dict(_ATTRIBUTES)
        if self._color and curses.tigetnum("colors") >= 8:
            curses.start_color()
            curses.use_default_colors()
            for number, (style, color) in enumerate(_COLORS.items(), 1):
                curses.init_pair(number, color, -1)
                self._styles[style] = self._styles.get(style, 0) | curses.color_pair(number)

    @property
    def once(self) -> bool:
        """Whether to end when everything has been drawn once."""
        return self._once

    # Drawing.

    def size(self) -> tuple[int, int]:
        """Lines and columns."""
        lines, columns = self._window.getmaxyx()
        return lines, columns

    def resized(self) -> None:
        """Takes note of the terminal's new size."""
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        curses.resizeterm(lines, columns)
        self._window.clear()

    def redraw(self) -> None:
        """Draws everything anew with the next picture: something else has written on the terminal."""
        self._window.clear()

    def draw(self, lines: list[list[Piece]], current: int | None) -> None:
        """Draws a picture.

        Args:
            current: the line that is the current one.
        """
        height, width = self.size()
        self._window.erase()
        for number, pieces in enumerate(lines[:height]):
            # A sign in the last place of all would make the terminal scroll.
            room = width - 1 if number == height - 1 else width
            for piece in pieces:
                text = cut(piece.text, room - piece.column)
                text = text.encode(self._encoding, "replace").decode(self._encoding)
                if text:
                    style = self._styles.get(piece.style, 0)
                    self._window.addstr(number, piece.column, text, style)
            if number == current:
                self._window.chgat(number, 0, width, curses.A_REVERSE)
        self._window.refresh()

    def pressed(self) -> list[int]:
        """The keys that were pressed."""
        found = []
        while (key := self._window.getch()) != -1:
            found.append(key)
        return found


class View:
    """One instance on the terminal."""

    def __init__(self, top: Top, handle: Flux, place: Place) -> None:
        self._top = top
        self._handle = handle
        self._place = place
        self.state = State(place.queue)
        self._feed = Feed(handle, self.state, self._changed, self._room())
        self._inner: Place | None = None

    def _room(self) -> int:
        return self._top.size()[0] - SUMMARY - HEADER

    def run(self) -> Place | None:
        """Shows it until the user goes into a job, which is returned, or back. Raises Failure."""
        handle = self._handle
        watchers = [
            handle.fd_watcher_create(0, self._typed, FLUX_POLLIN),
            handle.signal_watcher_create(signal.SIGWINCH, self._resized),
            handle.timer_watcher_create(_TICK, lambda *args: self._draw(), _TICK),
        ]
        try:
            self._feed.start()
        except ValueError as exc:
            raise Failure(str(exc)) from None
        except OSError as exc:
            self._lost(exc)
            return None
        for watcher in watchers:
            watcher.start()
        self._draw()
        try:
            handle.reactor_run()
        except OSError as exc:
            self._feed.error = self._feed.error or exc
        finally:
            for watcher in watchers:
                watcher.destroy()
        self._place.queue = self.state.queue
        if self._feed.error is not None:
            self._lost(self._feed.error)
        return self._inner

    def _lost(self, exc: OSError) -> None:
        """The instance has gone: back to the one above it, if there is one. Raises Failure."""
        if not self._place.path:
            raise Failure(lost(exc))
        self._top.notice = f"{self._place.path[-1]}: {lost(exc)}"

    def _changed(self) -> None:
        self._draw()
        if self._top.once and self.state.complete:
            self._handle.reactor_stop()

    # The current job.

    def _index(self) -> int:
        """Where the current job is; where there is none any more, the first one."""
        ids = [job.id for job in self.state.jobs]
        return ids.index(self._place.selected) if self._place.selected in ids else 0

    def _select(self, step: int) -> None:
        jobs = self.state.jobs[: max(0, self._room())]
        if jobs:
            self._place.selected = jobs[min(max(0, self._index() + step), len(jobs) - 1)].id

    def _open(self) -> None:
        """Goes into the current job, if it is an instance."""
        jobs = self.state.jobs
        if not jobs:
            return
        job = jobs[self._index()]
        if not _is_instance(job):
            self._top.notice = f"{job.id.f58} is not an instance"
            return
        self._place.selected = job.id
        self._inner = Place(_reachable(job.uri), (*self._place.path, job.id.f58))  # type: ignore[arg-type]  # it has one
        self._handle.reactor_stop()

    # What happens.

    def _typed(self, *args: Any) -> None:
        for key in self._top.pressed():
            if key == _CTRL_L:
                self._top.redraw()
                continue
            self._top.notice = ""
            if key == ord("q"):
                self._handle.reactor_stop()
                return
            if key in (curses.KEY_ENTER, ord("\n"), ord("\r")):
                self._open()
                if self._inner is not None:
                    return
            elif key in (curses.KEY_UP, ord("k")):
                self._select(-1)
            elif key in (curses.KEY_DOWN, ord("j")):
                self._select(1)
            elif key in (curses.KEY_LEFT, ord("h"), curses.KEY_RIGHT, ord("l")):
                self.state.next_queue(-1 if key in (curses.KEY_LEFT, ord("h")) else 1)
                self._feed.list_jobs(now=True)
            elif key == ord("d"):
                self._top.by_result = not self._top.by_result
        self._draw()

    def _resized(self, *args: Any) -> None:
        self._top.resized()
        self._feed.resize(self._room())
        self._draw()

    def _draw(self) -> None:
        top, state, now = self._top, self.state, time.time()
        width = top.size()[1]
        lines = summary(state, "/".join(self._place.path), top.by_result, width, now, top.symbols)
        if top.notice:
            lines[1] = [Piece(0, top.notice, "down")]
        lines.append([Piece(0, header(state).ljust(width), "header")])
        for job in state.jobs:
            lines.append([Piece(0, line(state, job, now), "instance" if _is_instance(job) else "")])
        top.draw(lines, SUMMARY + HEADER + self._index() if state.jobs else None)


def _is_instance(job: JobInfo) -> bool:
    return job.state_id == FLUX_JOB_STATE_RUN and job.uri is not None
