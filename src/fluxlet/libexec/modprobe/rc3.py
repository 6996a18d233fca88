"""What `flux modprobe rc3` does: the user's scripts, then the modules are removed."""

import subprocess
import sys

from flux.modprobe import Context, ModuleList, run_all_rc_scripts, task


def setup(context: Context) -> None:
    """All modules that are loaded."""
    context.remove_modules()


@task("startlog", ranks="0", before=["kvs"])
def finish(context: Context) -> None:
    """The end is remembered."""
    if ModuleList(context.handle).lookup("kvs") is not None:
        subprocess.run([sys.executable, "-P", "-m", "fluxlet", "startlog", "--post-finish-event"], check=True)


@task("rc3-scripts", before=["*"])
def scripts(context: Context) -> None:
    """The user's scripts."""
    run_all_rc_scripts("rc3")
