"""Tree objects, directories, transactions and walks, without a broker."""

from __future__ import annotations

import base64
import errno
import gc
import hashlib
import json
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux.constants import FLUX_KVS_APPEND, FLUX_KVS_READDIR, FLUX_KVS_READLINK, FLUX_KVS_TREEOBJ
from fluxlet.modules.kvs import treeobj
from fluxlet.modules.kvs.directories import Directories
from fluxlet.modules.kvs.directory import LEAF, Directory, decode
from fluxlet.modules.kvs.keys import MAX_NESTED, normalize
from fluxlet.modules.kvs.lookup import Value, walk
from fluxlet.modules.kvs.transaction import Transaction

VECTORS = Path(__file__).parents[3] / "vectors"


def blobref(blob: bytes) -> bytes:
    return b"sha1-" + hashlib.sha1(blob).hexdigest().encode()


EMPTY = blobref(treeobj.EMPTY_DIR)


class Tree:
    """A namespace with a content store of its own.

    Args:
        remembers: directories stay in memory.
    """

    def __init__(self, remembers: bool = True) -> None:
        self.blobs = {EMPTY: treeobj.EMPTY_DIR}
        self.root = EMPTY
        self.directories = Directories()
        self.remembers = remembers

    def _run(self, steps: Generator[Any, Any, Any]) -> Any:
        value: Any = None
        try:
            while True:
                need = steps.send(value)
                if isinstance(need, str):
                    assert need == "other"
                    value = self.root
                elif need is None:
                    value = None
                elif need in self.blobs:
                    value = decode(self.blobs[need])
                else:
                    raise OSError(errno.ENOENT, "no such blob")
        except StopIteration as stop:
            return stop.value

    def commit(self, *operations: Any) -> bytes:
        if not self.remembers:
            self.directories.clear()
        transaction = Transaction(self.root, "primary", self.directories, blobref)
        self._run(transaction.run(operations))
        self.blobs |= transaction.blobs
        transaction.keep()
        self.root = transaction.rootref
        return self.root

    def get(self, key: str, flags: int = 0) -> Any:
        """What a lookup answers, decoded; the bytes of a value."""
        if not self.remembers:
            self.directories.clear()
        found = self._run(walk(self.root, key, flags, self.directories))
        if isinstance(found, Value):
            return b"".join(self.blobs[ref] for ref in found.refs)
        answer = json.loads(found)
        if not flags and answer["type"] == "val":
            return base64.b64decode(answer["data"])
        return answer


def op(key: str, dirent: Any, flags: int = 0) -> dict[str, Any]:
    return {"key": key, "flags": flags, "dirent": dirent}


def val(data: bytes) -> dict[str, Any]:
    return {"ver": 1, "type": "val", "data": base64.b64encode(data).decode()}


def put(key: str, data: bytes) -> dict[str, Any]:
    return op(key, val(data))


def append(key: str, data: bytes) -> dict[str, Any]:
    return op(key, val(data), FLUX_KVS_APPEND)


def link(key: str, target: str, namespace: str | None = None) -> dict[str, Any]:
    data = {"target": target} if namespace is None else {"namespace": namespace, "target": target}
    return op(key, {"ver": 1, "type": "symlink", "data": data})


@pytest.fixture(params=[True, False], ids=["in memory", "loaded each time"])
def tree(request: pytest.FixtureRequest) -> Tree:
    return Tree(request.param)


def error(call: Any, *args: Any) -> int:
    with pytest.raises(OSError) as info:  # noqa: PT011  # its errno is compared
        call(*args)
    assert info.value.errno is not None
    return info.value.errno


