"""Attributes: the table and its rules (spec 03, section 9)."""

from __future__ import annotations

import errno

import pytest
from in_process import error_of

from fluxlet.broker.attributes import TABLE, Attributes


@pytest.fixture
def attributes() -> Attributes:
    return Attributes({"rank": "0", "size": "1", "local-uri": "local:///x"})


def test_settings_go_over_defaults() -> None:
    attributes = Attributes({"rank": "3", "log-level": "5"})
    assert attributes.get("rank") == ("3", 1)
    assert attributes.get("log-level") == ("5", 1)
    assert attributes.get("log-stderr-level") == ("3", 0)


def test_a_name_that_is_not_in_the_table_cannot_be_given() -> None:
    with pytest.raises(ValueError, match=r"^nosuch: unknown attribute$"):
        Attributes({"nosuch": "1"})


def test_an_attribute_without_value_is_listed_and_cannot_be_read(attributes: Attributes) -> None:
    assert "parent-uri" in attributes.names()
    assert "parent-uri" not in attributes.visible
    assert error_of(lambda: attributes.get("parent-uri"))[0] == errno.ENOENT


@pytest.mark.parametrize(
    ("name", "force", "errnum", "text"),
    [
        ("nosuch", False, errno.ENOENT, "unknown attribute"),
        ("nosuch", True, errno.ENOENT, "unknown attribute"),
        ("rank", False, errno.EINVAL, "attribute may not be updated"),
        ("rank", True, errno.EPERM, None),
        ("version", False, errno.EINVAL, "attribute may not be updated"),
        ("parent-uri", False, errno.EINVAL, "attribute may not be updated"),
        ("tbon.interface-hint", False, errno.EPERM, None),
        ("log-stderr-level", False, errno.EINVAL, "invalid level"),  # of the value "x"
    ],
)
def test_refused_updates(attributes: Attributes, name: str, force: bool, errnum: int, text: str | None) -> None:
    before = dict(attributes.visible)
    assert error_of(lambda: attributes.set(name, "x", force)) == (errnum, text)
    assert dict(attributes.visible) == before


@pytest.mark.parametrize(
    ("name", "force", "flags"),
    [
        ("version", True, 0),
        ("content.dump", False, 0),
        ("jobid", False, 1),  # not there yet: it may be set, whatever the table says
        ("log-filename", False, 0),
        ("test.foo", False, 0),
        ("test-ro.foo", False, 0),
        ("vendor.foo", False, 1),
    ],
)
def test_accepted_updates(attributes: Attributes, name: str, force: bool, flags: int) -> None:
    attributes.set(name, "x", force)
    assert attributes.get(name) == ("x", flags)


@pytest.mark.parametrize(
    ("name", "errnum"),
    [("jobid", errno.EINVAL), ("test-nr.a", errno.EINVAL), ("test-im.a", errno.EINVAL), ("vendor.a", errno.EPERM)],
)
def test_what_was_set_once_has_the_flags_of_the_table(attributes: Attributes, name: str, errnum: int) -> None:
    attributes.set(name, "1")
    assert error_of(lambda: attributes.set(name, "2"))[0] == errnum


@pytest.mark.parametrize("level", ["-1", "0", "7"])
def test_levels(attributes: Attributes, level: str) -> None:
    attributes.set("log-stderr-level", level)
    assert attributes.get("log-stderr-level") == (level, 0)


@pytest.mark.parametrize("level", ["8", "abc", "", "3.5"])
def test_no_levels(attributes: Attributes, level: str) -> None:
    assert error_of(lambda: attributes.set("log-stderr-level", level)) == (errno.EINVAL, "invalid level")


def test_removing(attributes: Attributes) -> None:
    attributes.set("test.a", "1")
    attributes.remove("test.a")
    attributes.remove("test.a")
    attributes.remove("nosuch")
    assert "test.a" not in attributes.names()
    assert "test.a" not in attributes.visible
    assert error_of(lambda: attributes.remove("rank")) == (errno.EPERM, None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("foo", "foo: unknown attribute"),
        ("rank", "rank: attribute may not be set on the command line"),
        ("test-ro.x", "test-ro.x: attribute may not be set on the command line"),
    ],
)
def test_refused_on_the_command_line(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        Attributes.check_command_line(name)


@pytest.mark.parametrize("name", ["log-level", "tbon.topo", "test.x", "test-im.x", "vendor.a.b"])
def test_accepted_on_the_command_line(name: str) -> None:
    Attributes.check_command_line(name)


def test_watchers_hear_of_every_change(attributes: Attributes) -> None:
    seen: list[str | None] = []
    attributes.watch("test.a", lambda: seen.append(attributes.visible.get("test.a")))
    attributes.set("test.a", "1")
    attributes.set_internal("test.a", "2")
    attributes.set_internal("test.a", None)
    attributes.remove("test.a")
    attributes.set("test.b", "1")
    assert seen == ["1", "2", None, None]


def test_visible_is_live_and_read_only(attributes: Attributes) -> None:
    view = attributes.visible
    attributes.set("test.a", "1")
    assert view["test.a"] == "1"
    with pytest.raises(TypeError):
        view["rank"] = "9"  # type: ignore[index]


def test_the_broker_may_set_what_users_may_not(attributes: Attributes) -> None:
    attributes.set_internal("rank", "7")
    assert attributes.get("rank") == ("7", 1)
    with pytest.raises(ValueError, match="unknown attribute"):
        attributes.set_internal("nosuch", "1")


def test_every_default_of_a_live_instance_is_there(attributes: Attributes) -> None:
    # Spec 03, 9.2: what an instance of size 1 has, without what depends on where it runs.
    running = """
        version instance-level jobid-path rundir-cleanup statedir-cleanup broker.boot-method
        broker.critical-ranks broker.mapping broker.quorum broker.quorum-warn broker.shutdown-warn
        broker.shutdown-timeout broker.cleanup-timeout broker.unload-builtins-timeout
        broker.sd-stop-timeout broker.rc1_path broker.rc3_path conf.shell_initrc
        conf.shell_pluginpath log-ring-size log-level log-stderr-level log-stderr-mode
        log-forward-level log-critical-level log-syslog-enable log-syslog-level
        content.backing-module content.hash tbon.topo tbon.level tbon.maxlevel tbon.descendants
        tbon.zmqdebug tbon.child_rcvhwm tbon.prefertcp tbon.zmq_io_threads tbon.torpid_min
        tbon.torpid_max tbon.tcp_user_timeout tbon.connect_timeout tbon.interface-hint
    """
    assert [name for name in running.split() if name not in attributes.visible] == []
    assert set(attributes.names()) <= set(TABLE)
