"""The KVS against a model of it: whatever several clients do, in whatever order, it is what the specification says.

The model is nested dicts, with none of the code that it judges: directories are dicts, values lists of what was put
and appended, links are strings (spec 05, sections 6.3, 6.4 and 9.3).
"""

from __future__ import annotations

import base64
import copy
import errno
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from in_process import BrokerThread

import flux
from flux.constants import (
    FLUX_KVS_APPEND,
    FLUX_KVS_NO_MERGE,
    FLUX_KVS_READDIR,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_UNIQ,
    FLUX_RPC_STREAMING,
)

PATIENCE = 60.0
CLIENTS = 3
EMPTY = "sha1-c0a9faf907dda6216fd73bf81d0b3b21a1a8cb91"

NAMES = st.sampled_from(["a", "b", "l", "m"])
KEYS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
VALUES = st.sampled_from([b"", b"1", b"x" * 54, b"y" * 55, b"z" * 300])


class Refused(Exception):
    """A request fails.

    Args:
        number: its errno.
    """

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


def find(root: dict[str, Any], key: str, hops: int = 0) -> Any:
    """What is at a key, links followed."""
    at: Any = root
    names = key.split(".") if key != "." else []
    for index, name in enumerate(names):
        if not isinstance(at, dict) or name not in at:
            raise Refused(errno.ENOENT)
        at = at[name]
        if isinstance(at, str):
            if hops == 10:
                raise Refused(errno.ELOOP)
            return find(root, ".".join([at, *names[index + 1 :]]), hops + 1)
    return at


def parent_of(root: dict[str, Any], key: str, make: bool, hops: int = 0) -> tuple[dict[str, Any], str] | None:
    """The directory of a key, and its name there; what is missing is made. None: there is none."""
    at = root
    *path, last = key.split(".")
    for index, name in enumerate(path):
        below = at.get(name)
        if isinstance(below, str):
            if hops == 10:
                raise Refused(errno.ELOOP)
            return parent_of(root, ".".join([below, *path[index + 1 :], last]), make, hops + 1)
        if not isinstance(below, dict):
            if not make:
                return None
            below = at[name] = {}
        at = below
    return at, last


def apply(root: dict[str, Any], key: str, action: str, argument: Any) -> None:
    place = parent_of(root, key, action != "unlink")
    if place is None:
        return
    parent, name = place
    if action == "unlink":
        parent.pop(name, None)
    elif action == "put":
        parent[name] = [argument]
    elif action == "mkdir":
        parent[name] = {}
    elif action == "link":
        parent[name] = argument
    else:
        old = parent.get(name)
        if isinstance(old, dict):
            raise Refused(errno.EISDIR)
        if isinstance(old, str):
            raise Refused(errno.EOPNOTSUPP)
        parent[name] = [*(old or []), argument]


def operation(key: str, action: str, argument: Any) -> dict[str, Any]:
    dirent: Any = None
    if action in ("put", "append"):
        dirent = {"ver": 1, "type": "val", "data": base64.b64encode(argument).decode()}
    elif action == "mkdir":
        dirent = {"ver": 1, "type": "dir", "data": {}}
    elif action == "link":
        dirent = {"ver": 1, "type": "symlink", "data": {"target": argument}}
    return {"key": key, "flags": FLUX_KVS_APPEND if action == "append" else 0, "dirent": dirent}


OPERATIONS = st.one_of(
    st.tuples(KEYS, st.just("put"), VALUES),
    st.tuples(KEYS, st.just("append"), VALUES),
    st.tuples(KEYS, st.just("unlink"), st.none()),
    st.tuples(KEYS, st.just("mkdir"), st.none()),
    st.tuples(KEYS, st.just("link"), KEYS),
)


def kind_of(node: Any) -> str:
    return "dir" if isinstance(node, dict) else "symlink" if isinstance(node, str) else "value"


