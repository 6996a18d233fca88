"""What `flux modprobe rc1` does: the modules of an instance, and the user's scripts when they are there.

An instance does the same without this file, in the broker's process (`fluxlet.broker.rc`).
"""

from flux.modprobe import Context, run_all_rc_scripts, task


def setup(context: Context) -> None:
    """All modules that modprobe.toml describes."""
    context.load_modules(module.name for module in context.modprobe.modules())


@task("rc1-scripts", after=["*"])
def scripts(context: Context) -> None:
    """The user's scripts."""
    run_all_rc_scripts("rc1")
