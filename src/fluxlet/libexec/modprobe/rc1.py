"""What `flux modprobe rc1` does: the modules of an instance, and the user's scripts when they are there.

An instance does the same without this file, in the broker's process (`fluxlet.broker.rc`).
"""

import subprocess
import sys

from flux.modprobe import Context, Module, run_all_rc_scripts, task
from fluxlet.broker.builtins import FIRST, LISTED, ON_DEMAND


def setup(context: Context) -> None:
    """All modules: those that modprobe.toml describes, and our own others, in the order of their table."""
    modprobe = context.modprobe
    previous: list[str] = []
    for name in LISTED:
        if name not in FIRST:
            if not modprobe.has_task(name):
                modprobe.add_task(Module({"name": name, "after": previous}))
            previous = [name]
    names = [module.name for module in modprobe.modules() if module.name not in ON_DEMAND]
    # By what they are for: somebody may want another one, and nobody two.
    services = {"content-sqlite": "content-backing", "sched-simple": "sched"}
    context.load_modules(services.get(name, name) for name in names)


@task("startlog", ranks="0", needs=["kvs"], after=["kvs"])
def start(context: Context) -> None:
    """The start is remembered."""
    subprocess.run([sys.executable, "-P", "-m", "fluxlet", "startlog", "--post-start-event"], check=True)


@task("rc1-scripts", after=["*"])
def scripts(context: Context) -> None:
    """The user's scripts."""
    run_all_rc_scripts("rc1")
