"""Plugins of the commands that submit jobs (spec 08, 6.7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux.cli.batch import BatchCmd
from flux.cli.bulksubmit import BulkSubmitCmd
from flux.cli.plugin import CLIPluginRegistry
from flux.cli.submit import SubmitCmd
from flux.job import JobspecV1

ACCOUNT = """
from flux.cli.plugin import CLIPlugin

class Account(CLIPlugin):
    def __init__(self, prog):
        super().__init__(prog, prefix="site", version="1.2")
        self.add_option("--account", metavar="NAME", help="Whom to charge")
        self.add_option("--hold", action="store_true")

    def preinit(self, args):
        if args.hold:
            args.urgency = "hold"
        if self.prog == "batch" and args.job_name is None:
            args.job_name = "ours"

    def modify_jobspec(self, args, jobspec):
        if args.account is not None:
            jobspec.setattr("site.account", args.account)
        jobspec.setattr("site.word", jobspec.tasks[0]["command"][0])

    def validate(self, jobspec):
        if jobspec.attributes["system"]["site"].get("account") == "nobody":
            raise ValueError("there is no such account")

    def help(self, option):
        return "What the account of a job is for." if option == "--site-account" else None
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where plugins are; one is there."""
    monkeypatch.setenv("FLUX_CLI_PLUGINPATH", f"/no/such:{tmp_path}")
    monkeypatch.delenv("FLUX_CLI_PLUGINPATH_OVERRIDE", raising=False)
    (tmp_path / "account.py").write_text(ACCOUNT)
    (tmp_path / "notes.txt").write_text("no plugin")
    return tmp_path


def made(words: list[str]) -> Any:
    command = SubmitCmd("submit")
    return command.jobspec_create(command.parse(words))


def test_an_option_of_a_plugin_changes_the_jobspec(directory: Path) -> None:
    jobspec = made(["--site-account=me", "true"])
    assert jobspec.getattr("site") == {"account": "me", "word": "true"}
    assert made(["true"]).getattr("site") == {"word": "true"}


def test_a_plugin_changes_options_before_they_are_used(directory: Path) -> None:
    command = SubmitCmd("submit")
    args = command.parse(["--site-hold", "true"])
    command.jobspec_create(args)
    assert args.urgency == "hold"
    batch = BatchCmd("batch")
    jobspec = batch.jobspec_create(batch.process_script(batch.parse(["-n1", "--wrap", "true"])))
    assert jobspec.getattr("job.name") == "ours"


def test_a_plugin_refuses_a_job(directory: Path) -> None:
    with pytest.raises(ValueError, match="there is no such account"):
        made(["--site-account=nobody", "true"])


def test_a_plugin_sees_each_of_many_commands(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = BulkSubmitCmd("bulksubmit")
    seen = []
    command.submit_async = lambda args, jobspec=None: seen.append(jobspec.getattr("site.word"))  # type: ignore[assignment,method-assign,misc,return-value]
    args = command.parse(["{}", ":::", "one", "two"])
    for variant in command.create_commands(args):
        command._submission(variant, "")
    assert seen == ["one", "two"]


def test_a_plugin_in_the_place_of_one_that_everybody_has_sees_each_command_too(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "account.py").write_text(ACCOUNT.replace('"site"', '"resources"').replace("--account", "--shape"))
    assert BulkSubmitCmd("bulksubmit").plugins.foreign
    assert "ResourcesPlugin: an option is another plugin's: ignored" in caplog.text
    (directory / "account.py").unlink()
    assert not BulkSubmitCmd("bulksubmit").plugins.foreign


def test_help_and_list(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help=site-account"], ["--help=--site-account"], ["--help=account"]):
        with pytest.raises(SystemExit) as ended:
            SubmitCmd("submit").parse(words)
        assert ended.value.code == 0
        assert capsys.readouterr().out == "--site-account=NAME\n    What the account of a job is for.\n"
    with pytest.raises(SystemExit):
        SubmitCmd("submit").parse(["--list-plugins"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Account 1.2 --site-account,--site-hold {directory}/account.py"
    assert second.endswith("--resources-shape,--resources-json flux.cli.plugins.shape")
    assert "--site-account=NAME" in SubmitCmd("submit").get_parser().format_help()
    with pytest.raises(ValueError, match="no such option nosuch"):
        SubmitCmd("submit").parse(["--help=nosuch"])


def test_programs_give_options_of_plugins_by_name(directory: Path) -> None:
    jobspec = JobspecV1.from_submit(["true"], site_account="me")
    assert jobspec.getattr("site.account") == "me"
    with pytest.raises(TypeError, match=r"unexpected keyword argument\(s\): 'site_nosuch'"):
        JobspecV1.from_submit(["true"], site_nosuch="me")
    # Without a command there are no plugins.
    with pytest.raises(TypeError, match="site_account"):
        JobspecV1.from_command(["true"]).apply_options(site_account="me")


def test_other_directories_than_those_are_not_looked_at(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_CLI_PLUGINPATH_OVERRIDE", "")
    assert [type(plugin).__name__ for plugin in CLIPluginRegistry("submit").plugins] == ["ResourcesPlugin"]
    assert JobspecV1.from_submit(["true"]).attributes["system"].get("site") is None


@pytest.mark.parametrize(
    ("prefix", "option", "whose"),
    [("site", "--account", "another plugin's"), ("", "--nodes", "the command's"), ("", "--wait", "the command's")],
)
def test_who_wants_an_option_that_there_is_gets_none(
    directory: Path, caplog: pytest.LogCaptureFixture, prefix: str, option: str, whose: str
) -> None:
    (directory / "later.py").write_text(
        "from flux.cli.plugin import CLIPlugin\n"
        "class Later(CLIPlugin):\n"
        "    def __init__(self, prog):\n"
        f"        super().__init__(prog, prefix={prefix!r})\n"
        "        self.add_option('--other')\n"
        f"        self.add_option({option!r})\n"
        "    def validate(self, jobspec):\n"
        "        raise ValueError('it is there')\n"
    )
    assert made(["-N1", "--site-account=me", "true"]).getattr("site.account") == "me"
    assert f"later.py: Later: an option is {whose}: ignored" in caplog.text


def test_a_plugin_that_cannot_be_loaded_is_an_error(directory: Path) -> None:
    (directory / "broken.py").write_text("import nosuch\n")
    with pytest.raises(ImportError, match=r"broken\.py: ModuleNotFoundError: No module named 'nosuch'"):
        made(["true"])


# Those that everybody has.


def test_resources_as_a_shape(tmp_path: Path) -> None:
    slot = {"type": "slot", "count": 2, "label": "task", "with": [{"type": "core", "count": 4}]}
    assert made(["--resources-shape=slot=2/core=4", "true"]).resources == [slot]
    batch = BatchCmd("batch")
    words = ["--resources-shape=slot=2/core=4", "--wrap", "true"]
    assert batch.jobspec_create(batch.process_script(batch.parse(words))).resources == [slot]
    assert JobspecV1.from_submit(["true"], resources_shape="slot=2/core=4").resources == [slot]


def test_resources_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "resources.json"
    resources = [{"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": 3}]}]
    for content in (resources, {"resources": resources, "version": 1}):
        path.write_text(json.dumps(content))
        assert made([f"--resources-json={path}", "true"]).resources == resources
    for text, what in (("{", "Expecting"), ('{"a": 1}', "neither a list")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"--resources-json: {path}: {what}"):
            made([f"--resources-json={path}", "true"])
