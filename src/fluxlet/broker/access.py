"""Who may connect, and with which roles: the table `[access]` of the configuration (spec 01, 7.2).

A connection keeps the roles it was given when it was made; another configuration is for those that come after.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from syslog import LOG_WARNING
from typing import Any

import msgspec

from flux.constants import FLUX_ROLE_ADMIN, FLUX_ROLE_LOCAL, FLUX_ROLE_NONE, FLUX_ROLE_USER
from fluxlet.broker.configuration import ConfigError
from fluxlet.broker.router import LOCAL_OWNER
from fluxlet.config_table import read_table


class Access(msgspec.Struct, frozen=True):
    """The access rules of an instance. The defaults are those of an instance without configuration.

    Args:
        allow_guest_user: users other than the owner may connect.
        allow_root_owner: root has the owner's rights.
        private_mode: guests see their own jobs only (for `job-list`).
        admin_users, admin_groups: names of guests with the role ADMIN.
    """

    allow_guest_user: bool = False
    allow_root_owner: bool = False
    private_mode: bool = False
    admin_users: tuple[str, ...] = ()
    admin_groups: tuple[str, ...] = ()

    @classmethod
    def parse(cls, config: dict[str, Any]) -> Access:
        """The rules that a configuration sets. Raises ConfigError with the text for the user."""
        types = {"allow-guest-user": bool, "allow-root-owner": bool, "private-mode": bool, "roles": object}
        try:
            table = read_table(config.get("access", {}), types, strict=True)
        except ValueError as exc:
            raise ConfigError(f"error parsing [access] configuration: {exc}") from None
        roles = table.get("roles", {})
        if not isinstance(roles, dict):
            raise ConfigError("[access.roles] must be a table")
        for role in roles:
            if role != "admin":
                raise ConfigError(f"unknown role '{role}' in [access.roles]")
        admin = roles.get("admin", {})
        if not isinstance(admin, dict):
            raise ConfigError("[access.roles.admin] must be a table")
        for key, value in admin.items():
            if key not in ("users", "groups"):
                raise ConfigError(f"unknown key '{key}' in [access.roles.admin]")
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise ConfigError(f"[access.roles.admin] {key} must be a string array")
        return cls(
            allow_guest_user=table.get("allow-guest-user", False),
            allow_root_owner=table.get("allow-root-owner", False),
            private_mode=table.get("private-mode", False),
            admin_users=tuple(admin.get("users", ())),
            admin_groups=tuple(admin.get("groups", ())),
        )

    def roles(self, uid: int, owner: int, log: Callable[[int, str], None]) -> int:
        """The roles of a user who connects, FLUX_ROLE_* bits; FLUX_ROLE_NONE if he may not.

        Args:
            uid: by the kernel's word.
            owner: userid of the instance owner.
            log: is told, as (severity, text), of names in the rules that nobody has.
        """
        if uid == owner or (uid == 0 and self.allow_root_owner):
            return LOCAL_OWNER
        if not self.allow_guest_user:
            return FLUX_ROLE_NONE
        roles = FLUX_ROLE_USER | FLUX_ROLE_LOCAL
        return roles | FLUX_ROLE_ADMIN if self._is_admin(uid, log) else roles

    def _is_admin(self, uid: int, log: Callable[[int, str], None]) -> bool:
        for name in self.admin_users:
            try:
                if pwd.getpwnam(name).pw_uid == uid:
                    return True
            except KeyError:
                log(LOG_WARNING, f"[access.roles.admin] unknown user '{name}'")
        if not self.admin_groups:
            return False
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            return False  # groups list their members by name
        for name in self.admin_groups:
            try:
                if user in grp.getgrnam(name).gr_mem:
                    return True
            except KeyError:
                log(LOG_WARNING, f"[access.roles.admin] unknown group '{name}'")
        return False
