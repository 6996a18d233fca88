"""JobValidator runs validator plugins on jobs, as job-ingest does (spec 06, 4.4 and 15.12).

class Validator(ValidatorPlugin):
    def validate(self, job):
        if not job.jobspec["attributes"]["system"].get("bank"):
            return (errno.EINVAL, "say which bank this is for")
"""

from __future__ import annotations

import argparse
import errno
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from flux.job import _plugins

if TYPE_CHECKING:
    from flux.core.handle import Flux


class ValidatorJobInfo:
    """A job that is to be validated: `jobspec` (an object), `userid`, `flags`, `urgency` are its attributes.

    Args:
        jobinfo: an object with at least those keys. ValueError for one that is missing.
    """

    required_keys = ("jobspec", "userid", "flags", "urgency")

    def __init__(self, jobinfo: dict[str, Any]) -> None:
        for key in self.required_keys:
            if key not in jobinfo:
                raise ValueError(f"job info is missing {key}")
        self.jobinfo = jobinfo

    def __getattr__(self, attr: str) -> Any:
        try:
            return self.__dict__["jobinfo"][attr]
        except KeyError:
            raise AttributeError(attr) from None


class ValidatorResult:
    """What validators say of a job: `errnum` is the largest of theirs; str() is JSON."""

    def __init__(self) -> None:
        self.errnum = 0
        self._texts: list[str] = []

    def __str__(self) -> str:
        result: dict[str, Any] = {"errnum": self.errnum}
        if self._texts:
            result["errstr"] = self.errmsg
        return json.dumps(result)

    def push_result(self, errnum: int, errmsg: str | None = None) -> None:
        """Takes in what one validator says."""
        self.errnum = max(self.errnum, errnum)
        if errmsg and errmsg not in self._texts:
            self._texts.append(errmsg)

    @property
    def errmsg(self) -> str:
        """Their texts, each once."""
        return ", ".join(self._texts)

    @property
    def success(self) -> bool:
        """None of them objects."""
        return self.errnum == 0


class ValidatorPlugin(ABC):
    """Base class of validators, which define a class `Validator`.

    Args:
        parser: the command line's parser, to which a plugin may add its options.
    """

    _handle: Flux | None = None

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser

    @property
    def flux(self) -> Flux:
        """A handle of the instance, opened when it is first used."""
        if self._handle is None:
            from flux.core.handle import Flux

            self._handle = Flux()
        return self._handle

    def configure(self, args: argparse.Namespace) -> None:
        """Called with the parsed options before the first job."""
        self.args = args

    @abstractmethod
    def validate(self, job: ValidatorJobInfo) -> tuple[int, str] | None:
        """None for a job that may be submitted; else (errnum, text). It may also raise: that is errnum 1."""


class JobValidator:
    """Runs validators.

    Args:
        argv: options: ``--plugins=NAME,...``, and those of the plugins.
        pluginpath: directories searched for plugins besides.
        parser: to add options to.

    Raises ValueError for a plugin that is not found.
    """

    default_validators: ClassVar[list[str]] = ["jobspec"]
    plugin_namespace = "flux.job.validator.plugins"

    def __init__(
        self,
        argv: Sequence[str],
        pluginpath: Sequence[str] | None = None,
        parser: argparse.ArgumentParser | None = None,
    ) -> None:
        parser = parser or argparse.ArgumentParser(add_help=False)
        names, _, rest = _plugins.parse(argv, parser)
        classes = _plugins.find(
            names or self.default_validators, self.plugin_namespace, pluginpath, "Validator", "validator"
        )
        self.plugins: dict[str, ValidatorPlugin] = {name: cls(parser) for name, cls in classes.items()}
        self.args = parser.parse_args(rest)

    def start(self) -> None:
        """Before the first job."""
        for plugin in self.plugins.values():
            plugin.configure(self.args)

    def stop(self) -> None:
        """After the last."""
        self.plugins.clear()

    def validate(self, jobinfo: dict[str, Any] | str) -> ValidatorResult:
        """What all plugins say of a job: an object as of ValidatorJobInfo, or its JSON text."""
        job = ValidatorJobInfo(json.loads(jobinfo) if isinstance(jobinfo, str) else jobinfo)
        result = ValidatorResult()
        for plugin in self.plugins.values():
            try:
                outcome = plugin.validate(job)
            except OSError as exc:
                result.push_result(1, exc.strerror or str(exc))
            except (ValueError, TypeError, KeyError, AttributeError) as exc:
                result.push_result(1, str(exc) or type(exc).__name__)
            else:
                if outcome is not None:
                    errnum, text = outcome
                    result.push_result(errnum or errno.EINVAL, text)
        return result