class Space:
    """A namespace, as the model has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: dict[str, Any] = {}
        self.seq = 0
        self.snapshots: list[tuple[str, dict[str, Any]]] = []


class Watch:
    """A watcher, and what it is to hear."""

    def __init__(self, space: Space, key: str, uniq: bool, future: Any) -> None:
        self.space = space
        self.key = key
        self.uniq = uniq
        self.future = future
        self.last: bytes | None = None
        self.expected: list[bytes | int] = []
        self.ended = False

    def expect(self) -> None:
        """Its key was committed, or it begins."""
        answer = value_at(self.space.root, self.key)
        if self.ended or (self.uniq and answer == self.last):
            return
        self.expected.append(answer)
        self.ended = isinstance(answer, int)
        self.last = answer if isinstance(answer, bytes) else None

    def check(self) -> None:
        """It has heard what it was to hear."""
        for wanted in self.expected:
            try:
                heard: bytes | int = base64.b64decode(self.future.wait_for(PATIENCE).get()["val"]["data"])
                self.future.reset()
            except OSError as exc:
                heard = exc.errno or 0
            assert heard == wanted
        self.expected.clear()


def value_at(root: dict[str, Any], key: str) -> bytes | int:
    """The value at a key, or the errno."""
    try:
        node = find(root, key)
    except Refused as exc:
        return exc.number
    return errno.EISDIR if isinstance(node, dict) else b"".join(node)


class Machine(RuleBasedStateMachine):
    """What clients do. The broker is shared; each run has namespaces of its own."""

    broker: BrokerThread
    runs = 0

    @initialize()
    def begin(self) -> None:
        type(self).runs += 1
        self.clients = [self.broker.open() for _ in range(CLIENTS)]
        self.spaces: list[Space] = []
        self.watches: list[Watch] = []
        self.made = 0
        self.create(0)

    def teardown(self) -> None:
        for space in self.spaces:
            self.clients[0].rpc("kvs.namespace-remove", {"namespace": space.name}, 0).get()
        self.watches.clear()
        self.clients.clear()

    def _space(self, which: int) -> Space:
        return self.spaces[which % len(self.spaces)]

    @rule(client=st.integers(0, CLIENTS - 1))
    def create(self, client: int) -> None:
        if len(self.spaces) == 3:
            return
        self.made += 1
        space = Space(f"model-{self.runs}-{self.made}")
        request = {"namespace": space.name, "rootref": EMPTY, "owner": -1, "flags": 0}
        self.clients[client].rpc("kvs.namespace-create", request, 0).get()
        self.spaces.append(space)

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(client=st.integers(0, CLIENTS - 1), which=st.integers(0, 2))
    def remove(self, client: int, which: int) -> None:
        space = self._space(which)
        self.clients[client].rpc("kvs.namespace-remove", {"namespace": space.name}, 0).get()
        self.spaces.remove(space)
        for watch in [watch for watch in self.watches if watch.space is space]:
            self.watches.remove(watch)
            if not watch.ended:
                watch.expected.append(errno.EOPNOTSUPP)
            watch.check()
        with pytest.raises(OSError, match="not supported"):
            self.clients[client].rpc("kvs.getroot", {"namespace": space.name}).get()

    @rule(
        client=st.integers(0, CLIENTS - 1),
        which=st.integers(0, 2),
        operations=st.lists(OPERATIONS, max_size=4),
        flags=st.sampled_from([0, FLUX_KVS_NO_MERGE]),
    )
    def commit(self, client: int, which: int, operations: list[tuple[str, str, Any]], flags: int) -> None:
        space = self._space(which)
        root = copy.deepcopy(space.root)
        wanted = 0
        try:
            for each in operations:
                apply(root, *each)
        except Refused as exc:
            wanted = exc.number
        request = {"namespace": space.name, "flags": flags, "ops": [operation(*each) for each in operations]}
        future = self.clients[client].rpc("kvs.commit", request)
        if wanted:
            with pytest.raises(OSError) as info:  # noqa: PT011  # its errno is compared
                future.get()
            assert info.value.errno == wanted
            return
        answer = future.get()
        space.root = root
        space.seq += 1
        assert answer["rootseq"] == space.seq
        space.snapshots = [*space.snapshots[-3:], (answer["rootref"], copy.deepcopy(root))]
        keys = {key for key, _, _ in operations}
        for watch in self.watches:
            if watch.space is space and watch.key in keys:
                watch.expect()

    @rule(which=st.integers(0, 2), keys=st.lists(KEYS, min_size=2, max_size=6))
    def commit_together(self, which: int, keys: list[str]) -> None:
        """Puts of several clients at once: merged or not, each is made, in the order of each client."""
        space = self._space(which)
        if any(watch.space is space for watch in self.watches):
            return  # how many answers they get depends on what was merged
        futures = []
        for number, key in enumerate(keys):
            ops = [operation(f"t.{key}", "put", b"%d" % number)]
            request = {"namespace": space.name, "flags": 0, "ops": ops}
            futures.append(self.clients[0].rpc("kvs.commit", request))
            apply(space.root, f"t.{key}", "put", b"%d" % number)
        seqs = [future.get()["rootseq"] for future in futures]
        assert seqs == sorted(seqs)
        assert space.seq < seqs[0]
        assert seqs[-1] <= space.seq + len(keys)
        space.seq = seqs[-1]

    @rule(client=st.integers(0, CLIENTS - 1), which=st.integers(0, 2), key=st.one_of(KEYS, st.just(".")))
    def lookup(self, client: int, which: int, key: str) -> None:
        space = self._space(which)
        self._compare(self.clients[client], {"namespace": space.name}, space.root, key)

    @rule(client=st.integers(0, CLIENTS - 1), which=st.integers(0, 2), age=st.integers(0, 3), key=KEYS)
    def look_back(self, client: int, which: int, age: int, key: str) -> None:
        space = self._space(which)
        if space.snapshots:
            rootref, root = space.snapshots[age % len(space.snapshots)]
            where = {"rootdir": {"ver": 1, "type": "dirref", "data": [rootref]}}
            self._compare(self.clients[client], where, root, key)

    def _compare(self, client: flux.Flux, where: dict[str, Any], root: dict[str, Any], key: str) -> None:
        wanted = value_at(root, key)
        try:
            found: bytes | int = base64.b64decode(
                client.rpc("kvs.lookup", {"key": key, "flags": 0, **where}).get()["val"]["data"]
            )
        except OSError as exc:
            found = exc.errno or 0
        assert found == wanted
        if wanted == errno.EISDIR:
            answer = client.rpc("kvs.lookup", {"key": key, "flags": FLUX_KVS_READDIR, **where}).get()
            kinds = {"dirref": "dir", "symlink": "symlink", "val": "value", "valref": "value"}
            listed = {name: kinds[entry["type"]] for name, entry in answer["val"]["data"].items()}
            assert listed == {name: kind_of(node) for name, node in find(root, key).items()}

    @rule(client=st.integers(0, CLIENTS - 1), which=st.integers(0, 2), key=KEYS, uniq=st.booleans())
    def watch(self, client: int, which: int, key: str, uniq: bool) -> None:
        space = self._space(which)
        flags = FLUX_KVS_WATCH | (FLUX_KVS_WATCH_UNIQ if uniq else 0)
        request = {"key": key, "namespace": space.name, "flags": flags}
        future = self.clients[client].rpc("kvs-watch.lookup", request, flags=FLUX_RPC_STREAMING)
        watch = Watch(space, key, uniq, future)
        watch.expect()
        watch.check()
        if not watch.ended:
            self.watches.append(watch)

    @rule(client=st.integers(0, CLIENTS - 1), which=st.integers(0, 2))
    def wait_version(self, client: int, which: int) -> None:
        space = self._space(which)
        request = {"namespace": space.name, "rootseq": space.seq}
        assert self.clients[client].rpc("kvs.wait-version", request).get()["rootseq"] == space.seq

    @rule()
    def forget(self) -> None:
        """Nothing is in memory."""
        self.broker.call(lambda: self.broker.broker.modules["kvs"].instance.directories.clear())
        self.clients[0].rpc("content.dropcache").get()

    @invariant()
    def watchers_hear_of_every_commit(self) -> None:
        for watch in self.watches:
            watch.check()
        self.watches = [watch for watch in self.watches if not watch.ended]


def run(broker: BrokerThread, examples: int, steps: int) -> None:
    Machine.broker = broker
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None
        ),
    )


def test_what_clients_see_is_what_the_model_says(broker_thread: BrokerThread) -> None:
    run(broker_thread, examples=10, steps=50)


@pytest.mark.nightly
def test_what_clients_see_is_what_the_model_says_for_long(broker_thread: BrokerThread) -> None:
    run(broker_thread, examples=100, steps=200)
