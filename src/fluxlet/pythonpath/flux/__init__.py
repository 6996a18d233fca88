"""Stands for the `flux` package where the rest of its site-packages must not be seen (spec 03, section 2.3).

An instance exports ``PYTHONPATH=<...>/fluxlet/pythonpath``. Exporting its site-packages instead would put
libraries built for one Python into the path of every Python that runs under the instance. This directory
holds nothing but this file, which turns itself into the real package, three directories up.

Rules:
- The result is the real module in all respects: `__file__`, `__spec__`, `__path__`, byte-code cache, no
  name of ours left behind. The import system goes on holding this very module object and its spec, so other
  threads that import `flux` meanwhile wait as they do for any module.
- Any Python 3 may come by: the syntax here stays old, so that one that is too old gets a sentence, not a
  SyntaxError.
"""

import sys


def _become_the_real_package() -> None:
    import os
    from importlib.machinery import SourceFileLoader

    module = sys.modules[__name__]
    here = os.path.dirname(os.path.abspath(__file__))
    home = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(here))), "flux")
    source = os.path.join(home, "__init__.py")
    if sys.version_info < (3, 11):  # noqa: UP036 - see the rules above
        raise ImportError("flux (%s) needs Python 3.11 or later; this is %s" % (home, sys.version.split()[0]))  # noqa: UP031
    if not os.path.exists(source):
        raise ImportError("the flux package belonging to %s is missing: expected %s" % (here, home))  # noqa: UP031

    loader = SourceFileLoader(__name__, source)
    spec = module.__spec__
    assert spec is not None  # the import system gives every module one
    spec.loader = loader
    spec.origin = source
    spec.cached = None  # so that it is computed anew, from origin
    spec.submodule_search_locations = [home]
    names = module.__dict__
    for name in ("sys", "_become_the_real_package"):
        del names[name]
    names.update(
        __doc__=None,
        __file__=source,
        __loader__=loader,
        __path__=spec.submodule_search_locations,
    )
    if "__cached__" in names:  # on its way out of Python
        names["__cached__"] = spec.cached
    loader.exec_module(module)
    # The package extends its path with every directory `flux` on sys.path; this one has nothing to add.
    names["__path__"] = [entry for entry in module.__path__ if os.path.abspath(entry) != here]


_become_the_real_package()
