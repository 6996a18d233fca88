"""rc1 beside the start of the initial program.

Loading modules is mostly the reading of code, and so is the start of most programs: on two cores they take no longer
together than one of them. A program that asks the instance for nothing need not wait at all, and one that has ended
before the modules are there ends the loading: who is not asked need not be there.

Rules:
- Nobody notices: who connects is let in when all modules are there. Only `plain` instances do this, those where nothing
  in rc1 depends on what a user has set, or on what an earlier instance has left: there nothing can be wrong with it.
- Should it fail all the same, that is the failure of a module: the instance ends.
- Loading ends early only if nobody waits to be let in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fluxlet.broker.background import Background

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from fluxlet.broker.broker import Broker
    from fluxlet.broker.rc import Rc

#: Beginnings of the names of attributes that no module of rc1 looks at: those of the broker itself.
_OF_THE_BROKER = ("broker.", "log-", "tbon.", "rundir", "local-uri", "hostname", "hostlist", "conf.")
#: What makes rc1 or rc3 do other things.
_VARIABLES = ("FLUX_MODPROBE_", "FLUX_RC_EXTRA", "FLUX_SCHED_MODULE")


def plain(broker: Broker, given: Mapping[str, str | None], environ: Mapping[str, str]) -> bool:
    """Whether an instance is one where rc1 depends on nothing that a user has set.

    Args:
        broker: the attributes about its place are set.
        given: the attributes that the user has set.
        environ: the broker's.
    """
    visible = broker.attributes.visible
    return (
        visible.get("size") == "1"
        and visible.get("statedir-cleanup") == "1"
        and not broker.config
        and all(name.startswith(_OF_THE_BROKER) for name in given)
        and not {"broker.rc1_path", "broker.rc3_path", "broker.recovery-mode"} & given.keys()
        and not any(name.startswith(_VARIABLES) for name in environ)
    )


class Beside:
    """Runs rc1 while the initial program starts. Nobody is let in from its construction until rc1 has ended.

    Args:
        broker: whose modules they are.
        handle: on whose loop.
        rc: rc1, which has not begun.
        failed: called if it fails.
    """

    def __init__(self, broker: Broker, handle: Flux, rc: Rc, failed: Callable[[int], None]) -> None:
        self._broker = broker
        self._handle = handle
        self._rc = rc
        self._failed = failed
        self._afterwards: list[Callable[[], None]] = []
        self._begun = self._ended = False
        rc.beside = True
        broker.server.hold()

    @property
    def running(self) -> bool:
        """Modules are being loaded."""
        return self._begun and not self._ended

    def begin(self) -> None:
        """The initial program has been started."""
        self._begun = True
        Background(self._handle).run(self._rc.run("rc1"), self._done)

    def _done(self, code: int) -> None:
        self._ended = True
        self._broker.server.release()
        if code:
            self._failed(code)
        afterwards, self._afterwards = self._afterwards, []
        for then in afterwards:
            then()

    def after(self, then: Callable[[], None], enough: bool = False) -> bool:
        """Has `then` called when rc1 has ended; False if it has, or is not wanted any more and has not begun.

        Args:
            enough: no more modules are to be loaded, if nobody waits for them.
        """
        if self._ended or (enough and not self._begun):
            return False
        self._afterwards.append(then)
        if enough and not self._broker.server.awaited:
            self._rc.stopping = True
        return True
