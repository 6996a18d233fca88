"""A real MPI program: mpich of the distribution, which finds its peers by our PMI. Nightly: it has to be installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from exec_player import JobPlayer

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(shutil.which("mpicc") is None, reason="mpich is not installed (apt-get install mpich)"),
]

HELLO = """
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    int rank, size, sum;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("%d of %d: %d\\n", rank, size, sum);
    return MPI_Finalize();
}
"""


def test_mpi_programs_start(player: JobPlayer, tmp_path: Path) -> None:
    (tmp_path / "hello.c").write_text(HELLO)
    subprocess.run(["mpicc", "-o", tmp_path / "hello", tmp_path / "hello.c"], check=True)
    job = player.run([str(tmp_path / "hello")], slots=4)
    assert job.status == 0
    assert sorted(player.output(job).splitlines()) == [f"{rank} of 4: 6" for rank in range(4)]


def test_mpi_abort_ends_the_job(player: JobPlayer, tmp_path: Path) -> None:
    source = HELLO.replace("MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);", "MPI_Abort(0, 3);")
    source = source.replace("MPI_Abort(0,", "MPI_Abort(MPI_COMM_WORLD,")
    (tmp_path / "abort.c").write_text(source)
    subprocess.run(["mpicc", "-o", tmp_path / "abort", tmp_path / "abort.c"], check=True)
    job = player.run([str(tmp_path / "abort")], slots=2)
    assert job.status != 0
    assert player.raised[-1]["note"].startswith("PMI_Abort: ")
