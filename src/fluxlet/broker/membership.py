"""What the life of a broker has to do with other brokers: joining, configuration, quorum, leaving (spec 04, 3.6).

`fluxlet.broker.lifecycle` enters the states; this posts the events that depend on the parent, the children, and how
many are there at all. A broker on its own has none of them, and passes through.

Rules:
- A rank follows its parent: it starts when that has started, and ends before it does.
- Whoever waits for another rank waits with an end: a lost one is noticed, a late one is mentioned, again and again, and
  a broker without a parent gives its children a while and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from syslog import LOG_ERR, LOG_INFO
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_NODEID_UPSTREAM, FLUX_RPC_STREAMING
from flux.core.handle import Flux
from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.reactor import Timer
from flux.util.durations import parse_fsd
from fluxlet.broker.host import Module
from fluxlet.broker.state import NUMBERS

if TYPE_CHECKING:
    from fluxlet.broker.lifecycle import LifeCycle
    from fluxlet.broker.overlay_port import OverlayPort

_QUORUM, _RUN, _SHUTDOWN = NUMBERS["quorum"], NUMBERS["run"], NUMBERS["shutdown"]
#: Seconds that a broker which has lost its parent waits for its children.
_ORPHAN_PATIENCE = 20.0
#: Seconds after which the parent is asked for its configuration again, if it could not say.
_PAUSE = 1.0
#: In these states, a rank that has its parent's configuration keeps to it.
_FOLLOWING = ("quorum", "run", "cleanup")
#: In these states, ranks that leave were not meant to.
_NOT_LEAVING = ("run", "cleanup")


class Membership:
    """A broker's part in its instance.

    Args:
        life: of the broker.
    """

    def __init__(self, life: LifeCycle) -> None:
        self.life = life
        self.broker = life.broker
        self.machine = life.machine
        self.port: OverlayPort | None = None
        """Where the others are; None for an instance of one."""
        self.online = IDset()
        """On rank 0: the members of the group broker.online."""
        self._parent_state = 0
        self._lost_parent = False
        self._config_followed = True  # what becomes of the parent's configuration is worth a word
        self._timer: Timer | None = None  # says who is waited for
        self._deadline: Timer | None = None
        self._delayed = False

    @property
    def handle(self) -> Flux:
        """A handle of the broker's own."""
        module = self.broker.modules["runat"]
        assert isinstance(module, Module)
        return module.flux

    # State join.

    def join(self) -> None:
        """Finds the parent, if there is one."""
        if self.broker.rank == 0:
            self.machine.post("parent-none")
        elif self.port is not None and not self._lost_parent:
            self.port.say_hello()
        else:
            self.machine.post("parent-fail")

    def parent_found(self) -> None:
        """The parent has let us in: what it does tells us what to do."""
        future = self.handle.rpc(
            "state-machine.monitor", {"final": _SHUTDOWN}, FLUX_NODEID_UPSTREAM, FLUX_RPC_STREAMING
        )
        future.then(self._on_parent_state)

    def _on_parent_state(self, future: Any) -> None:
        try:
            number = int(future.get()["state"])
        except OSError:
            return  # that was the last one; or the parent is lost, of which we hear otherwise
        future.reset()
        self._parent_state = number
        self._follow()

    def _follow(self) -> None:
        """Does as the parent does, as far as our own state lets us."""
        state, number = self.machine.state, self._parent_state
        if state == "join":
            if number in (_QUORUM, _RUN):
                self.machine.post("parent-ready")
            elif number > _RUN:
                self.life.fail()
                self.machine.post("parent-fail")
        elif state == "quorum":
            if number == _RUN:
                self.machine.post("quorum-full")
            elif number > _RUN:
                self.machine.post("quorum-fail")
        elif state == "run" and number >= _SHUTDOWN:
            self.machine.post("shutdown")

    def parent_lost(self) -> None:
        """The parent is gone: nothing is left to be part of."""
        if self._lost_parent:
            return
        self._lost_parent = True
        self.life.fail()
        events = {"join": "parent-fail", "config-sync": "sync-fail", "quorum": "quorum-fail", "run": "parent-fail"}
        state = self.machine.state
        if state in events:
            self.machine.post(events[state])
        elif state == "shutdown":
            self._limit_orphan()
        elif state == "goodbye":
            self.life.goodbye()

    # State config-sync.

    def config_sync(self) -> None:
        """Takes over the parent's configuration, now and whenever it changes."""
        if self.broker.rank == 0:
            self.machine.post("sync-none")
            return
        if self._lost_parent:
            self.machine.post("sync-fail")
            return
        self._follow_config()

    def _follow_config(self) -> None:
        if not self._lost_parent:
            future = self.handle.rpc("config.get", None, FLUX_NODEID_UPSTREAM, FLUX_RPC_STREAMING)
            future.then(self._on_config)

    def _on_config(self, future: Any) -> None:
        try:
            config = future.get()
        except OSError as exc:
            if self._config_followed:
                self._config_failed(f"config.get: {exc.strerror}")
                self._config_followed = False
            if self.machine.state in _FOLLOWING and not self._lost_parent:
                # The parent's service is loaded again, or will be.
                self.broker.reactor.timer(_PAUSE, 0.0, self._follow_config).start()
            return
        self._config_followed = True
        future.reset()
        self.handle.rpc("config.load", config).then(self._on_config_loaded)

    def _on_config_loaded(self, future: Any) -> None:
        try:
            future.get()
        except OSError as exc:
            self._config_failed(f"config.load: {exc.strerror}")
            return
        if self.machine.state == "config-sync":
            self.machine.post("sync-success")

    def _config_failed(self, text: str) -> None:
        if not self._lost_parent:
            self.broker.log.write(LOG_ERR, text)
        if self.machine.state == "config-sync":
            self.life.fail()
            self.machine.post("sync-fail")

    # State quorum.

    def quorum(self) -> None:
        """Shows up, and waits until enough have."""

        def joined(future: Any) -> None:
            try:
                future.get()
            except OSError as exc:
                self.broker.log.write(LOG_ERR, f"groups.join broker.online: {exc.strerror}")
                self.life.fail()
                self.machine.post("quorum-fail")
                return
            if self.broker.rank == 0:
                # From now on: the first answer has us in it.
                online = self.handle.rpc("groups.get", {"name": "broker.online"}, 0, FLUX_RPC_STREAMING)
                online.then(self._on_online)
                self._warn("broker.quorum-warn", self._quorum_delayed)
            elif self._lost_parent:
                self.machine.post("quorum-fail")
            else:
                self._follow()

        self.handle.rpc("groups.join", {"name": "broker.online"}).then(joined)

    def _on_online(self, future: Any) -> None:
        try:
            members = IDset(future.get()["members"])
        except OSError:
            return  # the service has ended, as all do
        future.reset()
        joined, left = members.difference(self.online), self.online.difference(members)
        self.online = members
        if joined:
            self.broker.log.write(LOG_INFO, f"online: {self._hosts(joined)} (ranks {joined})")
        if left and self.machine.state in _NOT_LEAVING:
            self.broker.log.write(LOG_ERR, f"dead to Flux: {self._hosts(left)} (rank {left})")
        if self.machine.state == "quorum" and self.online.count() >= self.wanted:
            if self._delayed:
                self.broker.log.write(LOG_ERR, "quorum reached")
            self.machine.post("quorum-full")

    @property
    def wanted(self) -> int:
        """How many brokers have to be there."""
        return int(self.broker.attributes.visible.get("broker.quorum", "1"))

    def _quorum_delayed(self) -> bool:
        if self.machine.state != "quorum":
            return False
        missing = IDset(f"0-{int(self.broker.attributes.visible['size']) - 1}").difference(self.online)
        self.broker.log.write(LOG_ERR, f"quorum delayed: waiting for {self._hosts(missing)} (rank {missing})")
        self._delayed = True
        return True

    def running(self) -> None:
        """State run: the parent may have gone on meanwhile."""
        if self._lost_parent:
            self.machine.post("parent-fail")
        else:
            self._follow()

    # State shutdown, and what leads there.

    def close_doors(self) -> None:
        """We are about to end: nobody is let in any more."""
        if self.port is not None:
            self.port.neighbours.accepting = False

    def wait_for_children(self) -> None:
        """Waits until all children have gone."""
        if not self._children():
            self.machine.post("children-none")
            return
        self._warn("broker.shutdown-warn", self._shutdown_delayed)
        if self._lost_parent:
            self._limit_orphan()
        elif self.broker.rank == 0:
            seconds = self._seconds("broker.shutdown-timeout")
            if seconds is not None:
                self._limit(seconds)

    def _children(self) -> IDset:
        """The children that are there."""
        neighbours = self.port.neighbours.children.values() if self.port is not None else ()
        return IDset([child.rank for child in neighbours])

    def children_changed(self) -> None:
        """A child has come, gone, or changed."""
        if self.machine.state == "shutdown" and not self.life.busy and not self._children():
            self._stop_waiting()
            self.machine.post("children-complete")

    def _shutdown_delayed(self) -> bool:
        if self.machine.state != "shutdown":
            return False
        ranks = self._children()
        peers = f"{ranks.count()} peers: {self._hosts(ranks)} (rank {ranks})"
        self.broker.log.write(LOG_ERR, f"shutdown delayed: waiting for {peers}")
        return True

    def _limit_orphan(self) -> None:
        self._limit(_ORPHAN_PATIENCE)

    def _limit(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = self.broker.reactor.timer(seconds, 0.0, self._give_up)
            self._deadline.start()

    def _give_up(self) -> None:
        if self.machine.state == "shutdown":
            self.broker.log.write(LOG_ERR, "shutdown timeout")
            self._stop_waiting()
            self.machine.post("children-complete")

    # State goodbye.

    def say_goodbye(self) -> bool:
        """Takes leave of the parent; False if there is none to wait for."""
        return self.port is not None and self.broker.rank > 0 and not self._lost_parent and self.port.say_goodbye()

    def said_goodbye(self) -> None:
        """The parent knows that we go."""
        self._lost_parent = True
        self.life.goodbye()

    @property
    def parting(self) -> bool:
        """True while the parent has not answered our goodbye."""
        return self.port is not None and self.port.neighbours.parting and not self._lost_parent

    # Waiting.

    def _seconds(self, attribute: str) -> float | None:
        text = self.broker.attributes.visible.get(attribute, "none")
        return None if text == "none" else parse_fsd(text)

    def _warn(self, attribute: str, look: Callable[[], bool]) -> None:
        """Has `look` called again and again, as long as it returns True."""
        self._stop_waiting()
        seconds = self._seconds(attribute)
        if not seconds:
            return

        def late() -> None:
            if not look():
                self._stop_waiting()

        self._timer = self.broker.reactor.timer(seconds, seconds, late)
        self._timer.start()

    def _stop_waiting(self) -> None:
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.stop()
        self._timer = self._deadline = None

    def _hosts(self, ranks: IDset) -> str:
        hosts = Hostlist(self.broker.attributes.visible.get("hostlist", ""))
        return str(Hostlist([hosts[rank] for rank in ranks if rank < len(hosts)]))
