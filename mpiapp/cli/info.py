"""``mpiapp info``: what a bug report needs to know about this machine."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence

from mpiapp import __version__
from mpiapp.backend.device_query import INSTALL, load_cupy, visible_devices
from mpiapp.cli.console import is_leader
from mpiapp.errors import DeviceError, ParallelError
from mpiapp.parallel.devices import Facts, bind, table
from mpiapp.parallel.launcher import Launch, find_launch
from mpiapp.report.versions import ABSENT, GPU_PACKAGES, PACKAGES, version_of

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Lines = list[tuple[str, str]]


def run(argv: Sequence[str]) -> int:
    """Print the page; under a launcher every rank takes part and rank 0 prints."""
    parser = argparse.ArgumentParser(
        prog="mpiapp info",
        description="Versions, MPI, launcher, cores and devices, and a test of every kernel on the first device. "
        "Under mpirun it shows where the ranks are.",
    )
    parser.add_argument(
        "--no_self_test",
        action="store_true",
        help="do not run the kernels; otherwise each computes a small case, which is compared with its equation",
    )
    options = parser.parse_args(list(argv))
    launch = find_launch(os.environ)
    sections = {
        "Versions": _versions(),
        "Machine": _machine(),
        "MPI": _mpi(launch),
        "Devices": [*_devices(), *_placement(launch)],
    }
    if not is_leader():
        return 0
    for heading, lines in sections.items():
        print(f"{heading}:")
        for name, value in lines:
            _print(name, value)
    return 0 if options.no_self_test or not _has_device() else _self_test()


def _print(name: str, value: str) -> None:
    print(f"  {name:<24}{value}", flush=True)


def _has_device() -> bool:
    """Whether CuPy sees a device; what is missing is told in the section on devices."""
    try:
        return bool(visible_devices(load_cupy()))
    except DeviceError:
        return False


def _self_test() -> int:
    """Test the kernels; the exit code."""
    from mpiapp.backend.gpu_selftest import self_test

    print("Self-test (largest error over the largest value, time of one launch):")
    passed = self_test(lambda name, value: print(f"  {name:<32}{value}", flush=True))
    return 0 if passed else DeviceError.exit_code


def _versions() -> Lines:
    lines = [("mpiapp", __version__), ("python", f"{platform.python_version()} ({sys.executable})")]
    return lines + [(name, version_of(name)) for name in PACKAGES]


def _machine() -> Lines:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lines = [
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("host", platform.node()),
        ("cores", f"{usable} usable of {os.cpu_count()}"),
    ]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        lines.append(("memory", f"{total / 2**30:.1f} GiB"))
    threads = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    lines.append(("thread settings", " ".join(threads) or "none in the environment"))
    return lines


def _mpi(launch: Launch | None) -> Lines:
    if launch is None:
        lines = [("launched by", "nothing: one process")]
    else:
        lines = [("launched by", f"{launch.launcher} ({launch.size or 'some'} processes)")]
    if version_of("mpi4py") == ABSENT:
        return [*lines, ("library", 'none; one process works, pip install "mpiapp[mpi]" adds MPI')]
    if launch is not None:
        from mpiapp.parallel.probe import describe

        return [*lines, *describe()]
    found = _from_child([sys.executable, "-m", "mpiapp.parallel.probe"], "library")
    return [*lines, *found, *_starter(dict(found).get("library", ""))]


def _starter(library: str) -> Lines:
    """The mpirun on the PATH, and whether it fits the MPI library: a wrong one starts N lone processes."""
    path = shutil.which("mpirun") or shutil.which("mpiexec")
    if not path:
        return [("mpirun", "not on the PATH")]
    family = _family(" ".join(value for _, value in _from_child([path, "--version"], "")))
    lines = [("mpirun", f"{path} ({family})")]
    if family != _family(library) and "unknown" not in (family, _family(library)):
        beside = shutil.which("mpiexec", path=os.path.dirname(sys.executable))
        remedy = f"use {beside}" if beside else f"put the mpirun of {_family(library)} first on the PATH"
        lines.append(("mpirun does not fit", f"mpi4py runs on {_family(library)}: {remedy}"))
    return lines


def _family(text: str) -> str:
    text = text.lower()
    for word, family in (
        ("open mpi", "Open MPI"),
        ("intel", "Intel MPI"),
        ("mpich", "MPICH"),
        ("hydra", "MPICH"),
    ):
        if word in text:
            return family
    return "unknown"


def _devices() -> Lines:
    """Driver and devices as the system sees them, then what CuPy and so a run would find."""
    lines = [(name, version_of(name)) for name in GPU_PACKAGES if version_of(name) != ABSENT]
    if not shutil.which("nvidia-smi"):
        lines.append(("GPU", "no NVIDIA driver found"))
    else:
        fields = "index,name,uuid,memory.total,driver_version"
        lines += _from_child(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], "GPU")
    if importlib.util.find_spec("cupy") is None:
        return [*lines, ("CuPy", f"not installed; --gpu needs it: {INSTALL}")]
    return [*lines, *_from_child([sys.executable, "-m", "mpiapp.backend.device_query"], "CuPy")]


def _placement(launch: Launch | None) -> Lines:
    """Which device each rank of this launch would get by --gpu without a value (all ranks)."""
    if launch is None or launch.size == 1 or version_of("mpi4py") == ABSENT:
        return []
    from mpiapp.parallel.runtime import start

    try:
        team = start()
    except ParallelError:
        return []  # the section on MPI says it
    try:
        seen = visible_devices(load_cupy())
    except DeviceError:
        seen = ()
    facts = team.allgather(Facts(team.rank, team.host, team.local_worker, not team.is_leader, seen))
    if not any(fact.devices for fact in facts):
        return []
    try:
        placement = bind("", facts)
    except DeviceError as fault:
        return [("--gpu", str(fault))]
    return [("--gpu", line.strip()) for line in (*table(placement.bindings), *placement.warnings)]


def _from_child(command: list[str], name: str) -> Lines:
    """Output of a helper program as lines; its failure becomes a line too."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [(name, f"{command[0]} failed: {error}")]
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        return [(name, f"not usable: {reason}")]
    rows = [line.partition("\t") for line in done.stdout.splitlines() if line.strip()]
    return [(key, value) if value else (name, key) for key, _, value in rows]