CANONICAL = [json.loads(line) for line in (VECTORS / "kvs-canonical.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CANONICAL, ids=[case["name"] for case in CANONICAL])
def test_blobs_are_those_of_the_reference_byte_for_byte(case: dict[str, Any], tree: Tree) -> None:
    assert [tree.commit(*operations).decode() for operations in case["commits"]] == case["rootrefs"]
    for ref, blob in case["blobs"].items():
        wanted = blob["text"].encode() if "text" in blob else base64.b64decode(blob["b64"])
        assert tree.blobs[ref.encode()] == wanted


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: "." not in name and "\0" not in name), st.binary()))
def test_any_directory_is_encoded_as_json_encodes_it_and_decoded_again(values: dict[str, bytes]) -> None:
    names = {name: value for name, value in values.items() if _encodable(name)}
    tree = Tree()
    tree.commit(*[put(name, value) for name, value in names.items()])
    text = tree.blobs[tree.root]
    assert json.loads(text)["data"].keys() == names.keys()
    again = decode(text)
    assert dict(again.items()) == dict(decode(text).items())
    assert again.encode() == text
    assert not again.irregular
    for name, value in names.items():
        assert tree.get(name) == value


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("step", [1, 7, -1])
def test_a_large_directory_is_in_leaves_and_its_text_is_the_same(step: int) -> None:
    count = 20 * LEAF
    names = [f"k{number:06d}" for number in range(count)]
    order = names[::step] if step in (1, -1) else [names[number * step % count] for number in range(count)]
    directory = Directory(owner := object())
    for name in order:
        directory.set(name, treeobj.val("MQ=="))
    text = directory.encode()
    assert len(directory) == len(set(order))
    assert list(json.loads(text)["data"]) == sorted(set(order))
    assert decode(text).encode() == text
    # A change of one is a change of one leaf.
    changed = directory.copy(object())
    changed.set(order[5], treeobj.val("Mg=="))
    changed.encode()
    assert sum(leaf not in directory.leaves for leaf in changed.leaves) == 1
    assert directory.encode() == text
    assert owner is directory.owner
    for name in order:
        changed.remove(name)
    assert changed.encode() == treeobj.EMPTY_DIR


@pytest.mark.parametrize(
    ("key", "normal"),
    [("a", "a"), (".a..b.", "a.b"), ("..", "."), (".", "."), ("...", "."), ("a.", "a"), ("", ""), ("a b/c", "a b/c")],
)
def test_dots_that_mean_nothing(key: str, normal: str) -> None:
    assert normalize(key) == normal


BAD_TREEOBJS: list[Any] = [
    1,
    "val",
    [],
    {},
    {"ver": 1, "type": "val"},
    {"ver": 2, "type": "val", "data": ""},
    {"ver": 1.0, "type": "val", "data": ""},
    {"ver": True, "type": "val", "data": ""},
    {"ver": 1, "type": "val", "data": "", "more": 1},
    {"ver": 1, "type": "val", "data": 1},
    {"ver": 1, "type": None, "data": ""},
    {"ver": 1, "type": "hdir", "data": {}},
    {"ver": 1, "type": "valref", "data": []},
    {"ver": 1, "type": "valref", "data": "sha1-c0a9faf907dda6216fd73bf81d0b3b21a1a8cb91"},
    {"ver": 1, "type": "valref", "data": ["sha1-C0A9FAF907DDA6216FD73BF81D0B3B21A1A8CB91"]},
    {"ver": 1, "type": "valref", "data": ["sha1-c0"]},
    {"ver": 1, "type": "valref", "data": ["md5-c0a9faf907dda6216fd73bf81d0b3b21a1a8cb91"]},
    {"ver": 1, "type": "dirref", "data": [1]},
    {"ver": 1, "type": "dirref", "data": {}},
    {"ver": 1, "type": "symlink", "data": "a"},
    {"ver": 1, "type": "symlink", "data": {}},
    {"ver": 1, "type": "symlink", "data": {"target": 1}},
    {"ver": 1, "type": "symlink", "data": {"target": "a", "namespace": None}},
    {"ver": 1, "type": "dir", "data": []},
    {"ver": 1, "type": "dir", "data": {"a": 1}},
    {"ver": 1, "type": "dir", "data": {"a": {"ver": 1, "type": "dir", "data": {"b": {}}}}},
]


@pytest.mark.parametrize("dirent", BAD_TREEOBJS, ids=json.dumps)
def test_what_is_no_tree_object_is_refused(dirent: Any, tree: Tree) -> None:
    assert error(tree.commit, put("ok", b"1"), op("a", dirent)) == errno.EINVAL
    assert error(tree.commit, op("a", dirent, FLUX_KVS_APPEND)) == errno.EPROTO
    assert tree.root == EMPTY


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        (op(".", val(b"1")), errno.EINVAL),
        (op("...", None), errno.EINVAL),
        (op("", val(b"1")), errno.EINVAL),
        (op("a\0b", val(b"1")), errno.EINVAL),
        ({"key": "a", "flags": 0}, errno.EPROTO),
        ({**op("a", None), "more": 1}, errno.EPROTO),
        ({"key": 1, "flags": 0, "dirent": None}, errno.EPROTO),
        ({"key": "a", "flags": 0.0, "dirent": None}, errno.EPROTO),
        ({"key": "a", "flags": True, "dirent": None}, errno.EPROTO),
        (["key"], errno.EPROTO),
        ("text", errno.EPROTO),
        (None, errno.EPROTO),
        (op("a", {"ver": 1, "type": "val", "data": "!" * 76}), errno.EPROTO),
        (op("a", {"ver": 1, "type": "dir", "data": {}}, FLUX_KVS_APPEND), errno.EPROTO),
    ],
    ids=repr,
)
def test_operations_that_are_refused_change_nothing(operation: Any, number: int, tree: Tree) -> None:
    assert error(tree.commit, put("ok", b"1"), operation) == number
    assert error(tree.get, "ok") == errno.ENOENT


