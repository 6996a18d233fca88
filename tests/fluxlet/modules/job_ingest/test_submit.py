"""Submissions: what is taken, what is refused and how, and ids."""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from service_recordings import RECORDINGS
from without_modules import without_modules

import flux
import flux.job
from flux.job import JobspecV1
from flux.job._sign import sign
from fluxlet.modules.job_ingest.settings import read

CASES = [json.loads(line) for line in (RECORDINGS / "jobs-jobspec-validation.jsonl").read_text().splitlines()]

#: (errno, text) where we do better than the reference (spec 06, 18.9), or it has no text.
BETTER: dict[str, tuple[int, str]] = {
    "json list": (errno.EINVAL, "jobspec: a jobspec must be a JSON object, not an array"),
    "deps str elem": (errno.EPERM, "dependency must be a mapping"),
    "queue int": (errno.EINVAL, "attributes.system.queue must be a string"),
    "resources empty": (errno.EINVAL, "jobspec has no resources"),
    "tasks empty": (errno.EINVAL, "jobspec has no tasks"),
    "slot unknown label": (errno.EINVAL, "task slot 'foo' is not the label of a resource"),
    "duration -1": (errno.EINVAL, "duration must not be negative"),
}


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    """One broker for all of this file: nothing here needs a fresh one."""
    with without_modules("sched-simple"):
        broker = BrokerThread()
    yield broker.uri
    broker.stop()


@pytest.fixture
def handle(uri: str) -> Iterator[flux.Flux]:
    with flux.Flux(uri) as opened:
        yield opened


def submit(handle: flux.Flux, text: str, flags: int = 0, urgency: int = 0) -> Any:
    payload = {"J": sign(text.encode()).decode(), "urgency": urgency, "flags": flags}
    return handle.rpc("job-ingest.submit", payload).get()


def plain(**system: Any) -> str:
    jobspec = JobspecV1.from_command(["true"])
    for key, value in system.items():
        jobspec.setattr(f"system.{key}", value)
    return jobspec.dumps()


@pytest.mark.parametrize("case", CASES, ids=[case["label"] for case in CASES])
def test_jobspecs(handle: flux.Flux, case: dict[str, Any]) -> None:
    text = case["jobspec"] if isinstance(case["jobspec"], str) else json.dumps(case["jobspec"])
    outcome = case["submit"]
    better = BETTER.get(case["label"])
    if better is None and outcome.get("ok"):
        assert submit(handle, text)["id"] > 0
        return
    found = error_of(lambda: submit(handle, text))
    assert found == (better or (outcome["errnum"], outcome["errstr"]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"flags": 1}, (errno.EPROTO, "invalid job flags")),
        ({"flags": 16}, (errno.EPROTO, "invalid job flags")),
        ({"urgency": 32}, (errno.EINVAL, "urgency range is [0:31]")),
        ({"urgency": -1}, (errno.EINVAL, "urgency range is [0:31]")),
        ({"J": 3}, (errno.EPROTO, "error decoding job request: Protocol error")),
        ({"J": "foo"}, (errno.EINVAL, "could not unwrap jobspec: Invalid argument")),
        ({"J": "a.b.none"}, (errno.EINVAL, "could not unwrap jobspec: Invalid argument")),
        (
            {"J": sign(b"{}", os.getuid() + 1).decode()},
            (errno.EPERM, f"signer={os.getuid() + 1} != requestor={os.getuid()}"),
        ),
    ],
)
def test_requests_that_are_refused(handle: flux.Flux, change: dict[str, Any], error: tuple[int, str]) -> None:
    payload = {"J": sign(plain().encode()).decode(), "urgency": 16, "flags": 0, "extra": None, **change}
    assert error_of(lambda: handle.rpc("job-ingest.submit", payload).get()) == error


def test_ids_are_in_the_order_of_the_requests(handle: flux.Flux) -> None:
    jobspec = plain()
    futures = [flux.job.submit_async(handle, jobspec) for _ in range(300)]
    ids = [future.get_id() for future in futures]
    assert ids == sorted(set(ids))


def test_one_bad_job_of_a_batch_does_not_harm_the_others(handle: flux.Flux) -> None:
    texts = [plain(), plain(queue=1), plain(dependencies=[{"scheme": "foo", "value": ""}]), "{}", plain()]
    futures = [flux.job.submit_async(handle, text, urgency=0) for text in texts]
    good = [futures[0].get_id(), futures[4].get_id()]
    errors = [error_of(future.get_id) for future in futures[1:4]]
    assert errors == [
        (errno.EINVAL, "attributes.system.queue must be a string"),
        (errno.EINVAL, 'dependency scheme "foo" not supported'),
        (errno.EPERM, "Missing key (attributes)"),
    ]
    listed = {job["id"] for job in handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]}
    assert set(good) <= listed


def test_nothing_is_left_of_a_refused_job(handle: flux.Flux) -> None:
    before = handle.rpc("job-manager.getinfo").get()["max_jobid"]
    with pytest.raises(OSError, match="not supported"):
        submit(handle, plain(dependencies=[{"scheme": "foo", "value": ""}]))
    jobid = handle.rpc("job-manager.getinfo").get()["max_jobid"]
    assert jobid > before
    # Its directory is removed behind the answer, before anything that is asked now.
    handle.rpc("kvs.commit", {"namespace": "primary", "flags": 0, "ops": []}).get()
    key = flux.job.JobID(jobid).kvs
    missing = error_of(lambda: handle.rpc("kvs.lookup", {"key": key, "flags": 1, "namespace": "primary"}).get())
    assert missing[0] == errno.ENOENT


