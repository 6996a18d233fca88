"""Broken and strange frames, very many of them, against a running instance (spec 01, 1.5 and 1.6).

Rules:
- Everything follows from the seed: frame number N is the same in every run on the same source. A failure names
  both; `python tests/fluxlet/test_fuzz.py SEED N` shows that frame.
- The frames go over many short connections. One ends with the first frame that says nothing of where the next one
  begins, and the broker has handled all of it when it has closed it.
- Another client pings all the time, in a process of its own, and every answer is checked.
- What would end the instance, or have it run a command, is not sent: that an owner's valid request is obeyed is
  no defect.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Bystander, RawPeer, connect, frame, log_lines
from started import StartedInstance

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_NODEID_ANY
from flux.message import Message
from flux.wire import Framer, encode

SEED = 20240229
FRAMES = 40_000
NIGHTLY_FRAMES = 3_000_000
VECTORS = Path(__file__).parent.parent / "vectors" / "wire-messages.json"

#: Payloads that methods understand, for mutations to have something to start from.
PAYLOADS: dict[str, list[Any]] = {
    "attr.get": [{"name": "rank"}, {"name": "nosuch"}],
    "attr.set": [{"name": "test.fuzz", "value": "1"}, {"name": "test.fuzz", "value": "1", "force": True}],
    "attr.rm": [{"name": "test.fuzz"}],
    "barrier.enter": [{"name": "fuzz", "nprocs": 3}, {"name": "fuzz", "nprocs": 1}],
    "barrier.update": [{"name": "fuzz", "count": 1, "nprocs": 3, "owner": 0}],
    "broker.conf-builtin": [{"keys": ["rc1_path", "confdir"]}],
    "broker.getenv": [{"names": ["HOME", "FUZZ"]}],
    "broker.setenv": [{"env": {"FUZZ": "1"}}, {"env": {"FUZZ": None}}],
    "broker.debug": [{"op": "setbit", "flags": 4}, {"op": "set", "flags": 0}],
    "broker.rusage": [{"who": "self"}, {"who": "children"}],
    "config.load": [{"fuzz": {"a": 1, "b": [1, 2]}}, {}],
    "event.publish": [
        {"topic": "fuzz.a", "flags": 0},
        {"topic": "fuzz.a", "flags": 4, "payload": "e30A"},
        {"topic": "barrier.exit", "flags": 0, "payload": "eyJuYW1lIjoiZnV6eiIsIm93bmVyIjowLCJlcnJudW0iOjB9AA=="},
    ],
    "event.subscribe": [{"topic": "fuzz"}, {"topic": ""}],
    "event.unsubscribe": [{"topic": "fuzz"}],
    "groups.get": [{"name": "broker.online"}, {"name": "fuzz"}],
    "groups.join": [{"name": "fuzz"}],
    "groups.leave": [{"name": "fuzz"}],
    "groups.update": [{"update": {"fuzz": [{"ranks": "0-3", "set": True}, {"ranks": "2", "set": False}]}}],
    "log.append": ["<48>1 2026-11-22T02:16:18.213975Z 0 fuzz 1 - - hello"],
    "log.cancel": [{"matchtag": 1}],
    "log.dmesg": [{"follow": False}, {"follow": True, "nobacklog": True}],
    "log.setattr": [{"name": "log-stderr-level", "value": "2"}],
    "runat.push": [{"name": "fuzz", "commands": ["true"]}],
    "service.add": [{"service": "fuzz"}],
    "service.remove": [{"service": "fuzz"}],
    "state-machine.monitor": [{"final": 5}, {}],
    "state-machine.post": [{"event": "fuzz"}],
    "fuzz.method": [{"a": 1}],
}
#: In no frame, however it came about: requests whose every form ends the instance, or a module of it.
FORBIDDEN = (b"shutdown.start", b".shutdown")

#: Replacements for pieces of JSON text.
JSON_ODDITIES = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"123456789012345678901234567890",
    b"0.5",
    b'1e999,"y":12345678901234567890',
    b'""',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b"[]",
    b"{}",
    b"[[]]",
    b'{"":0}',
    b"{",
    b"]",
    b'"',
    b",",
    b"[" * 300 + b"]" * 300,
    b"[" * 3000,
    b'{"a":' * 1200 + b'"\\u0000"' + b"}" * 1200,
    b'"' + b"x" * 300 + b'"',
    b" " * 70,
]
TOPICS = [
    b"",
    b".",
    b"a",
    b"a.",
    b".a",
    b"..",
    b"fuzz",
    b"broker",
    b"broker.",
    b"*",
    b"\xff\xfe",
    b"x" * 254,
    b"x" * 300,
]
NUMBERS = [0, 1, 2, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


def topics(uri: str) -> list[str]:
    """Every method of every service that an instance has."""
    from fluxlet.broker.attributes import Attributes
    from fluxlet.broker.broker import Broker
    from fluxlet.broker.builtins import load_builtins

    attributes = {"rank": "0", "size": "1", "hostname": "h", "hostlist": "h", "security.owner": "0", "local-uri": uri}
    broker = Broker(Attributes(dict(attributes)))
    load_builtins(broker)
    found = {topic.decode() for module in broker.modules.values() for topic in module.core.dispatcher.exact}
    broker.shutdown()
    return sorted(found | set(PAYLOADS))


class Mutator:
    """Makes frames, the same ones for the same seed.

    Args:
        seed: any number.
        methods: topics to ask for.
    """

    def __init__(self, seed: int, methods: list[str]) -> None:
        self.random = random.Random(seed)
        self.seeds = [bytes.fromhex(case["frame_hex"]) for case in _golden() if "frame_hex" in case]
        for topic in methods:
            for payload in PAYLOADS.get(topic, [None, {}]):
                text = payload if isinstance(payload, str) else json.dumps(payload)
                raw = None if payload is None else text.encode() + b"\0"
                for flags in (0, 4, 16):
                    for rolemask in (0, 2):
                        message = Message.request(topic.encode(), raw, matchtag=1, flags=flags)
                        message._rolemask = rolemask
                        message._userid = 1234 if rolemask else 0xFFFFFFFF
                        self.seeds.append(encode(message))
        self.parts = [_parts(seed) for seed in self.seeds]

    def next(self) -> bytes:
        """Another frame; now and then it is one that may pass for two, or for half of one."""
        while True:
            data = self._splice() if self.random.random() < 0.12 else self._rebuild()
            if not any(topic in data for topic in FORBIDDEN):
                return data

    def _splice(self) -> bytes:
        """A frame whose bytes were changed without regard for what they mean."""
        pick = self.random
        data = bytearray(pick.choice(self.seeds))
        match pick.randrange(7):
            case 0 | 1 | 2:
                for _ in range(pick.randint(1, 8)):
                    # The prefix is 8 bytes of what may be 50: it gets its share from the other cases.
                    place = pick.randrange(8 if len(data) > 8 else 0, len(data))
                    data[place] ^= 1 << pick.randrange(8)
            case 3:
                del data[pick.randrange(len(data)) :]
            case 4:
                other = pick.choice(self.seeds)
                data[pick.randrange(len(data)) :] = other[pick.randrange(len(other)) :]
            case 5:
                (size,) = struct.unpack_from("!I", data, 4)
                lie = pick.choice([0, size - 1, size + 1, size + pick.randrange(100), 1 << 20, 1 << 30, 0xFFFFFFFF])
                struct.pack_into("!I", data, 4, max(0, lie))
            case _:
                data[pick.randrange(len(data))] = pick.randrange(256)
        return bytes(data)

    def _rebuild(self) -> bytes:
        """A frame whose parts were changed, in a frame that is right about its length."""
        pick = self.random
        parts = list(pick.choice(self.parts))
        for _ in range(pick.choice((1, 1, 1, 2, 3))):
            self._change(parts)
        body = bytearray()
        for part in parts:
            size = len(part)
            if pick.random() < 0.002:
                size = pick.choice([0, size + 1, size + 200, 0xFFFFFFFF])
            body += struct.pack("!BI", 255, size) if size > 254 or pick.random() < 0.03 else bytes([size])
            body += part
        return frame(bytes(body))

    def _change(self, parts: list[bytes]) -> None:
        pick = self.random
        case = pick.randrange(100)
        if case < 40 and len(parts) > 2:
            place = len(parts) - 2
            parts[place] = self._mutate_text(parts[place])
        elif case < 75 and len(parts[-1]) == 20:
            parts[-1] = self._mutate_header(parts[-1])
        elif case < 85 and len(parts) > 2:
            # Between the route delimiter and the payload: the topic, in nearly all of them.
            place = parts.index(b"") + 1 if b"" in parts[:-1] else 0
            parts[min(place, len(parts) - 2)] = self._mutate_topic(parts[min(place, len(parts) - 2)])
        elif case < 95:
            for _ in range(pick.randint(1, 3)):
                parts.insert(0, pick.choice([b"a", b"x" * 36, b"\0", b"\xff" * 40, b"y" * 255, b"z" * 9]))
        elif case < 97 and len(parts) > 1:
            del parts[pick.randrange(len(parts))]
        elif case < 99:
            parts.insert(pick.randrange(len(parts)), pick.choice([b"", b"\0", b"{}\0", b"q" * 300]))
        else:
            place = pick.randrange(len(parts))
            parts[place] = parts[place][: pick.randrange(len(parts[place]) + 1)]

    def _mutate_topic(self, topic: bytes) -> bytes:
        pick = self.random
        match pick.randrange(4):
            case 0:
                return pick.choice(TOPICS)
            case 1:
                return topic.partition(b".")[0] + b"." + pick.choice([b"disconnect", b"cancel", b"ping", b"stats-get"])
            case 2:
                return topic + pick.choice([b".", b"\0", b"x", b"\xff", b"." * 250])
        return topic[: pick.randrange(len(topic) + 1)]

    def _mutate_text(self, text: bytes) -> bytes:
        """A payload: other values, other bytes, the NUL at its end in the wrong place or missing."""
        pick = self.random
        match pick.randrange(8):
            case 0 | 1 | 2:
                # A value, as near as one can tell from the text: from behind a colon or bracket to the next mark.
                starts = [place + 1 for place, byte in enumerate(text) if byte in b":[{,"] or [0]
                start = pick.choice(starts)
                ends = [place for place in range(start, len(text)) if text[place] in b",]}\0"] or [len(text)]
                return text[:start] + pick.choice(JSON_ODDITIES) + text[ends[0] if pick.random() < 0.8 else ends[-1] :]
            case 3:
                return pick.choice(JSON_ODDITIES) + b"\0"
            case 4:
                return text[: pick.randrange(len(text) + 1)]
            case 5:
                place = pick.randrange(len(text) + 1)
                return text[:place] + pick.randbytes(pick.randint(1, 8)) + text[place:]
            case 6 if text:
                changed = bytearray(text)
                changed[pick.randrange(len(text))] ^= 1 << pick.randrange(8)
                return bytes(changed)
        return text.replace(b"\0", pick.choice([b"", b"\0\0", b"\0x", b" \0"]))

    def _mutate_header(self, header: bytes) -> bytes:
        pick = self.random
        fields = list(struct.unpack(">BBBBIIII", header))
        match pick.randrange(12):
            case 0:
                fields[2] = pick.choice([1, 2, 4, 8, 8, 2, 4, 3 if pick.random() < 0.1 else 1])
            case 1 | 2 | 3:
                fields[3] ^= 1 << pick.randrange(8)
            case 4:
                fields[3] = pick.randrange(256)
            case 5 if pick.random() < 0.1:
                fields[pick.randrange(2)] = pick.randrange(256)
            case _:
                fields[pick.randrange(4, 8)] = pick.choice(NUMBERS)
        return struct.pack(">BBBBIIII", *fields)


def _golden() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(VECTORS.read_text())["messages"]
    return cases


def _parts(data: bytes) -> list[bytes]:
    """The parts of a good frame."""
    parts = []
    pos = 8
    while pos < len(data):
        size = data[pos]
        pos += 1
        if size == 255:
            (size,) = struct.unpack_from("!I", data, pos)
            pos += 4
        parts.append(data[pos : pos + size])
        pos += size
    return parts


def ends_connection(data: bytes) -> bool:
    """True if nothing that follows these bytes would be read as a frame of its own."""
    framer = Framer()
    try:
        framer.feed(data)
        while framer.next() is not None:
            pass
    except OSError:
        return True
    return framer.buffered > 0


def connections(mutator: Mutator, total: int) -> Iterator[tuple[int, bytes]]:
    """What to send over each connection, with the number of its first frame."""
    first = 0
    batch: list[bytes] = []
    limit = mutator.random.randint(1, 200)
    for number in range(total):
        data = mutator.next()
        batch.append(data)
        if len(batch) == limit or ends_connection(data):
            yield first, b"".join(batch)
            first, batch, limit = number + 1, [], mutator.random.randint(1, 200)
    if batch:
        yield first, b"".join(batch)


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


def attack(instance: StartedInstance, seed: int, total: int) -> None:
    """Sends so many frames, and looks whether anybody is the worse for it."""
    mutator = Mutator(seed, topics(instance.uri))
    with flux.Flux(instance.uri) as handle:
        pid = int(handle.attr_get("broker.pid"))
        # What is worse than a client's mistake is to be seen.
        handle.attr_set("log-stderr-level", "2")
    underway: deque[tuple[int, RawPeer]] = deque()
    began = time.monotonic()
    count = first = memory = 0
    try:
        with Bystander(instance.uri) as bystander:
            for first, data in connections(mutator, total):
                if not memory and first > total // 10:
                    memory = resident(pid)
                count += 1
                peer = connect(instance.uri)
                underway.append((first, peer))
                _say(peer, data)
                if len(underway) == 4:
                    _hear(underway.popleft()[1])
                    assert bystander.alive()
            while underway:
                _hear(underway.popleft()[1])
    except BaseException as exc:
        exc.add_note(f"seed {seed}, frames {underway[0][0] if underway else first} to {first + 200}")
        raise
    finally:
        for _, peer in underway:
            peer.sock.close()
    seconds = time.monotonic() - began
    grown = resident(pid) - memory
    print(
        f"{total} frames on {count} connections in {seconds:.1f} s: {total / seconds:.0f}/s; the bystander had "
        f"{bystander.answers} answers, the slowest in {bystander.longest} s; memory {grown >> 20:+} MiB"
    )
    with flux.Flux(instance.uri) as handle:
        assert handle.rpc("broker.ping", {"still": "here"}).get()["still"] == "here"
        clients = handle.rpc("connector-local.stats-get").get()["server"]["clients"]
        others = [client["pid"] for client in clients if client["pid"] != os.getpid()]
        # Some frame may have had the job shell started.
        assert [Path(f"/proc/{pid}/comm").read_text() for pid in others] in ([], ["flux-shell\n"])
        assert not [line for line in log_lines(handle) if "module runtime failure" in line]
        modules = handle.rpc("module.list").get()["mods"]
        assert {module["status"] for module in modules} == {1}
    assert bystander.answers > 100
    assert grown < 64 << 20


def _say(peer: RawPeer, data: bytes) -> None:
    """Sends all there is to send; the broker may have closed the connection before it has read everything."""
    try:
        peer.sock.sendall(data)
        peer.sock.shutdown(1)
    except (BrokenPipeError, ConnectionResetError):
        pass


def _hear(peer: RawPeer) -> None:
    """Reads what the broker answers, which has to be frames, until it closes the connection."""
    for _ in peer.messages():
        pass
    peer.sock.close()


@pytest.fixture
def instance(start_instance: Any) -> StartedInstance:
    """An instance to be attacked."""
    started: StartedInstance = start_instance()
    return started


def test_nobody_is_the_worse_for_many_thousand_mutated_frames(instance: StartedInstance) -> None:
    attack(instance, SEED, FRAMES)


#: What no decoder takes; with members that some method may look for.
UNREADABLE = [
    b"\xff\xfe\0",
    b"[" * 100_000 + b"\0",
    b'{"a":' * 100_000 + b"\0",
    b'{"jobs":' + b"[" * 100_000 + b"\0",
    b'{"id":1,"jobspec":' + b"[" * 100_000 + b"\0",
    b'{"jobs":[{"id":1,"userid":0,"service":"kvs","J":"","R":{}}]}\0',
]


@pytest.mark.parametrize("raw", UNREADABLE, ids=range(len(UNREADABLE)))
def test_no_method_is_brought_down_by_what_cannot_be_read(instance: StartedInstance, raw: bytes) -> None:
    with flux.Flux(instance.uri) as handle:
        for topic in topics("local:///nowhere"):
            if not topic.encode().endswith(FORBIDDEN):
                message = Message(FLUX_MSGTYPE_REQUEST)
                message.topic, message.aux1 = topic, FLUX_NODEID_ANY
                message.set_raw(raw)
                handle.send(message)
        assert handle.rpc("broker.ping", {"seq": 7}).get()["seq"] == 7
        modules = {module["name"] for module in handle.rpc("module.list").get()["mods"]}
        assert {"job-ingest", "job-manager", "job-exec", "job-shell", "sched-simple", "kvs", "resource"} <= modules
        assert handle.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootref"]


@pytest.mark.nightly
def test_nobody_is_the_worse_for_a_night_of_them(instance: StartedInstance) -> None:
    attack(instance, SEED + 1, NIGHTLY_FRAMES)


if __name__ == "__main__":
    source = Mutator(int(sys.argv[1]), topics("local:///nowhere"))
    wanted = int(sys.argv[2])
    for at, sent in connections(source, wanted + 1):
        if at <= wanted:
            print(at, sent[:2000])
