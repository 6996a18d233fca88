"""What the modules of the same broker may have the job manager do by a call, in place of messages.

    job-ingest -> take    sched -> grant    job-exec -> keep

Everything that they have to store for a job goes with the job's events, in the job manager's next transaction. What
is kept like that is there for whoever looks into the KVS of this broker, as if it had been stored at once: the KVS
has the transaction made before anybody looks (`Space.ahead`). On other ranks that cannot be promised: where there are
some, and where transactions are durable and take their time, whoever is told of it is told when it has been made.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from functools import partial
from syslog import LOG_ERR
from typing import TYPE_CHECKING, Any

from flux.message import Message
from fluxlet.broker.host import Module
from fluxlet.modules.job_manager.execution import ExecutionSide
from fluxlet.modules.job_manager.scheduling import SchedulingSide
from fluxlet.modules.job_manager.submission import Submission, Submitted
from fluxlet.modules.job_manager.waits import Zombie
from fluxlet.modules.kvs.leader import leader_of
from fluxlet.modules.kvs.near import watches_of
from fluxlet.modules.kvs.operation import Commit, Op, Value
from fluxlet.modules.kvs.space import PRIMARY

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker
    from fluxlet.modules.kvs.space import Space
    from fluxlet.modules.kvs.taps import Taps
    from fluxlet.modules.kvs_watch.module import KvsWatch

#: Called with the errors of jobs, by id, or with why none of them has been taken.
Taken = Callable[[dict[int, str], OSError | None], None]


class Direct(Submission, SchedulingSide, ExecutionSide):
    """See the module."""

    def __init__(self, *args: Any) -> None:
        self._shown: Space | None = None
        self._watches: KvsWatch | None = None
        self._taps: Taps | None = None
        self._taking: dict[Taken, None] = {}
        self._kept: set[str] = set()  # keys of what is to be stored for others
        self._keeping: dict[Callable[[str], None], None] = {}
        self._ending: dict[int, Message] = {}
        self._ended = False
        super().__init__(*args)
        self._alone = self.broker.attributes.visible.get("size", "1") == "1"

    # The KVS at hand.

    def commit(self, commit: Commit) -> None:
        """As of Base."""
        leader = leader_of(self.broker)
        if leader is None:
            super().commit(commit)
            return
        if not self.batch.durable:
            self._show(leader.spaces[PRIMARY])
            self._taps = leader.taps
        kept, self._kept = self._kept, set()
        leader.apply(PRIMARY, commit.ops, commit.flags, partial(self._made, commit, kept))

    def _made(self, commit: Commit, kept: set[str], root: bytes, error: OSError | None) -> None:
        if self._ended:
            return  # with nobody left who waits for it
        leader = leader_of(self.broker)
        if error is not None and kept and leader is not None:
            # What we keep for others may be what cannot be stored: each of it by itself, then what is our own.
            for op in commit.ops:
                if op.key in kept:
                    leader.apply(PRIMARY, [op], commit.flags, partial(self._kept_alone, op.key))
            own = [op for op in commit.ops if op.key not in kept]
            leader.apply(PRIMARY, own, commit.flags, partial(self._made, commit, set()))
            return
        self.committed(0 if error is None else error.errno or errno.EIO, None if error is None else error.strerror)

    def _kept_alone(self, key: str, root: bytes, error: OSError | None) -> None:
        if error is not None:
            text = error.strerror or os.strerror(error.errno or errno.EIO)
            self.write_log(LOG_ERR, f"{key} cannot be stored: kvs.commit: {text}")

    def watched(self, key: str) -> bool:
        """As of Base."""
        watches, taps = self._watches, self._taps
        if watches is None or taps is None or not self.in_view:
            return True
        assert self._shown is not None
        return key in taps or self._shown.waiting > 0 or watches.heeds(PRIMARY, (key,))

    @property
    def in_view(self) -> bool:
        """As of Ports."""
        return self._alone and self._shown is not None and self._shown.ahead is not None

    def _settle(self) -> bool:
        """Somebody is about to look into the KVS: has stored what there is. False if that is not done yet."""
        batch = self.batch
        if batch.ops or batch.log:
            batch.flush()
        return batch.empty

    def _show(self, space: Space) -> None:
        self._watches = watches_of(self.broker)
        if space is not self._shown:
            self._hide()
            self._shown = space
        space.ahead = self._settle

    def _hide(self) -> None:
        space, self._shown = self._shown, None
        if space is not None and space.ahead == self._settle:
            space.keep_nothing()

    # Those who wait for jobs.

    def _answer_wait(self, request: Message, job: Zombie) -> None:
        """As of Base; who is told that a job has ended finds all of it, and so does who comes after a crash."""
        if self.in_view:
            super()._answer_wait(request, job)
            return
        self._ending[id(request)] = request

        def stored() -> None:
            if self._ending.pop(id(request), None) is not None:
                super(Direct, self)._answer_wait(request, job)

        self.batch.after(stored)

    # Those who call.

    def take(self, jobs: Iterable[Submitted], then: Taken) -> None:
        """Submits jobs, with what is to be stored of them. `then` is called once that is there for everybody."""
        taken, errors = self.create_all(jobs)
        if self.in_view:
            self.engine.let_go(taken)
            then(errors, None)
            return
        self._taking[then] = None

        def stored() -> None:
            del self._taking[then]
            self.engine.let_go(taken)
            then(errors, None)

        self.batch.after(stored)
        self.batch.flush()

    def peek(self, key: str) -> bytes | None:
        """A value that was stored for a job in one piece, if it is in memory."""
        op = self.batch.ops.get(key)
        if op is not None and isinstance(op.dirent, Value):
            return op.dirent.data
        leader = leader_of(self.broker)
        return None if leader is None else leader.peek(key, most=1)

    def grant(self, jobid: int, R: bytes, annotations: dict[str, Any]) -> None:
        """The scheduler's answer to sched.alloc: a job gets resources, and R is to be stored."""
        if not self.alloc.ready:
            return
        job = self.alloc.answered(jobid)
        if job is not None:
            if job.pending:
                self.batch.add(f"{job.path}.R", R)
            self.granted(job, R, annotations)
        self.alloc.pump()
        self.check_idle()

    def keep(self, ops: list[Op], then: Callable[[str], None]) -> None:
        """Has something stored; `then` is called when it is there for everybody: mostly at once.

        With "", or with why nobody knows whether it ever will be.
        """
        for op in ops:
            self._kept.add(op.key)
            self.batch.put(op)
        if self.in_view:
            then("")
            return
        self._keeping[then] = None

        def stored() -> None:
            del self._keeping[then]
            then("")

        self.batch.after(stored)

    def take_back(self, key: str) -> bool:
        """Has something not stored that was to be; False if it is already."""
        return self.batch.take_back(key)

    def stop_service(self) -> None:
        """Nobody is left waiting; what was as good as stored is stored, if that can be had by a call."""
        super().stop_service()
        if self.in_view:
            self._settle()
        self._ended = True
        self._hide()
        self.refuse(self._ending.values())
        self._ending.clear()
        taking, self._taking = self._taking, {}
        for taken in taking:
            taken({}, OSError(errno.EHOSTUNREACH, "module disconnect"))
        keeping, self._keeping = self._keeping, {}
        for kept in keeping:
            kept("the job manager has gone")


def manager_of(broker: Broker) -> Direct | None:
    """The job manager of this broker, if there is one and it may be called; else messages are the way."""
    module = broker.modules.get("job-manager")
    if isinstance(module, Module) and module.may_be_called:
        manager = module.instance
        if isinstance(manager, Direct) and not manager.loading and leader_of(broker) is not None:
            return manager
    return None
