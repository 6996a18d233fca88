"""Running validators and frobnicators from Python."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from flux.job import JobspecV1
from flux.job.frobnicator import JobFrobnicator
from flux.job.validator import JobValidator
from flux.job.validator.validator import ValidatorJobInfo, ValidatorResult

VALIDATOR = """
from flux.job.validator import ValidatorPlugin

class Validator(ValidatorPlugin):
    def validate(self, job):
        if job.urgency > 16:
            return (22, "too urgent")
        if job.urgency == 1:
            raise OSError(5, "broken")
"""


def info(urgency: int = 16, **system: Any) -> dict[str, Any]:
    jobspec = JobspecV1.from_command(["true"], cores_per_task=2)
    for key, value in system.items():
        jobspec.setattr(f"system.{key}", value)
    return {"jobspec": jobspec.jobspec, "userid": 0, "flags": 0, "urgency": urgency}


def test_the_default_is_the_rules_of_jobspecs() -> None:
    validator = JobValidator([])
    validator.start()
    assert str(validator.validate(info())) == '{"errnum": 0}'
    bad = info(duration="x")
    result = validator.validate(bad)
    assert (result.success, result.errnum) == (False, 1)
    assert result.errmsg == "attributes.system.duration must be a number"
    assert json.loads(str(validator.validate(json.dumps(bad)))) == {"errnum": 1, "errstr": result.errmsg}
    validator.stop()


def test_plugins_from_files_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "calm.py"
    path.write_text(VALIDATOR)
    validator = JobValidator([f"--plugins=jobspec,require-instance,{path}", "--require-instance-mincores=2"])
    validator.start()
    result = validator.validate(info(urgency=20))
    assert result.errnum == errno.EINVAL
    assert result.errmsg == (
        "Direct job submission disabled for jobs >= 2 cores. Please use flux-batch(1) or flux-alloc(1), too urgent"
    )
    assert validator.validate(info(urgency=1)).errmsg.endswith("broken")


@pytest.mark.parametrize("name", ["nosuch", "/no/such.py"])
def test_a_plugin_that_is_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=f"validator plugin '{name}' not found"):
        JobValidator([f"--plugins={name}"])
    with pytest.raises(ValueError, match=f"frobnicator plugin '{name}' not found"):
        JobFrobnicator([f"--plugins={name}"])


def test_plugins_on_a_path_of_ones_own(tmp_path: Path) -> None:
    place = tmp_path / "flux" / "job" / "validator" / "plugins"
    place.mkdir(parents=True)
    (place / "calm2.py").write_text(VALIDATOR)
    with pytest.raises(ValueError, match="not found"):
        JobValidator(["--plugins=calm2"])
    validator = JobValidator(["--plugins=calm2"], pluginpath=[str(tmp_path)])
    assert validator.validate(info(urgency=20)).errmsg == "too urgent"


def test_results_add_up() -> None:
    result = ValidatorResult()
    for errnum, text in ((1, "a"), (22, "b"), (0, None), (5, "a")):
        result.push_result(errnum, text)
    assert (result.errnum, result.errmsg, result.success) == (22, "a, b", False)


def test_what_a_job_is_to_a_validator() -> None:
    job = ValidatorJobInfo({**info(), "extra": 3})
    assert (job.urgency, job.extra, job.jobinfo["userid"]) == (16, 3, 0)
    with pytest.raises(AttributeError):
        _ = job.nothing
    with pytest.raises(ValueError, match="jobspec"):
        ValidatorJobInfo({})


def test_frobnicators_fill_in_and_constrain(tmp_path: Path) -> None:
    config = tmp_path / "conf.toml"
    config.write_text(
        """
[policy.jobspec.defaults.system]
duration = "1m"
queue = "batch"
[queues.batch]
requires = ["big"]
[queues.small]
parent = "batch"
policy.jobspec.defaults.system.duration = "5s"
"""
    )
    frobnicator = JobFrobnicator([f"--config-file={config}"])
    frobnicator.start()
    jobspec = JobspecV1.from_command(["true"])
    frobnicator.frob(jobspec)
    assert (jobspec.duration, jobspec.queue) == (60.0, "batch")
    assert jobspec.getattr("system.constraints") == {"properties": ["big"]}
    jobspec = JobspecV1.from_command(["true"], queue="small")
    frobnicator.frob(jobspec, 0, 0, 16)
    assert (jobspec.duration, jobspec.getattr("system.constraints")) == (5.0, {"properties": ["big"]})
    with pytest.raises(ValueError, match="Invalid queue 'nope' specified"):
        frobnicator.frob(JobspecV1.from_command(["true"], queue="nope"))
