"""The frobnicators that come with Flux. Others may be put beside them, on the plugin path."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
