"""Instances for tests: the one that we offer to others, running from its construction on."""

from __future__ import annotations

from fluxlet.testing import Instance


class StartedInstance(Instance):
    """A running instance of one broker, without configuration."""

    def __init__(self) -> None:
        super().__init__(env={"SHELL": "/bin/sh"})
        self.start()
