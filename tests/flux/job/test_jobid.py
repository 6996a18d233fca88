"""Job ids: every spelling both ways (spec 06, section 1), held to the recorded pairs."""

from __future__ import annotations

import copy
import json
import locale
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flux.job
from flux.core import fluid
from flux.job import JobID
from flux.wrapper import InvalidArguments

RECORDS = [
    json.loads(line) for line in (Path(__file__).parents[2] / "vectors/jobs-fluid.jsonl").read_text().splitlines()
]
PAIRS = [record for record in RECORDS if record["kind"] in ("pair", "fluid")]
PARSES = [record for record in RECORDS if record["kind"] == "parse"]
SPELLINGS = ("dec", "hex", "dothex", "kvs", "f58", "f58plain", "words", "emoji")

#: Where we mean to do better (spec 06, 1.3): white space at the end never counts, F58 beyond 64 bits is refused.
BETTER: dict[str, int | None] = {
    "ƒuzzybunny ": 6787342413402046,
    "0.0.0.0 ": 0,
    "😃 ": 0,
    "ƒjpXCZedGfVR": None,
    "ƒZZZZZZZZZZZZ": None,
}


@pytest.fixture(autouse=True)
def _utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUX_F58_FORCE_ASCII", raising=False)
    monkeypatch.setattr(locale, "nl_langinfo", lambda item: "UTF-8")


@pytest.mark.parametrize("record", PAIRS, ids=lambda record: str(record["int"]))
def test_every_spelling_is_the_recorded_one_and_reads_back(record: dict[str, Any]) -> None:
    jobid = JobID(record["int"])
    for name in SPELLINGS:
        assert getattr(jobid, name) == jobid.encode(name) == flux.job.id_encode(jobid, name.upper()) == record[name]
        assert flux.job.id_parse(record[name]) == record["int"]
    if record["kind"] == "fluid":
        parts = [record[name] for name in ("timestamp", "generator", "sequence")]
        assert fluid.make(*parts) == record["int"]
        assert fluid.timestamp(record["int"]) == parts[0]


@pytest.mark.parametrize("record", PARSES, ids=lambda record: ascii(record["input"]))
def test_text_is_read_as_recorded(record: dict[str, Any]) -> None:
    text = record["input"]
    wanted = BETTER[text] if text in BETTER else record.get("int")
    if wanted is not None:
        assert JobID(text) == JobID(text.encode()) == wanted
        return
    with pytest.raises(ValueError, match="is not a valid Flux jobid") as info:
        JobID(text)
    assert str(info.value) == f"{text} is not a valid Flux jobid"
    with pytest.raises(OSError, match="Invalid argument"):
        flux.job.id_parse(text)


@given(st.integers(0, 2**64 - 1), st.sampled_from(SPELLINGS))
def test_any_id_survives_any_spelling(number: int, name: str) -> None:
    assert fluid.parse(fluid.ENCODERS[name](number)) == number


@given(st.text(max_size=30))
def test_any_text_is_an_id_or_a_value_error(text: str) -> None:
    try:
        number = fluid.parse(text)
    except ValueError:
        return
    assert 0 <= number < 2**64


def test_a_jobid_is_a_number_that_shows_itself_as_f58() -> None:
    jobid = JobID("0x12d687")
    assert (str(jobid), f"{jobid}", f"{jobid:d}", repr(jobid)) == ("ƒ7Kze", "ƒ7Kze", "1234567", "JobID(1234567)")
    assert json.dumps(jobid) == "1234567"
    assert jobid == 1234567
    assert hash(jobid) == hash(1234567)
    assert type(jobid + 1) is int
    for other in (copy.copy(jobid), pickle.loads(pickle.dumps(jobid)), JobID(jobid)):
        assert (other, other.orig, type(other)) == (jobid, "0x12d687", JobID)


@pytest.mark.parametrize("forced", [True, False])
def test_f58_is_ascii_where_the_locale_is_or_the_user_says_so(monkeypatch: pytest.MonkeyPatch, forced: bool) -> None:
    if forced:
        monkeypatch.setenv("FLUX_F58_FORCE_ASCII", "")
    else:
        monkeypatch.setattr(locale, "nl_langinfo", lambda item: "ANSI_X3.4-1968")
    assert JobID(1234567).f58 == str(JobID(1234567)) == "f7Kze"


@pytest.mark.parametrize(("value", "error"), [(None, ValueError), (1.5, InvalidArguments), ([], InvalidArguments)])
def test_what_is_no_id(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        JobID(value)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_beyond_64_bits_has_no_spelling(number: int) -> None:
    jobid = JobID(number)
    for show in (str, repr, JobID.encode):
        with pytest.raises(OverflowError):
            show(jobid)


def test_an_unknown_spelling_is_eproto() -> None:
    with pytest.raises(OSError, match="EPROTO"):
        JobID(1).encode("foo")


def test_ids_end_when_their_time_does_not_fit() -> None:
    with pytest.raises(OverflowError, match="run out"):
        fluid.make(1 << 40, 0, 0)
