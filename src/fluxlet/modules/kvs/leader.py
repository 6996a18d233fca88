"""The module `kvs` on rank 0: commits, and when they last (spec 05, 6.4, 6.5, 7.1 and 11).

    kvs.commit -> the namespace's queue -> Transaction -> the content store -> the new root: event, answers

Rules:

- Commits wait until the broker has read what there is to read; those of a namespace that have come together are made
  as one, if they may be. One transaction of a namespace is under way at a time.
- A root is published when its blobs are in the content store; with SYNC, when they and a checkpoint last.
- The answer to a commit is its own root, exactly.
- Modules of this broker may call instead of asking by messages (`leader_of`): `apply`, `peek`, `create`, `remove`.
  What they commit is made at once.
"""

from __future__ import annotations

import errno
import time
from binascii import a2b_base64, unhexlify
from collections.abc import Callable
from functools import partial
from syslog import LOG_ERR, LOG_INFO
from typing import TYPE_CHECKING, Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_KVS_NO_MERGE, FLUX_KVS_SYNC
from flux.core.handle import Flux
from flux.future import FutureExt
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.host import Module
from fluxlet.modules.content import batch
from fluxlet.modules.content.ending import nothing_stays
from fluxlet.modules.kvs import treeobj
from fluxlet.modules.kvs.checkpoint import Checkpoint, checkpoint, newest, period
from fluxlet.modules.kvs.lookup import Found, Value, at_hand, walk
from fluxlet.modules.kvs.namespaces import Namespaces
from fluxlet.modules.kvs.near import deaf_watchers, near_content
from fluxlet.modules.kvs.operation import Op
from fluxlet.modules.kvs.requests import RelayRequest
from fluxlet.modules.kvs.space import PRIMARY, Commit, Space, Then
from fluxlet.modules.kvs.taps import Taps
from fluxlet.modules.kvs.transaction import Transaction
from fluxlet.modules.kvs.walker import Run
from fluxlet.payload import decode, read_object

if TYPE_CHECKING:
    from flux.core.future_state import RpcState

_encode = msgspec.json.Encoder().encode
#: Operations of all commits that are made as one.
_MOST_OPERATIONS = 10_000