def test_short_bad_base64_is_kept_as_it_is(tree: Tree) -> None:
    tree.commit(op("a", {"ver": 1, "type": "val", "data": "!!!"}))
    assert tree.get("a", FLUX_KVS_TREEOBJ)["data"] == "!!!"
    assert error(tree.commit, append("a", b"x")) == errno.EPROTO


def test_values_and_directories_replace_each_other(tree: Tree) -> None:
    tree.commit(put("a", b"1"))
    tree.commit(put("a.b.c", b"2"))
    assert tree.get("a.b.c") == b"2"
    tree.commit(put("a", b"3"))
    assert error(tree.get, "a.b.c") == errno.ENOENT
    tree.commit(put("a.b", b"1"), op("a", {"ver": 1, "type": "dir", "data": {}}))
    assert tree.get("a", FLUX_KVS_READDIR)["data"] == {}
    # All of it in one transaction.
    tree.commit(put("x.y", b"1"), put("x.z", b"2"), op("x", None), put("x.y", b"3"), put("q", b"4"), put("q.r", b"5"))
    assert (tree.get("x.y"), tree.get("q.r")) == (b"3", b"5")
    assert error(tree.get, "x.z") == errno.ENOENT


def test_unlinking(tree: Tree) -> None:
    tree.commit(put("a.b.c", b"1"), put("a.v", b"2"))
    root = tree.root
    tree.commit(op("nope", None), op("a.nope.x", None), op("a.v.x", None))
    assert tree.root == root
    tree.commit(op("a.b", None))
    assert tree.get("a", FLUX_KVS_READDIR)["data"].keys() == {"v"}
    tree.commit(op("a.v", None))
    assert tree.get("a", FLUX_KVS_READDIR)["data"] == {}


def test_appending(tree: Tree) -> None:
    for piece in (b"a", b"", b"b" * 100, b"c"):
        tree.commit(append("log", piece))
    assert tree.get("log") == b"a" + b"b" * 100 + b"c"
    assert len(tree.get("log", FLUX_KVS_TREEOBJ)["data"]) == 4
    tree.commit(op("log", None, FLUX_KVS_APPEND))
    assert error(tree.get, "log") == errno.ENOENT
    tree.commit(put("d.x", b"1"), link("l", "d.x"))
    assert error(tree.commit, append("d", b"1")) == errno.EISDIR
    assert error(tree.commit, put("d.y", b"1"), append("d", b"1")) == errno.EISDIR
    assert error(tree.commit, append("l", b"1")) == errno.EOPNOTSUPP


def test_links_are_written_through_but_not_the_last(tree: Tree) -> None:
    tree.commit(put("dir.x", b"1"), link("l", "dir"), link("dangling", "made.by.it"), link("root", "."))
    tree.commit(put("l.y", b"2"), put("dangling.z", b"3"), put("root.w", b"4"))
    assert (tree.get("dir.y"), tree.get("made.by.it.z"), tree.get("w")) == (b"2", b"3", b"4")
    tree.commit(put("l", b"5"))
    assert (tree.get("l"), tree.get("dir.x")) == (b"5", b"1")
    tree.commit(link("o", "dir", "other"))
    assert error(tree.commit, put("o.x", b"1")) == errno.EINVAL
    # The directory behind a link is another one once the link is.
    tree.commit(link("l", "dir"), put("l.q", b"1"), link("l", "made"), put("l.q", b"2"))
    assert (tree.get("dir.q"), tree.get("made.q")) == (b"1", b"2")


