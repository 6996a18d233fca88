"""Entries of eventlogs as text (RFC 18; spec 06, 5.2): of exec.eventlog, output and input (spec 07, 4.2, 5.6).

Entries are made by the hundred thousand: they are put together as text, in the order of keys that the reference has.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from json.encoder import encode_basestring as quoted
from typing import Any

from flux.core.codec import dump_payload


def entry(timestamp: float, name: str, context: str = "") -> str:
    """One line; `context` is JSON text, or empty for none."""
    if context:
        return f'{{"timestamp":{timestamp!r},"name":"{name}","context":{context}}}\n'
    return f'{{"timestamp":{timestamp!r},"name":"{name}"}}\n'


def compact(value: Any) -> str:
    """A value as JSON text without white space."""
    import json

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def output_header(timestamp: float, ntasks: int) -> str:
    """The first entry of `output`."""
    counts = f'{{"stdout":{ntasks},"stderr":{ntasks}}}'
    encodings = '{"stdout":"UTF-8","stderr":"UTF-8"}'
    return entry(timestamp, "header", f'{{"version":1,"encoding":{encodings},"count":{counts},"options":{{}}}}')


def input_header(timestamp: float) -> str:
    """The first entry of `input`."""
    context = '{"version":1,"encoding":{"stdin":"UTF-8"},"count":{"stdin":1},"options":{}}'
    return entry(timestamp, "header", context)


def data_context(stream: str, rank: str, data: bytes) -> str:
    """The context of output: as text if it is UTF-8, else in base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        encoded = b2a_base64(data, newline=False).decode()
        return f'{{"stream":"{stream}","rank":"{rank}","encoding":"base64","data":"{encoded}"}}'
    return f'{{"stream":"{stream}","rank":"{rank}","data":{quoted(text)}}}'


def eof_context(stream: str, rank: str) -> str:
    """The context of the end of a stream."""
    return f'{{"stream":"{stream}","rank":"{rank}","eof":true}}'


def log_context(rank: int, level: int, message: str, component: str | None) -> str:
    """The context of a message of the shell's."""
    part = f',"component":{quoted(component)}' if component else ""
    return f'{{"rank":{rank},"level":{level},"message":{quoted(message)}{part}}}'


def redirect_context(stream: str, ranks: Sequence[int], path: str) -> str:
    """The context of a stream that goes to a file."""
    from flux.idset import IDset

    text = str(ranks[0]) if len(ranks) == 1 else f"[{IDset(list(ranks))}]"
    return f'{{"stream":"{stream}","rank":"{text}","path":{quoted(path)}}}'


def payload(value: Any) -> bytes:
    """A JSON payload as it goes on the wire."""
    raw = dump_payload(value)
    assert raw is not None
    return raw
