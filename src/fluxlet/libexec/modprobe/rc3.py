"""What `flux modprobe rc3` does: the user's scripts, then the modules are removed."""

from flux.modprobe import Context, run_all_rc_scripts, task


def setup(context: Context) -> None:
    """All modules that are loaded."""
    context.remove_modules()


@task("rc3-scripts", before=["*"])
def scripts(context: Context) -> None:
    """The user's scripts."""
    run_all_rc_scripts("rc3")
