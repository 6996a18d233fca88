"""JobFrobnicator runs frobnicator plugins on jobspecs, as job-ingest does (spec 06, 4.4 and 15.12).

class Frobnicator(FrobnicatorPlugin):
    def frob(self, jobspec, userid, urgency, flags):
        jobspec.setattr("system.project", "x")
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar

from flux.job import _plugins
from flux.job.Jobspec import Jobspec


class FrobnicatorPlugin:
    """Base class of frobnicators, which define a class `Frobnicator`.

    Args:
        parser: the command line's parser, to which a plugin may add its options.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser

    def configure(self, args: argparse.Namespace, config: dict[str, Any]) -> None:
        """Called with the parsed options and the instance's configuration before the first job."""

    def frob(self, jobspec: Jobspec, userid: int, urgency: int, flags: int) -> None:
        """Changes a jobspec. Raises ValueError with the text for the submitter to refuse it."""
        raise TypeError(f"{type(self).__name__} does not define frob")


class JobFrobnicator:
    """Runs frobnicators.

    Args:
        argv: options: ``--plugins=NAME,...``, ``--config-file=PATH`` (TOML or JSON), and those of the plugins.
        pluginpath: directories searched for plugins besides.
        parser: to add options to.

    Raises ValueError for a plugin that is not found.
    """

    default_frobnicators: ClassVar[list[str]] = ["defaults", "constraints"]
    plugin_namespace = "flux.job.frobnicator.plugins"

    def __init__(
        self,
        argv: Sequence[str],
        pluginpath: Sequence[str] | None = None,
        parser: argparse.ArgumentParser | None = None,
    ) -> None:
        parser = parser or argparse.ArgumentParser(add_help=False)
        parser.add_argument("--config-file", metavar="PATH", help="read the configuration from a file")
        names, options, rest = _plugins.parse(argv, parser)
        classes = _plugins.find(
            names or self.default_frobnicators, self.plugin_namespace, pluginpath, "Frobnicator", "frobnicator"
        )
        self.plugins: dict[str, FrobnicatorPlugin] = {name: cls(parser) for name, cls in classes.items()}
        self.args = parser.parse_args(rest)
        self._config_file: str | None = options.config_file

    def start(self) -> None:
        """Before the first job: plugins are configured."""
        config = self._config()
        for plugin in self.plugins.values():
            plugin.configure(self.args, config)

    def _config(self) -> dict[str, Any]:
        if self._config_file:
            with open(self._config_file, "rb") as stream:
                if self._config_file.endswith(".json"):
                    return dict(json.load(stream))
                import tomllib

                return tomllib.load(stream)
        from flux.core.handle import Flux

        with Flux() as handle:
            return dict(handle.conf_get())

    def frob(self, jobspec: Jobspec, user: int | None = None, flags: int | None = None, urgency: int = 16) -> None:
        """Has all plugins change a jobspec. Raises what they raise."""
        userid = os.getuid() if user is None else user
        for plugin in self.plugins.values():
            plugin.frob(jobspec, userid, urgency, flags or 0)