class Leader(Namespaces):
    """See the module.

    Arguments: `transaction-merge=0` makes each commit by itself; `initial-rootref=BLOBREF` starts there.
    """

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self._merge = True
        self._initial: bytes | None = None
        for arg in args:
            key, _, value = arg.partition("=")
            if key == "transaction-merge" and value.isdigit():
                self._merge = value != "0"
            elif key == "initial-rootref" and treeobj.is_blobref(value):
                self._initial = value.encode()
            else:
                raise OSError(errno.EINVAL, f"{arg}: unknown argument")
        self._period = period(broker.config)
        super().__init__(handle, broker, *args)
        self.taps = Taps()
        self._ready: dict[Space, None] = {}  # those whose queues are to be looked at
        self._closed = False  # no more commits are taken
        self._stopped = False
        self._idle: FutureExt | None = None  # fulfilled when no commit is left
        self._work = self.module.reactor.timer(0.0, 0.0, self._begin_all)
        self._timer = self.module.reactor.timer(0.0, 0.0, self._checkpoint_due)
        self._checkpointed = -1

    async def start_service(self) -> None:
        """Begins where the instance has ended, if it did not begin now."""
        self.ask(b"content.store", treeobj.EMPTY_DIR, self._have_empty)
        space = Space(PRIMARY, self.broker.owner, self.empty)
        if self._initial is not None:
            space.root = self._initial
        else:
            try:
                answer = await self.handle.rpc("content.checkpoint-get")
            except OSError as exc:
                if exc.errno not in (errno.ENOENT, errno.ENOSYS):
                    raise
            else:
                self._restore(space, newest(answer))
        self.spaces[PRIMARY] = space
        starting, self._starting = self._starting or [], None
        for then in starting:
            then(None)
        self._set_timer()

    def _have_empty(self, state: RpcState) -> None:
        """The empty directory, which namespaces begin with, is in the content store."""
        if state.errnum:
            self.broker.log.write(LOG_ERR, f"content.store: {state.error_text()}", self.name)

    @property
    def has_root(self) -> bool:
        """True if it has begun, and has not ended."""
        return self._starting is None and not self._closed

    def _restore(self, space: Space, last: Checkpoint) -> None:
        """Goes on from the last checkpoint of an earlier life of the instance."""
        space.root, space.seq = last.rootref.encode(), last.sequence
        self._checkpointed = last.sequence
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last.timestamp)) if last.timestamp else "N/A"
        self.broker.log.write(LOG_INFO, f"restored KVS from checkpoint on {date}", self.name)

    def by_messages(self) -> None:
        """What is kept back is committed while that can be had by a call, and nothing is kept back from here on.

        The commits that come as messages would have to wait for it, and it may be theirs to make.
        """
        for space in list(self.spaces.values()):
            if space.ahead is not None:
                space.ahead()
                space.ahead = None
                if not space.busy:
                    space.look_again()

    async def finish_service(self) -> None:
        """No more commits are taken; those that were are made, and checkpointed, if that is to stay."""
        self._closed = True
        if self._working():
            await FutureExt(self._wait_idle, flux_handle=self.handle)
        primary = self.spaces.get(PRIMARY)
        if primary is not None and primary.seq and not nothing_stays(self.broker):
            try:
                await self.handle.rpc("content.checkpoint-put", {"value": checkpoint(primary.root, primary.seq)})
            except OSError as exc:
                if exc.errno != errno.ENOSYS:
                    raise

    def _working(self) -> bool:
        return any(space.busy or space.queue for space in self.spaces.values())

    def _wait_idle(self, future: FutureExt) -> None:
        self._idle = future

    def stop_service(self) -> None:
        """The commits that wait fail."""
        self._closed = self._stopped = True
        self._work.stop()
        self._timer.stop()
        for then in self._starting or ():
            then(OSError(errno.ENOSYS, None))
        for space in self.spaces.values():
            for commit in space.queue:
                self.refuse(space, [commit], OSError(errno.ENOSYS, None))
            space.queue.clear()
        self.taps.end(OSError(errno.ENOSYS, None))
        super().stop_service()

    # Commits.

    def submit(self, space: Space, commit: Commit) -> None:
        """As of Kvs."""
        if self._closed:
            self.refuse(space, [commit], OSError(errno.ENOSYS, None))
            return
        space.queue.append(commit)
        if not space.busy:
            self._ready[space] = None
            self._work.start()

    def apply(self, namespace: str, operations: list[Op], flags: int, then: Then) -> None:
        """Makes a commit of a module of this broker: now, if no other is under way."""
        space = self.spaces.get(namespace)
        if space is None or self._closed:
            then(b"", OSError(errno.EOPNOTSUPP if space is None else errno.ENOSYS, None))
            return
        self._names += 1
        space.queue.append(Commit(f"transaction_req.{self.broker.rank}.{self._names}", flags, operations, None, then))
        if not space.busy:
            self._begin(space)

    def peek(self, key: str, most: int, settled: bool = False) -> bytes | None:
        """The value of a key in the primary namespace, if all of it is in memory, in no more than `most` blobs.

        It is as it has been committed; `settled`: with what somebody keeps back for a moment, as if that had been.
        """
        space = self.spaces[PRIMARY]
        if settled and space.ahead is not None and not space.ahead():
            return None
        found = at_hand(space.root, key, self.directories) or self._walked(space.root, key)
        if not isinstance(found, Value):
            if found is None or not found.endswith(treeobj.VAL_TAIL):
                return None
            return a2b_base64(treeobj.data_of(found))
        content = near_content(self.broker)
        if content is None or len(found.refs) > most:
            return None
        start = len(self.prefix)
        blobs: list[bytes] = []
        for ref in found.refs:
            blob = content.blob(unhexlify(ref[start:]))
            if blob is None:
                return None
            blobs.append(blob)
        return b"".join(blobs)

    def _walked(self, root: bytes, key: str) -> Found | None:
        """What is at a key; None for nothing, or if that takes asking anybody else."""
        try:
            next(walk(root, key, 0, self.directories))
        except StopIteration as stop:
            found: Found = stop.value
            return found
        except OSError:
            return None
        return None

    @request_handler("relaycommit")
    def relaycommit(self, msg: Message) -> None:
        """Payload: `RelayRequest`: a commit of another rank, which hears of it by an event. No response."""
        request = decode(msg, RelayRequest)
        operations = request.ops if type(request.ops) is list else []
        commit = Commit(request.name, request.flags, operations, None)
        space = self.spaces.get(request.namespace)
        if space is None:
            self._publish_error(request.namespace, [commit], errno.EOPNOTSUPP)
        else:
            self.submit(space, commit)

    def _begin_all(self) -> None:
        """Everybody has been heard: makes what has been asked for."""
        ready, self._ready = self._ready, {}
        for space in ready:
            if not space.busy:
                self._begin(space)

    def _take(self, space: Space) -> list[Commit]:
        """The commits that are next, to be made as one."""
        queue = space.queue
        first = queue.popleft()
        commits = [first]
        if self._merge and not first.alone and not first.flags & (FLUX_KVS_NO_MERGE | FLUX_KVS_SYNC):
            count = len(first.operations)
            while queue and queue[0].flags == first.flags and not queue[0].alone and count < _MOST_OPERATIONS:
                count += len(queue[0].operations)
                commits.append(queue.popleft())
        return commits

    def _begin(self, space: Space) -> None:
        """Makes the next commit."""
        if not space.queue:
            return
        space.busy = True
        commits = self._take(space)
        if len(commits) == 1:
            operations = commits[0].operations
        else:
            operations = [operation for commit in commits for operation in commit.operations]
        transaction = Transaction(space.root, space.name, self.directories, self.blobref)
        ended = partial(self._applied, space, commits, transaction)
        steps = transaction.run(operations)
        try:
            need = next(steps)
        except StopIteration:
            ended(None, None)
        except OSError as exc:
            ended(None, exc)
        else:
            Run(steps, self.loader, self.pause, _no_links, ended).go(need)

    def _applied(
        self, space: Space, commits: list[Commit], transaction: Transaction, _: Any, error: OSError | None
    ) -> None:
        """A transaction has been applied, in memory."""
        if error is not None:
            if len(commits) > 1:
                # Only the guilty one is to fail.
                for commit in reversed(commits):
                    commit.alone = True
                    space.queue.appendleft(commit)
            else:
                self.refuse(space, commits, error)
            self._next(space)
            return
        self.opcount.add(sum(len(commit.operations) for commit in commits))
        if transaction.blobs and not self._handed_over(transaction):
            stored = partial(self._stored, space, commits, transaction)
            self.ask(b"content.store-many", batch.encode_blobs(list(transaction.blobs.values())), stored)
        else:
            self._lasting(space, commits, transaction)

    def _handed_over(self, transaction: Transaction) -> bool:
        """The module `content` has the blobs of a transaction, without a message and without making digests again."""
        content = near_content(self.broker)
        if content is None:
            return False
        start = len(self.prefix)
        blobs = [(unhexlify(ref[start:]), blob) for ref, blob in transaction.blobs.items()]
        return content.take(blobs, sum(map(len, transaction.blobs.values())))

    def _stored(self, space: Space, commits: list[Commit], transaction: Transaction, state: RpcState) -> None:
        """The content store has the blobs of a transaction, or not."""
        if state.errnum:
            self.refuse(space, commits, OSError(state.errnum, state.error_text()))
            self._next(space)
        else:
            self._lasting(space, commits, transaction)

    def _lasting(self, space: Space, commits: list[Commit], transaction: Transaction) -> None:
        """A transaction may have to be put on disk before anybody sees it."""
        if not commits[0].flags & FLUX_KVS_SYNC:
            self._install(space, commits, transaction)
            return

        def put(state: RpcState) -> None:
            if state.errnum:
                self.refuse(space, commits, OSError(state.errnum, state.error_text()))
                self._next(space)
            else:
                self._checkpointed = space.seq + 1
                self._install(space, commits, transaction)

        self._put_checkpoint(transaction.rootref, space.seq + 1, put)

    def _install(self, space: Space, commits: list[Commit], transaction: Transaction) -> None:
        """The new root is the current one: all are told."""
        if space.removed:
            self.refuse(space, commits, OSError(errno.EOPNOTSUPP, None))
            self._next(space)
            return
        root = transaction.rootref
        if root == space.root:
            space.empty_commits += 1
        transaction.keep()
        space.root = root
        space.seq += 1
        if self.taps and space.name == PRIMARY:
            self.taps.committed(commits)
        self.announce(
            space.name,
            "setroot",
            lambda: {
                "namespace": space.name,
                "rootseq": space.seq,
                "rootref": root.decode(),
                "names": [commit.name for commit in commits],
                "keys": transaction.keys,
                "owner": space.owner,
            },
            deaf_watchers(self.broker, space.name, transaction.keys),
        )
        self.installed(space)
        raw = b'{"rootref":"%b","rootseq":%d}\0' % (root, space.seq)
        for commit in commits:
            if commit.request is not None:
                self.answer(commit.request, raw)
            elif commit.then is not None:
                commit.then(root, None)
        self._next(space)

    def _next(self, space: Space) -> None:
        """The namespace is free for its next commit."""
        space.busy = False
        if space.behind:
            space.look_again()
        if space.queue and not self._stopped:
            self._ready[space] = None
            self._work.start()
        elif self._idle is not None and not self._working():
            idle, self._idle = self._idle, None
            idle.fulfill()

    def refuse(self, space: Space, commits: list[Commit], error: OSError) -> None:
        """Commits have failed."""
        errnum = error.errno or errno.EIO
        self._publish_error(space.name, commits, errnum)
        for commit in commits:
            if commit.request is not None:
                self.handle.respond_error(commit.request, errnum, error.strerror)
            elif commit.then is not None:
                commit.then(b"", error)

    def _publish_error(self, namespace: str, commits: list[Commit], errnum: int) -> None:
        names = [commit.name for commit in commits]
        self.announce(namespace, "error", lambda: {"namespace": namespace, "names": names, "errnum": errnum})

    # Checkpoints.

    def _put_checkpoint(self, root: bytes, seq: int, then: Callable[[RpcState], None]) -> None:
        self.ask(b"content.checkpoint-put", _encode({"value": checkpoint(root, seq)}) + b"\0", then)

    def _set_timer(self) -> None:
        if self._period:
            self._timer.reset(self._period, self._period)
        else:
            self._timer.stop()

    def _checkpoint_due(self) -> None:
        space = self.spaces[PRIMARY]
        if self._stopped or space.seq == self._checkpointed:
            return
        seq = space.seq

        def put(state: RpcState) -> None:
            if state.errnum:
                self.broker.log.write(LOG_ERR, f"periodic checkpoint: {state.error_text()}", self.name)
            else:
                self._checkpointed = max(self._checkpointed, seq)

        self._put_checkpoint(space.root, seq, put)

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration. EINVAL for a checkpoint-period that is none."""
        self._period = period(read_object(msg))
        self._set_timer()
        self.answer(msg)


def leader_of(broker: Broker) -> Leader | None:
    """The module `kvs` of this broker, if it is the leader and may be called; else messages are the way."""
    module = broker.modules.get("kvs")
    if isinstance(module, Module) and module.may_be_called:
        leader = module.instance
        if isinstance(leader, Leader) and leader.has_root:
            return leader
    return None


def _no_links(name: str, then: Callable[[Any, OSError | None], None]) -> None:
    """Transactions do not enter namespaces."""
    then(None, OSError(errno.EINVAL, None))