def test_chains_of_links(tree: Tree) -> None:
    tree.commit(put("end.x", b"1"), *[link(f"l{n}", f"l{n - 1}" if n > 1 else "end") for n in range(1, 13)])
    assert tree.get(f"l{MAX_NESTED}.x") == b"1"
    tree.commit(put(f"l{MAX_NESTED}.y", b"2"))
    assert tree.get("end.y") == b"2"
    for key in (f"l{MAX_NESTED + 1}.x", f"l{MAX_NESTED + 1}"):
        assert error(tree.get, key) == errno.ELOOP
    assert error(tree.commit, put(f"l{MAX_NESTED + 1}.y", b"3")) == errno.ELOOP
    # Those beside each other do not add up.
    tree.commit(link("end.up", "end"))
    assert tree.get("end" + ".up" * 50 + ".x") == b"1"
    tree.commit(put("end" + ".up" * 50 + ".z", b"4"))
    assert tree.get("end.z") == b"4"


def test_loops_of_links_end(tree: Tree) -> None:
    tree.commit(link("a", "b"), link("b", "a"), link("self", "self.self.x"))
    for key in ("a", "a.x", "self", "self.x"):
        assert error(tree.get, key) == errno.ELOOP
        if "." in key:
            assert error(tree.commit, put(key, b"1")) == errno.ELOOP
    wide = ".".join(["w1"] * 60)
    tree.commit(link("w0", "."), *[link(f"w{n}", wide.replace("w1", f"w{n - 1}")) for n in range(1, 8)])
    assert error(tree.get, "w7.x") == errno.ELOOP
    assert error(tree.commit, put("w7.x", b"1")) == errno.ELOOP


def test_a_link_to_a_link_on_the_way_is_followed_whatever_is_asked_for(tree: Tree) -> None:
    tree.commit(put("d.x", b"1"), link("l1", "l2"), link("l2", "d"), link("d.l", "x"))
    assert tree.get("l1.x", FLUX_KVS_TREEOBJ)["type"] == "val"
    assert tree.get("l1.l", FLUX_KVS_READLINK)["data"] == {"target": "x"}


def test_deep_trees(tree: Tree) -> None:
    tree = Tree()  # in memory: each level is a blob
    key = ".".join(["d"] * 5000)
    tree.commit(put(key, b"1"))
    assert tree.get(key) == b"1"
    tree.commit(op(key, None))
    assert error(tree.get, key) == errno.ENOENT


def test_a_long_walk_takes_only_what_it_needs() -> None:
    tree = Tree(remembers=False)
    tree.commit(put("a.b.c", b"1"), put("x.y.z", b"2"))
    steps = walk(tree.root, "a.b.c", 0, Directories())
    asked: list[Any] = [next(steps)]
    for _ in range(2):
        asked.append(steps.send(decode(tree.blobs[asked[-1]])))
    with pytest.raises(StopIteration):
        steps.send(decode(tree.blobs[asked[-1]]))


def table(entries: Iterable[tuple[str, dict[int, Any]]]) -> list[tuple[str, int, Any]]:
    return [(key, flags, answer) for key, answers in entries for flags, answer in answers.items()]


@pytest.mark.parametrize(
    ("key", "flags", "answer"),
    table(
        [
            ("v", {0: b"1", 1: errno.ENOTDIR, 2: errno.EINVAL, 16: "val", 17: "val", 3: errno.EINVAL}),
            ("long", {0: b"x" * 60, 1: errno.ENOTDIR, 2: errno.EINVAL, 16: "valref"}),
            ("d", {0: errno.EISDIR, 1: "dir", 2: errno.EINVAL, 16: "dirref", 17: "dirref", 3: errno.EINVAL}),
            (".", {0: errno.EISDIR, 1: "dir", 2: errno.EISDIR, 16: "dirref"}),
            ("lv", {0: b"1", 1: errno.ENOTDIR, 2: "symlink", 16: "symlink", 3: errno.ENOTDIR}),
            ("ld", {0: errno.EISDIR, 1: "dir", 2: "symlink", 16: "symlink"}),
            ("lroot", {0: errno.EISDIR, 1: "dir", 2: "symlink"}),
            ("dangling", {0: errno.ENOENT, 1: errno.ENOENT, 2: "symlink", 16: "symlink"}),
            ("nope", dict.fromkeys((0, 1, 2, 16, 17), errno.ENOENT)),
            ("nope.x", dict.fromkeys((0, 1, 2, 16, 17), errno.ENOENT)),
            ("v.x", dict.fromkeys((0, 1, 2, 16, 17), errno.ENOENT)),
            ("two", {16: "dirref", 0: errno.ENOTRECOVERABLE, 1: errno.ENOTRECOVERABLE}),
            ("two.x", {0: errno.ENOTRECOVERABLE}),
            ("gone", {16: "dirref", 1: errno.ENOENT}),
        ]
    ),
)
def test_what_a_lookup_answers(key: str, flags: int, answer: Any, tree: Tree) -> None:
    missing = "sha1-" + "0" * 40
    tree.commit(
        put("v", b"1"),
        put("long", b"x" * 60),
        put("d.x", b"2"),
        link("lv", "v"),
        link("ld", "d"),
        link("lroot", "."),
        link("dangling", "nowhere"),
        op("two", {"ver": 1, "type": "dirref", "data": [missing, missing]}),
        op("gone", {"ver": 1, "type": "dirref", "data": [missing]}),
    )
    if isinstance(answer, int):
        assert error(tree.get, key, flags) == answer
    elif isinstance(answer, str):
        assert tree.get(key, flags)["type"] == answer
    else:
        assert tree.get(key, flags) == answer


