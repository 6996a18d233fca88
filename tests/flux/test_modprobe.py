"""flux.modprobe: what tasks say of themselves, which it takes and in which order, and running them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from flux.modprobe import (
    CodeTask,
    ConfigLoader,
    DependencySolver,
    Modprobe,
    Module,
    Task,
    TaskDB,
    default_flux_confdir,
    rank_conditional,
    task,
)
from fluxlet.broker.builtins import ARGUMENTS, FIRST, LISTED, ON_DEMAND, ONLY_RANK_0


class Surroundings:
    """What conditions of tasks ask."""

    rank = 1

    def attr_get(self, name: str) -> str | None:
        return {"an.attr": "x"}.get(name)

    def conf_get(self, name: str) -> Any:
        return {"a.key": False}.get(name)

    def getenv(self, name: str) -> str | None:
        return {"VARIABLE": ""}.get(name)


# Tasks.


@pytest.mark.parametrize(
    ("text", "ranks"), [("all", range(5)), ("0,2-3", [0, 2, 3]), (">2", [3, 4]), ("<2", [0, 1]), ("", [])]
)
def test_ranks(text: str, ranks: Any) -> None:
    condition = rank_conditional(text)
    assert [rank for rank in range(5) if condition.test(rank)] == list(ranks)
    assert str(condition) == text


@pytest.mark.parametrize("text", ["x", ">", "<-1", ">a", "3-1"])
def test_ranks_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rank_conditional(text)
    with pytest.raises(ValueError, match=r"^t: ranks: "):
        Task("t", ranks=text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"nosuch": 1}, "t: unknown task argument: nosuch"),
        ({"after": "x"}, "t: after must be a list of strings"),
        ({"needs": [1]}, "t: needs must be a list of strings"),
        ({"priority": "high"}, "t: priority must be an integer"),
        ({"ranks": 0}, "t: ranks must be a string"),
        (
            {"before": ["*"], "after": ["a"]},
            "t: '*' in before or after stands for all that there is to say of the order",
        ),
        ({"after": ["*", "a"]}, "t: '*' in before or after stands for all that there is to say of the order"),
    ],
)
def test_tasks_are_checked(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Task("t", **arguments)


@pytest.mark.parametrize(
    ("arguments", "enabled"),
    [
        ({}, True),
        ({"ranks": "0"}, False),
        ({"ranks": ">0"}, True),
        ({"needs_attrs": ["an.attr"]}, True),
        ({"needs_attrs": ["!an.attr"]}, False),
        ({"needs_config": ["a.key"]}, True),
        ({"needs_config": ["another"]}, False),
        ({"needs_config": ["!another"]}, True),
        ({"needs_env": ["VARIABLE"]}, True),
        ({"needs_env": ["VARIABLE", "OTHER"]}, False),
    ],
)
def test_conditions(arguments: dict[str, Any], enabled: bool) -> None:
    assert Task("t", **arguments).enabled(Surroundings()) is enabled  # type: ignore[arg-type]
    assert Task("t", **arguments).enabled()


def test_decorator_makes_a_task_and_leaves_the_function() -> None:
    @task("greet", after=["kvs"])
    def greet(context: Any) -> str:
        return f"hello {context}"

    assert greet("you") == "hello you"
    made = greet.modprobe_task  # type: ignore[attr-defined]
    assert isinstance(made, CodeTask)
    assert (made.name, made.after, made.func) == ("greet", ["kvs"], greet)


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, "a module needs a name"),
        ({"name": "m", "needs_attrs": []}, "m: unknown key: needs_attrs"),
        ({"name": "m", "args": "x"}, "m: args must be a list of strings"),
        ({"name": "m", "exec": 1}, "m: module must be a string, exec true or false"),
    ],
)
def test_modules_are_checked(conf: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        Module(conf)


def test_module_says_what_it_was_made_of() -> None:
    conf = {
        "name": "m",
        "module": "/a/m.py",
        "args": ["x=1"],
        "exec": True,
        "ranks": ">0",
        "priority": 7,
        **{key: [key] for key in ("provides", "requires", "needs", "before", "after")},
        **{key: [key] for key in ("needs-attrs", "needs-config", "needs-env")},
    }
    assert Module(conf).to_dict() == conf


# Who provides what.


def database(*tasks: Task) -> TaskDB:
    db = TaskDB()
    for one in tasks:
        db.add(one)
    return db


def test_last_of_the_highest_priority_provides_a_service() -> None:
    db = database(
        Task("a", provides=["s"], priority=200),
        Task("b", provides=["s"], priority=200),
        Task("c", provides=["s"]),
    )
    assert [one.name for one in db.get_all("s")] == ["b", "a", "c"]
    assert db.get("s").name == "b"
    db.set_alternative("s", "c")
    assert db.get("s").name == "c"
    db.set_alternative("s", "a")
    assert db.get("s").name == "a"
    db.disable("a")
    assert db.get("s").name == "b"
    assert db.has_enabled_provider(["b", "x"], "s")
    assert not db.has_enabled_provider(["a"], "s")
    db.set_alternative("s", None)
    with pytest.raises(ValueError, match=r"^s is disabled$"):
        db.get("s")
    db.enable("c")
    assert db.get("s").name == "c"
    with pytest.raises(ValueError, match=r"^no module x provides s$"):
        db.set_alternative("s", "x")
    with pytest.raises(ValueError, match=r"^no such module or task: x$"):
        db.get("x")


def test_task_of_the_same_name_replaces_the_first() -> None:
    db = database(Task("a", provides=["s"]), Task("a", provides=["t"]))
    assert db.get("a").provides == ["t"]
    assert [one.provides for one in db.all_tasks()] == [["t"]]
    db["alias"] = db.get("a")
    assert db.get("alias").name == "a"
    assert "alias" in db
    assert "x" not in db


# Which tasks, in which order.


def solver(*tasks: Task, surroundings: Any = None) -> DependencySolver:
    return DependencySolver(database(*tasks), surroundings)


def test_what_is_required_is_run_too() -> None:
    found = solver(Task("a", requires=["s"]), Task("b", provides=["s"], requires=["c"]), Task("c"), Task("d"))
    assert found.solve_requirements(["a"]) == {"a", "b", "c"}
    assert found.get_requires(["a", "b", "d"]) == {"a": {"b"}, "b": set(), "d": set()}
    assert found.get_reverse_requires(["a", "b", "d"]) == {"a": set(), "b": {"a"}, "d": set()}


def test_what_is_disabled_is_left_out_unless_it_was_asked_for() -> None:
    found = solver(Task("a", requires=["b"]), Task("b", ranks="0"), surroundings=Surroundings())
    assert found.solve_requirements(["a"]) == {"a"}
    assert found.solve_requirements(["b"], ignore_disabled=True) == set()
    with pytest.raises(ValueError, match=r"^b is disabled$"):
        found.solve_requirements(["b"])
    with pytest.raises(ValueError, match=r"^no such module or task: x$"):
        found.solve_requirements(["x"], ignore_disabled=True)


def test_needs_decide_whether_a_task_is_run() -> None:
    found = solver(Task("a", needs=["b"]), Task("b", needs=["c"]), Task("c", ranks="0"), surroundings=Surroundings())
    assert found.solve_requirements(["a", "b"], ignore_disabled=True) == set()
    assert found.resolve_service("a", ignore_needs=True) == "a"
    assert found.solve_needs(["a", "b", "c"]) == {"c"}
    found.taskdb.enable("c")
    assert found.solve_needs(["a", "b", "c"]) == {"a", "b", "c"}


def test_tasks_that_need_each_other() -> None:
    found = solver(Task("a", needs=["b"]), Task("b", needs=["a"]))
    assert found.solve_needs(["a", "b"]) == {"a", "b"}


def test_order() -> None:
    found = solver(
        Task("a", after=["s", "nobody"]),
        Task("b", provides=["s"], before=["c"]),
        Task("c"),
        Task("first", before=["*"]),
        Task("last", after=["*"]),
    )
    assert found.solve_execution_order(["a", "b", "c", "first", "last"]) == {
        "a": ["b", "first"],
        "b": ["first"],
        "c": ["b", "first"],
        "first": [],
        "last": ["a", "b", "c", "first"],
    }
    assert found.solve_execution_order(["a", "c"]) == {"a": [], "c": []}


def test_circles_are_found() -> None:
    found = solver(Task("a", after=["b"]), Task("b", after=["a"]))
    with pytest.raises(ValueError, match=r"^tasks come after each other in a circle: (a -> b -> a|b -> a -> b)$"):
        found.solve_execution_order(["a", "b"])


def test_what_nobody_uses_any_more_is_removed_as_well() -> None:
    found = solver()
    uses = {"kvs": {"content"}, "content": set(), "watch": {"kvs"}, "jobs": {"kvs"}}
    assert found.solve_removal(uses, ["watch"]) == {"watch"}
    assert found.solve_removal(uses, ["watch", "jobs"]) == {"watch", "jobs", "kvs", "content"}
    with pytest.raises(ValueError, match=r"^kvs still in use by jobs, watch$"):
        found.solve_removal(uses, ["kvs"])
    with pytest.raises(ValueError, match=r"^module x is not loaded$"):
        found.solve_removal(uses, ["x"])


# Files.


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two directories of the search path, a and b."""
    for name in ("a/modprobe.d", "a/rc1.d", "b"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("FLUX_MODPROBE_PATH", f"{tmp_path}/a")
    monkeypatch.setenv("FLUX_MODPROBE_PATH_APPEND", f"{tmp_path}/b")
    return tmp_path


def test_files_are_found_in_order(places: Path) -> None:
    names = ["a/modprobe.toml", "a/modprobe.d/1.toml", "a/modprobe.d/2.toml", "b/modprobe.toml"]
    rcs = ["a/rc1.py", "a/rc1.d/1.py", "b/rc1.py"]
    for name in (*names, *rcs, "a/modprobe.d/README"):
        (places / name).touch()
    said: list[str] = []
    loader = ConfigLoader(ConfigLoader.build_searchpath(), said.append)
    assert [str(file.relative_to(places)) for file in loader.get_toml_files()] == names
    assert [str(file.relative_to(places)) for file in loader.get_rc_files()] == rcs
    assert said[0] == f"loading {places}/a/modprobe.toml"


def test_places_without_settings_are_ours_and_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUX_MODPROBE_PATH", raising=False)
    monkeypatch.delenv("FLUX_MODPROBE_PATH_APPEND", raising=False)
    ours, machine = ConfigLoader.build_searchpath("libexecdir")
    assert (Path(ours) / "rc1.py").exists()
    assert Path(machine) == default_flux_confdir() / "modprobe"


def test_updates_and_alternatives_of_a_file(places: Path) -> None:
    file = places / "a" / "modprobe.toml"
    file.write_text(
        """
        alternatives.s = "one"
        one.args = ["x=1"]
        two.disabled = true
        [[modules]]
        name = "one"
        provides = ["s"]
        [[modules]]
        name = "two"
        provides = ["s"]
        """
    )
    modprobe = Modprobe()
    modprobe.add_modules(file)
    assert modprobe.taskdb.get("s").name == "one"
    one, two = modprobe.modules()
    assert (one.args, two.disabled) == (["x=1"], True)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("modules = 3", "modules must be an array of tables"),
        ("[[modules]]\nname = 'm'\ncolor = 'red'", "m: unknown key: color"),
        ("m.args = []", "no module m to update"),
        ("m = 3", "m must be a table"),
        ("alternatives.s = 'm'", "no module m provides s"),
        ("alternatives.s = 1", "alternatives.s must be a string"),
        ("[[modules]]\nname = 'm'\n[m]\ndisabled = 1", "m: disabled must be true or false"),
        ("=", "Invalid statement (at line 1, column 1)"),
    ],
)
def test_errors_name_the_file(places: Path, text: str, error: str) -> None:
    file = places / "m.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file}: {error}')}"):
        Modprobe().add_modules(file)


