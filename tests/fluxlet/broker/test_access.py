"""Who may connect, with which roles (spec 01, 7.2)."""

from __future__ import annotations

import grp
import os
import pwd
import re
from typing import Any

import pytest

from fluxlet.broker.access import Access

OWNER = 4711
ROOT = pwd.getpwuid(0).pw_name


def roles(access: dict[str, Any], uid: int) -> int:
    return Access.parse({"access": access}).roles(uid, OWNER, lambda severity, text: None)


@pytest.mark.parametrize(
    ("access", "uid", "expected"),
    [
        ({}, OWNER, 5),
        ({}, 0, 0),
        ({}, 1, 0),
        ({"allow-guest-user": True}, OWNER, 5),
        ({"allow-guest-user": True}, 1, 6),
        ({"allow-guest-user": True}, 0, 6),
        ({"allow-root-owner": True}, 0, 5),
        ({"allow-root-owner": True}, 1, 0),
        ({"allow-guest-user": True, "roles": {"admin": {"users": [ROOT]}}}, 0, 14),
        ({"allow-guest-user": True, "roles": {"admin": {"users": [ROOT]}}}, 1, 6),
        ({"roles": {"admin": {"users": [ROOT]}}}, 0, 0),
        ({"allow-guest-user": True, "roles": {"admin": {"users": [ROOT]}}}, OWNER, 5),
    ],
)
def test_roles(access: dict[str, Any], uid: int, expected: int) -> None:
    assert roles(access, uid) == expected


def test_group_members_are_admins() -> None:
    for group in grp.getgrall():
        for name in group.gr_mem:
            try:
                uid = pwd.getpwnam(name).pw_uid
            except KeyError:
                continue
            rules = {"allow-guest-user": True, "roles": {"admin": {"groups": [group.gr_name]}}}
            assert roles(rules, uid) == 14
            return
    pytest.skip("no group of this system lists a member")


def test_names_that_nobody_has_are_reported_and_ignored() -> None:
    rules = {"users": ["no such user", ROOT], "groups": ["no such group"]}
    access = Access.parse({"access": {"allow-guest-user": True, "roles": {"admin": rules}}})
    said: list[str] = []
    assert access.roles(0, OWNER, lambda severity, text: said.append(text)) == 14
    assert access.roles(1, OWNER, lambda severity, text: said.append(text)) == 6
    assert "[access.roles.admin] unknown user 'no such user'" in said
    assert "[access.roles.admin] unknown group 'no such group'" in said


def test_without_configuration_only_the_owner_connects() -> None:
    assert Access.parse({}) == Access()
    assert Access().roles(os.getuid(), os.getuid(), lambda severity, text: None) == 5


@pytest.mark.parametrize(
    ("access", "text"),
    [
        ({"foo": 1}, "error parsing [access] configuration: 1 object item(s) left unpacked: foo"),
        (
            {"allow-guest-user": "yes"},
            "error parsing [access] configuration: Expected true or false, got string",
        ),
        ({"private-mode": 1}, "error parsing [access] configuration: Expected true or false, got integer"),
        ("x", "error parsing [access] configuration: Expected object, got string"),
        ({"roles": {"boss": {}}}, "unknown role 'boss' in [access.roles]"),
        ({"roles": 1}, "[access.roles] must be a table"),
        ({"roles": {"admin": 1}}, "[access.roles.admin] must be a table"),
        ({"roles": {"admin": {"users": "me"}}}, "[access.roles.admin] users must be a string array"),
        ({"roles": {"admin": {"groups": [1]}}}, "[access.roles.admin] groups must be a string array"),
        ({"roles": {"admin": {"friends": []}}}, "unknown key 'friends' in [access.roles.admin]"),
    ],
)
def test_mistakes(access: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        Access.parse({"access": access})
