"""The versions this package reports (spec 03, 2.4)."""

#: The release of flux-core that we are a replacement for: what instances and `flux version` say they are. Its own
#: tools go by the first two numbers (`flux proxy` refuses others).
CORE_VERSION = "0.88.0"

#: Our own release; pyproject.toml says the same (a test compares them).
FLUXLET_VERSION = "0.1.0"