def test_our_description_agrees_with_the_order_in_which_an_instance_loads() -> None:
    from flux.conf_builtin import conf_builtin_get

    modprobe = Modprobe()
    modprobe.add_modules(Path(conf_builtin_get("datadir")) / "modprobe" / "modprobe.toml")
    order = [name for name in LISTED if name not in FIRST]
    assert {module.name for module in modprobe.modules()} <= {*order, *ON_DEMAND}
    for service, name in (("sched", "sched-simple"), ("content-backing", "content-sqlite")):
        assert modprobe.taskdb.get(service).name == name
        for module in modprobe.taskdb.get_all(service)[1:]:
            modprobe.disable(module.name)
    for module in modprobe.modules():
        if module.disabled:
            continue
        assert (str(module.ranks) == "0") == (module.name in ONLY_RANK_0)
        assert module.args == ARGUMENTS.get(module.name, [])
        for other in (*module.after, *module.requires):
            provider = modprobe.taskdb.get(other).name
            assert order.index(provider) < order.index(module.name)


# Running.


def test_tasks_run_when_those_before_them_are_done_and_others_beside_them() -> None:
    modprobe = Modprobe()
    meeting = threading.Barrier(2, timeout=60)
    done: list[str] = []

    def add(name: str, func: Any, **kwargs: Any) -> None:
        modprobe.add_task(CodeTask(name, func, **kwargs))

    add("a", lambda context: meeting.wait())
    add("b", lambda context: meeting.wait())
    add("c", lambda context: done.append("c"), after=["a", "b"])
    assert modprobe.run(modprobe.get_deps(["a", "b", "c"])) == 0
    assert done == ["c"]