def test_directories_that_others_have_written_are_read_and_made_canonical() -> None:
    tree = Tree(remembers=False)
    long = base64.b64encode(b"y" * 60).decode()
    blob = json.dumps(
        {
            "ver": 1,
            "type": "dir",
            "data": {
                "z": {"ver": 1, "type": "val", "data": "MQ=="},
                "a": {"ver": 1, "type": "val", "data": long},
                "d": {"ver": 1, "type": "dir", "data": {"x": {"ver": 1, "type": "val", "data": "Mg=="}}},
            },
        }
    ).encode()
    tree.root = blobref(blob)
    tree.blobs[tree.root] = blob
    assert (tree.get("z"), tree.get("a")) == (b"1", b"y" * 60)
    assert tree.get("d", FLUX_KVS_READDIR)["data"].keys() == {"x"}
    tree.commit(put("new", b"3"))
    root = json.loads(tree.blobs[tree.root])["data"]
    assert [entry["type"] for entry in root.values()] == ["valref", "dirref", "val", "val"]
    assert tree.get("d.x") == b"2"


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"x",
        b"{}",
        b'{"data":{},"type":"val","ver":1}',
        b'{"data":{},"type":"dir","ver":2}',
        b'{"data":{"a":1},"type":"dir","ver":1}',
        b'{"data":{"a":{"data":"","type":"hdir","ver":1}},"type":"dir","ver":1}',
        b'{"data":{"a":{"data":["x"],"type":"dirref","ver":1}},"type":"dir","ver":1}',
        b'{"data":{"\xff":{"data":"","type":"val","ver":1}},"type":"dir","ver":1}',
    ],
)
def test_blobs_that_are_no_directories(blob: bytes) -> None:
    assert error(decode, blob) == errno.ENOTRECOVERABLE


def test_memory_is_bounded_and_what_was_replaced_goes_first() -> None:
    directories = Directories(bound=20_000)
    kept = Directory(None)
    kept.weight = 5_000
    directories.add(b"kept", kept)
    for number in range(100):
        directory = Directory(None)
        directory.weight = 5_000
        ref = b"old%d" % number
        directories.add(ref, directory)
        directories.get(b"kept")
        directories.replaced(ref)
    assert directories.weight <= 20_000
    assert directories.get(b"kept") is kept
    assert len(directories) <= 4


def test_a_directory_larger_than_the_bound_stays_beside_those_that_lead_to_it() -> None:
    directories = Directories(bound=20_000)
    for ref, weight in ((b"root", 500), (b"a", 500), (b"large", 50_000)):
        directory = Directory(None)
        directory.weight = weight
        directories.add(ref, directory)
    for _ in range(3):
        assert all(directories.get(ref) is not None for ref in (b"root", b"a", b"large"))
        directories.add(b"other", Directory(None))


def test_directories_in_memory_keep_nothing_of_those_who_have_made_them() -> None:
    def alive(kind: type) -> int:
        return sum(1 for thing in gc.get_objects() if type(thing) is kind)

    gc.collect()
    before, transactions = alive(Directory), alive(Transaction)
    tree = Tree()
    tree.directories = Directories(bound=20_000)
    for number in range(100):
        tree.commit(put(f"a.b{number}.c", b"x"), put(f"a.b{number}.d", 100 * b"y"))
    gc.collect()
    assert len(tree.directories) < 60
    assert alive(Directory) - before <= len(tree.directories)
    assert alive(Transaction) == transactions