def test_the_environment_is_kept_in_j_only(handle: flux.Flux) -> None:
    jobid = flux.job.JobID(submit(handle, plain(environment={"SECRET": "x"}), urgency=0)["id"])

    def value(key: str) -> bytes:
        payload = {"key": f"{jobid.kvs}.{key}", "flags": 0, "namespace": "primary"}
        return base64.b64decode(handle.rpc("kvs.lookup", payload).get()["val"]["data"])

    assert b"SECRET" not in value("jobspec")
    assert b"SECRET" in base64.b64decode(value("J").split(b".")[1])
    assert json.loads(value("jobspec"))["attributes"]["system"] == {"duration": 0}


def test_without_validation_the_job_manager_still_looks(handle: flux.Flux) -> None:
    assert error_of(lambda: submit(handle, '{"resources":[]}', flags=8)) == (
        errno.EINVAL,
        "failed to unpack duration: Object item not found: attributes",
    )
    assert submit(handle, '{"attributes":{"system":{"duration":0}}}', flags=8)["id"] > 0


def test_deep_and_odd_json_is_refused(handle: flux.Flux) -> None:
    deep = plain(x=json.loads("[" * 200 + "]" * 200))
    for text in (deep, plain(x=1 << 70), '{"a\\u0000b": 1}', '{"a": NaN}', '{"a": 1'):
        found = error_of(lambda text=text: submit(handle, text))
        assert found[0] == errno.EINVAL
        assert found[1].startswith("jobspec: invalid JSON: ")


def test_a_jobspec_too_large(handle: flux.Flux) -> None:
    found = error_of(lambda: submit(handle, plain(x="x" * (11 << 20))))
    assert found[0] == errno.E2BIG
    assert "ingest.buffer-size is 10485760" in found[1]


def test_getinfo_and_stats(handle: flux.Flux) -> None:
    assert handle.rpc("job-ingest.getinfo").get()["timestamp"] > 0
    stats = handle.rpc("job-ingest.stats-get").get()["pipeline"]
    assert set(stats) == {"frobnicator", "validator"}
    assert set(stats["validator"]) == {"running", "requests", "errors", "trash", "backlog", "pids"}


PLUGIN = """
from flux.job.validator import ValidatorPlugin

class Validator(ValidatorPlugin):
    def __init__(self, parser):
        parser.add_argument("--least", type=int)
    def configure(self, args):
        self.least = args.least
    def validate(self, job):
        if job.jobspec["attributes"]["system"]["duration"] < self.least:
            return (22, f"at least {self.least} seconds")
"""

CHANGER = """
from flux.job.frobnicator import FrobnicatorPlugin

class Frobnicator(FrobnicatorPlugin):
    def frob(self, jobspec, userid, urgency, flags):
        if jobspec.duration == 13:
            raise ValueError("unlucky")
        jobspec.setattr("system.project", "x")
"""


def test_plugins_of_users_run_in_processes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "least.py").write_text(PLUGIN)
    (tmp_path / "change.py").write_text(CHANGER)
    config = {
        "ingest": {
            "validator": {"plugins": ["jobspec", str(tmp_path / "least.py")], "args": ["--least=3"]},
            "frobnicator": {"plugins": [str(tmp_path / "change.py")]},
        }
    }
    with without_modules("sched-simple"):
        broker = BrokerThread(config=config)
    try:
        with broker.open() as handle:
            futures = [flux.job.submit_async(handle, plain(duration=float(n)), urgency=0) for n in (5, 1, 13, 4)]
            good = [futures[0].get_id(), futures[3].get_id()]
            assert good == sorted(good)
            assert error_of(futures[1].get_id) == (errno.EINVAL, "at least 3 seconds")
            assert error_of(futures[2].get_id) == (errno.EPERM, "unlucky")
            answer = handle.rpc("job-manager.getattr", {"id": good[0], "attrs": ["jobspec"]}).get()
            assert answer["jobspec"]["attributes"]["system"]["project"] == "x"
            with pytest.raises(OSError, match="Missing key"):
                submit(handle, "{}")
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"validator": {"plugins": 1}}, "error parsing [ingest.validator] config table: Expected array, got integer"),
        ({"buffer-size": "x"}, "error parsing [ingest] config table: buffer-size:"),
        ({"validator": {"args": ["--require-version=2"]}}, "--require-version=2"),
    ],
)
def test_configurations_that_will_not_do(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match="config table") as error:
        read({"ingest": config})
    assert text in str(error.value)


def test_big_jobs_may_have_to_be_instances(tmp_path: Path) -> None:
    config = {
        "ingest": {"validator": {"plugins": ["jobspec", "require-instance"], "require-instance": {"mincores": 2}}}
    }
    with without_modules("sched-simple"):
        broker = BrokerThread(config=config)
    try:
        with broker.open() as handle:
            submit(handle, plain())
            big = JobspecV1.from_command(["true"], cores_per_task=2)
            text = "Direct job submission disabled for jobs >= 2 cores. Please use flux-batch(1) or flux-alloc(1)"
            assert error_of(lambda: submit(handle, big.dumps())) == (errno.EINVAL, text)
            submit(handle, JobspecV1.from_nest_command(["true"], cores_per_slot=2).dumps())
    finally:
        broker.stop()