def test_failure_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    modprobe = Modprobe()

    def fail(context: Any) -> None:
        raise OSError(5, "the disk is full")

    modprobe.add_task(CodeTask("bad", fail))
    modprobe.add_task(CodeTask("next", lambda context: print("never"), after=["bad"]))
    assert modprobe.run(modprobe.get_deps(["bad", "next"])) == 1
    assert capsys.readouterr() == ("", "bad: the disk is full\n")


def test_options_of_modules() -> None:
    context = Modprobe().context
    context.setopt("m", "a=1 b=2")
    context.setopt("s", "c=3")
    assert context.getopts("m", default=["z"], also=["s"]) == ["z", "a=1", "b=2", "c=3"]
    context.setopt("m", "d=4", overwrite=True)
    assert context.getopts("m", default=["z"], also=["s"]) == ["d=4", "c=3"]
    context.set("key", 1)
    assert (context.get("key"), context.get("other", 2)) == (1, 2)


def test_programs_that_fail_raise() -> None:
    context = Modprobe().context
    context.bash("true")
    with pytest.raises(subprocess.CalledProcessError):
        context.bash("exit 3")


# In an instance: the command.


def flux(uri: str, *words: str, **environ: str) -> tuple[str, str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "fluxlet", *words],
        env={**os.environ, "FLUX_URI": uri, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


MODULES = """
[[modules]]
name = "base"
module = "{0}/m.py"
[[modules]]
name = "top"
module = "{0}/m.py"
provides = ["roof"]
requires = ["base"]
after = ["base"]
args = ["x=1"]
"""
MODULE = "from flux.brokermod import BrokerModule\nclass M(BrokerModule):\n    pass\n"


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody with two modules of his own."""
    (tmp_path / "m.py").write_text(MODULE)
    (tmp_path / "modprobe.d").mkdir()
    (tmp_path / "modprobe.d" / "own.toml").write_text(MODULES.format(tmp_path))
    return {"FLUX_MODPROBE_PATH_APPEND": str(tmp_path)}


def test_modules_are_loaded_and_removed_with_what_they_need(instance_uri: str, own: dict[str, str]) -> None:
    assert flux(instance_uri, "modprobe", "load", "--dry-run", "roof", **own) == ("load base\nload top x=1\n", "", 0)
    assert flux(instance_uri, "modprobe", "load", "roof", **own) == ("", "", 0)
    out, err, code = flux(instance_uri, "modprobe", "load", "roof", **own)
    assert (out, err, code) == ("modprobe: all modules and their dependencies are loaded: nothing to do\n", "", 0)
    out, err, code = flux(instance_uri, "modprobe", "remove", "base", **own)
    assert (out, err, code) == ("", "flux-modprobe: ERROR: base still in use by top\n", 1)
    assert flux(instance_uri, "modprobe", "remove", "--dry-run", "top", **own)[0] == "remove top\nremove base\n"
    assert flux(instance_uri, "modprobe", "remove", "top", **own) == ("", "", 0)
    names = [line.split()[0] for line in flux(instance_uri, "module", "list")[0].splitlines()]
    assert not {"base", "top"} & set(names)


def test_what_is_known_is_shown(instance_uri: str, own: dict[str, str]) -> None:
    out, _, _ = flux(instance_uri, "modprobe", "list-dependencies", "roof", **own)
    assert out == "top\n└── base\n"
    out, _, _ = flux(instance_uri, "modprobe", "show", "roof", **own)
    assert '"name": "top"' in out
    out, err, code = flux(instance_uri, "modprobe", "show", "-D", "top", "roof", **own)
    assert (err, code) == ("flux-modprobe: ERROR: roof is disabled\n", 1)
    out, err, code = flux(instance_uri, "modprobe", "show", "nosuch", **own)
    assert (err, code) == ("flux-modprobe: ERROR: no such module or task: nosuch\n", 1)


def test_tasks_of_a_file(instance_uri: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(
        textwrap.dedent(
            """
            from flux.modprobe import task

            def setup(context):
                context.set("color", "blue")
                context.setenv("MODPROBE_TEST", "1")

            @task("two", after=["one"], needs_attrs=["rank", "!nosuch"])
            def two(context):
                print("two", context.rank, context.attr_get("size"), context.conf_get("a.b", 7), flush=True)

            @task("one", ranks="0", needs_env=["MODPROBE_TEST"])
            def one(context):
                print("one", context.get("color"), context.getenv("MODPROBE_TEST"), flush=True)
                context.bash("echo shell")

            @task("never", needs_config=["no.such.key"])
            def never(context):
                print("never")
            """
        )
    )
    out, err, code = flux(instance_uri, "modprobe", "run", str(file))
    assert (out, err, code) == ("one blue 1\nshell\ntwo 0 1 7\n", "", 0)
    out, _, _ = flux(instance_uri, "modprobe", "run", "--show-deps", str(file))
    assert out == "{'one': [], 'two': ['one']}\n"
    out, _, _ = flux(instance_uri, "modprobe", "run", "--dry-run", str(file))
    assert out == "run one\nrun two\n"
    out, _, _ = flux(instance_uri, "modprobe", "run", "--verbose", str(file))
    assert re.search(r"^\d+\.\d{3}: start one$", out, flags=re.M)


def test_tasks_of_packages_are_run_by_an_instance(tmp_path: Path, own: dict[str, str]) -> None:
    for rc, place in (("rc1", "after"), ("rc3", "before")):
        (tmp_path / f"{rc}.d").mkdir()
        text = f"import sys\nfrom flux.modprobe import task\n@task('own', {place}=['kvs'])\ndef own(context):\n"
        (tmp_path / f"{rc}.d" / "own.py").write_text(f"{text}    print('own', '{rc}', file=sys.stderr)\n")
    command = f"{sys.executable} -m fluxlet startlog | wc -l; {sys.executable} -m fluxlet module list"
    out, err, code = flux("", "start", command, **own)
    assert [line.partition("]: ")[2] for line in err.splitlines()] == ["rc1.0: own rc1", "rc3.0: own rc3"]
    assert (out.splitlines()[0].strip(), code) == ("1", 0)
    assert {"base", "top"} <= {line.split()[0] for line in out.splitlines()}


def test_rc1_and_rc3_of_the_command_are_those_of_the_instance(tmp_path: Path) -> None:
    (tmp_path / "rc1.d").mkdir()
    script = tmp_path / "rc1.d" / "hello"
    script.write_text("#!/bin/sh\necho script\n")
    script.chmod(0o755)
    command = (
        f"{sys.executable} -m fluxlet module list | tail -n +2 | cut -d' ' -f1 | sort >{tmp_path}/loaded;"
        f"{sys.executable} -m fluxlet modprobe rc1; {sys.executable} -m fluxlet modprobe rc3;"
        f"{sys.executable} -m fluxlet module list | tail -n +2 | cut -d' ' -f1 | sort"
    )
    rc1 = f"{sys.executable} -m fluxlet modprobe rc1"
    out, err, code = flux("", "start", f"-Sbroker.rc1_path={rc1}", command, FLUX_RC_EXTRA=str(tmp_path))
    assert (err, code) == ("", 0)
    assert out.splitlines()[:1] == [f"running {script}"]
    assert out.splitlines()[2:] == sorted(name for name in FIRST if name in LISTED)
    assert (tmp_path / "loaded").read_text().split() == sorted(LISTED)


def test_rc1_of_the_command_takes_the_alternatives(tmp_path: Path) -> None:
    rc1 = f"{sys.executable} -m fluxlet modprobe rc1"
    words = ["-Scontent.backing-module=content-files", "--conf=modules.alternatives.sched=sched-fifo"]
    command = f"{sys.executable} -m fluxlet module list"
    out, err, code = flux("", "start", f"-Sbroker.rc1_path={rc1}", *words, command)
    assert (err, code) == ("", 0)
    names = {line.split()[0] for line in out.splitlines()}
    assert {"content-files", "sched-fifo", "job-exec"} <= names
    assert not {"content-sqlite", "sched-simple", "sched-backfill"} & names
