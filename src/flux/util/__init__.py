"""`flux.util`: the helpers that Flux's tools share (spec 02, section 13).

This file only knows where each name lives. A name is loaded when it is first asked for, because `import flux`
imports this package and must stay quick: argparse, logging, string, datetime and re are paid for by those who
use them. `from flux.util import X` works for every name of the table.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flux.util.actions import ColorAction as ColorAction
    from flux.util.actions import FilterAction as FilterAction
    from flux.util.actions import FilterActionSetUpdate as FilterActionSetUpdate
    from flux.util.actions import FilterActionUser as FilterActionUser
    from flux.util.actions import FilterTrueAction as FilterTrueAction
    from flux.util.actions import TreedictAction as TreedictAction
    from flux.util.actions import YesNoAction as YesNoAction
    from flux.util.calls import check_future_error as check_future_error
    from flux.util.calls import interruptible as interruptible
    from flux.util.climain import CLIMain as CLIMain
    from flux.util.config import UtilConfig as UtilConfig
    from flux.util.config import xdg_searchpath as xdg_searchpath
    from flux.util.datetimes import parse_datetime as parse_datetime
    from flux.util.dedup import Deduplicator as Deduplicator
    from flux.util.durations import fsd as fsd
    from flux.util.durations import parse_fsd as parse_fsd
    from flux.util.fileref import Fileref as Fileref
    from flux.util.formatter import UtilDatetime as UtilDatetime
    from flux.util.formatter import UtilFormatter as UtilFormatter
    from flux.util.formatter import empty_outputs as empty_outputs
    from flux.util.helpformat import help_formatter as help_formatter
    from flux.util.outputformat import OutputFormat as OutputFormat
    from flux.util.payload import encode_payload as encode_payload
    from flux.util.payload import encode_topic as encode_topic
    from flux.util.tree import Tree as Tree
    from flux.util.treedict import del_treedict as del_treedict
    from flux.util.treedict import dict_merge as dict_merge
    from flux.util.treedict import get_treedict as get_treedict
    from flux.util.treedict import set_treedict as set_treedict
    from flux.util.values import AltField as AltField
    from flux.util.values import DisplayValue as DisplayValue

# What `from flux.util import *` gives: the reference's short list. The other names are imported one by one.
__all__ = ["CLIMain", "check_future_error", "encode_payload", "encode_topic", "parse_fsd"]

# A module here never has the name of something it provides: importing the module would hide that.
_HOME = {
    "AltField": "values",
    "CLIMain": "climain",
    "ColorAction": "actions",
    "Deduplicator": "dedup",
    "DisplayValue": "values",
    "Fileref": "fileref",
    "FilterAction": "actions",
    "FilterActionSetUpdate": "actions",
    "FilterActionUser": "actions",
    "FilterTrueAction": "actions",
    "OutputFormat": "outputformat",
    "Tree": "tree",
    "TreedictAction": "actions",
    "UtilConfig": "config",
    "UtilDatetime": "formatter",
    "UtilFormatter": "formatter",
    "YesNoAction": "actions",
    "check_future_error": "calls",
    "del_treedict": "treedict",
    "dict_merge": "treedict",
    "empty_outputs": "formatter",
    "encode_payload": "payload",
    "encode_topic": "payload",
    "fsd": "durations",
    "get_treedict": "treedict",
    "help_formatter": "helpformat",
    "interruptible": "calls",
    "parse_datetime": "datetimes",
    "parse_fsd": "durations",
    "set_treedict": "treedict",
    "xdg_searchpath": "config",
}


def __getattr__(name: str) -> Any:
    """Loads the name's module, and remembers the value so that the next use is an ordinary look-up."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
