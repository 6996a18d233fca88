"""The event loop under every handle: timers, descriptors, signals, loop hooks and message sources.

It knows nothing of handles or messages; `flux.core.watchers` and the handle are thin over it. One idea a file:

    state.py        per-thread state: how deep in a reactor, the exception waiting to be raised
    poller.py       asking the kernel which descriptors are ready; the pipe that interrupts the question
    descriptors.py  who watches which descriptor, and what becomes of closed and unpollable ones
    timers.py       the heap of deadlines
    signals.py      one Python signal handler a signal, shared by all reactors of the process
    events.py       what they have in common, the loop hooks, and message sources
    loop.py         the loop itself
    interrupt.py    a run as users want it: Ctrl-C stops it, a callback's exception comes out of it

Behaviour: spec 02, sections 4 and 5.
"""

from flux.reactor.descriptors import FdEvent
from flux.reactor.events import CheckEvent, Event, IdleEvent, PrepareEvent, Source, SourceEvent
from flux.reactor.interrupt import run_with_interrupt
from flux.reactor.loop import NOWAIT, ONCE, Reactor
from flux.reactor.poller import POLLERR, POLLIN, POLLOUT
from flux.reactor.signals import SignalEvent
from flux.reactor.state import ThreadState, tls
from flux.reactor.timers import Timer

__all__ = [
    "NOWAIT",
    "ONCE",
    "POLLERR",
    "POLLIN",
    "POLLOUT",
    "CheckEvent",
    "Event",
    "FdEvent",
    "IdleEvent",
    "PrepareEvent",
    "Reactor",
    "SignalEvent",
    "Source",
    "SourceEvent",
    "ThreadState",
    "Timer",
    "run_with_interrupt",
    "tls",
]
