"""The plugins of `flux.uri.FluxURIResolver`: one module a scheme.

Other distributions may add modules: every directory ``flux/uri/resolvers`` on `sys.path` is part of this package.
"""

import os

import flux

__path__ = list(__path__)
for _entry in flux.__path__:
    _entry = os.path.join(_entry, "uri", "resolvers")
    if _entry not in __path__ and os.path.isdir(_entry):
        __path__.append(_entry)
del _entry
