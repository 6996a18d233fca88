"""Start-up and shutdown as tasks, in the order of what they need; modules are tasks, too (flux-modprobe(1)).

    from flux.modprobe import task

    @task("greet", needs=["kvs"], after=["kvs"])
    def greet(context):
        context.bash("flux logger hello")

ranks.py     on which ranks a task runs
tasks.py     a task: a function, or a module to load
taskdb.py    tasks by name and by the services that they provide
solver.py    which tasks it takes, and in which order (pure)
loader.py    where modules and tasks are described
context.py   what a task is given
runner.py    Modprobe: the parts put together
"""

from flux.modprobe.context import Context, ModuleList
from flux.modprobe.loader import ConfigLoader, default_flux_confdir, run_all_rc_scripts
from flux.modprobe.ranks import RankConditional, RankIDset, rank_conditional
from flux.modprobe.runner import Modprobe
from flux.modprobe.solver import DependencySolver
from flux.modprobe.taskdb import TaskDB
from flux.modprobe.tasks import CodeTask, Module, Task, task

__all__ = [
    "CodeTask",
    "ConfigLoader",
    "Context",
    "DependencySolver",
    "Modprobe",
    "Module",
    "ModuleList",
    "RankConditional",
    "RankIDset",
    "Task",
    "TaskDB",
    "default_flux_confdir",
    "rank_conditional",
    "run_all_rc_scripts",
    "task",
]
