"""What MPI looks like from here; run as a program so that a broken installation can not take the caller down.

``python -m mpiapp.parallel.probe`` prints ``name<tab>value`` lines.
"""

from __future__ import annotations

import os
import socket
import sys

from mpiapp.errors import ParallelError
from mpiapp.parallel.launcher import find_launch


def describe() -> list[tuple[str, str]]:
    """Library, ranks and hosts of this MPI world, as (name, value); all ranks of a launch take part.

    A launcher that does not fit the MPI library becomes a line of its own instead of an error.
    """
    if find_launch(os.environ) is None:
        return [("library", _library())]
    from mpiapp.parallel.runtime import start

    try:
        team = start()
    except ParallelError as mismatch:
        return [("mismatch", str(mismatch))]
    hosts = team.allgather(socket.gethostname())
    lines = [("library", _library()), ("ranks", str(team.size))]
    for host in dict.fromkeys(hosts):
        ranks = [str(rank) for rank, name in enumerate(hosts) if name == host]
        lines.append((f"ranks on {host}", " ".join(ranks)))
    return lines


def _library() -> str:
    from mpi4py import MPI

    major, minor = MPI.Get_version()
    text = MPI.Get_library_version().replace("\x00", "").strip().splitlines()[0]
    return f"{' '.join(text.split())} (MPI {major}.{minor})"


if __name__ == "__main__":
    for name, value in describe():
        sys.stdout.write(f"{name}\t{value}\n")
