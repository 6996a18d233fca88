"""Output on its way: lines, characters, limits, labels; and as events."""

from __future__ import annotations

import json

import pytest

from fluxlet.shell import events, streams


def test_lines_wait_for_their_end() -> None:
    lines = streams.Lines()
    assert lines.take(b"a") == b""
    assert lines.take(b"b\nc\nd") == b"ab\nc\n"
    assert lines.take(b"e") == b""
    assert lines.flush() == b"de"
    assert lines.flush() == b""


def test_a_line_without_end_is_cut() -> None:
    lines = streams.Lines()
    half = b"x" * (streams.LONGEST_LINE // 2)
    assert lines.take(half) == b""
    assert lines.take(half) == half + half


def test_a_character_is_not_cut_in_two() -> None:
    text = "aé€𝄞b".encode()
    for cut in range(len(text) + 1):
        characters = streams.Characters()
        pieces = [characters.take(text[:cut]), characters.take(text[cut:]), characters.flush()]
        assert b"".join(pieces) == text
        for piece in pieces:
            piece.decode()


def test_what_is_no_character_is_not_held_back_for_ever() -> None:
    characters = streams.Characters()
    assert characters.take(b"\xff") == b"\xff"
    assert characters.take(b"\xc3") == b"\xc3"  # alone: there is nothing to be gained by waiting
    assert characters.take(b"a\xc3") == b"a"
    assert characters.flush() == b"\xc3"


def test_data_as_events() -> None:
    assert json.loads(events.data_context("stdout", "1", b'a"\n')) == {
        "stream": "stdout",
        "rank": "1",
        "data": 'a"\n',
    }
    # As recorded.
    assert events.data_context("stdout", "0", b"\xc3") == (
        '{"stream":"stdout","rank":"0","encoding":"base64","data":"ww=="}'
    )


def test_headers_are_the_recorded_ones() -> None:
    assert events.output_header(1.5, 2) == (
        '{"timestamp":1.5,"name":"header","context":{"version":1,"encoding":{"stdout":"UTF-8","stderr":"UTF-8"},'
        '"count":{"stdout":2,"stderr":2},"options":{}}}\n'
    )
    assert events.input_header(1.5) == (
        '{"timestamp":1.5,"name":"header","context":{"version":1,"encoding":{"stdin":"UTF-8"},'
        '"count":{"stdin":1},"options":{}}}\n'
    )


def test_a_redirect_names_its_tasks() -> None:
    assert json.loads(events.redirect_context("stdout", range(1), "f"))["rank"] == "0"
    assert json.loads(events.redirect_context("stdout", range(4), "f"))["rank"] == "[0-3]"


def test_labels() -> None:
    assert streams.labeled(b"a\nb\n", b"0: ") == b"0: a\n0: b\n"
    assert streams.labeled(b"a", b"0: ") == b"0: a"


def test_what_passes_the_limit_is_counted() -> None:
    limit = streams.Limit(10)
    assert limit.admits(10)
    assert not limit.admits(14)
    assert (limit.truncated, limit.total) == (14, 24)


@pytest.mark.parametrize(("text", "size"), [("10", 10), ("1k", 1024), ("10M", 10 << 20), ("1G", 1 << 30), ("0", 0)])
def test_sizes(text: str, size: int) -> None:
    assert streams.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "2G", "-1", "1T", "nan"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        streams.parse_size(text)
