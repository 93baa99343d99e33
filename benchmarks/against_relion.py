#!/usr/bin/env python3
"""Time mpiapp refine3d and RELION's relion_refine_mpi side by side on the same particles.

    benchmarks/against_relion.py FOLDER --diameter 190 [--sym C1] [--only mpiapp]

FOLDER holds particles.star and ref_class001_lp30.mrc (`mpiapp simulate` writes such a folder). The runs follow one another
on the same cores: mpiapp as one process, first with an empty cache of compiled kernels (cold), then again with that cache;
RELION as leader and two followers of one thread. Prints wall time, CPU time (user + system of all processes) and the
largest resident set of a process, start-up included, and the ratios of RELION to the second run of mpiapp.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARED_FLAGS = """
    --ini_high 30 --ctf --flatten_solvent --zero_mask --oversampling 1 --healpix_order 2 --offset_range 4
    --auto_local_healpix_order 3 --offset_step 2 --low_resol_join_halves 40 --norm --scale --random_seed 1 --pad 2
""".split()
RELION_FLAGS = """
    --auto_refine --split_random_halves --ctf_corrected_ref --preread_images --pool 3 --j 1
    --dont_combine_weights_via_disc
""".split()


def measure(command: list[str], log: Path, environ: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and MiB of the largest process of a command."""
    start = time.monotonic()
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environ)
        # the usage of this command alone, with the processes that it started and waited for
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    if status:
        sys.exit(f"{command[0]} ended with code {os.waitstatus_to_exitcode(status)}; see {log}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--diameter", required=True)
    parser.add_argument("--sym", default="C1")
    parser.add_argument(
        "--only", choices=["mpiapp", "relion"], help="this one, mpiapp with the kernels as they are cached"
    )
    parser.add_argument("--out", type=Path, help="keep the outputs here")
    parser.add_argument("--mpirun", default="mpirun", help="launcher of RELION's MPI")
    a = parser.parse_args()
    out = a.out or Path(tempfile.mkdtemp(prefix="against_relion_"))
    data = ["--i", str(a.folder / "particles.star"), "--ref", str(a.folder / "ref_class001_lp30.mrc")]
    common = [*data, "--particle_diameter", a.diameter, "--sym", a.sym, *SHARED_FLAGS]
    mpiapp = shutil.which("mpiapp") or str(Path(sys.executable).with_name("mpiapp"))
    ours = [mpiapp, "refine3d", *common]
    theirs = [a.mpirun, "--oversubscribe", "-n", "3", "relion_refine_mpi", *common, *RELION_FLAGS]
    jobs = {"cold": ours, "mpiapp": ours, "relion": theirs}
    environ = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if a.only is None:
        environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="kernels_")
    else:
        jobs = {a.only: jobs[a.only]}
    rows = {}
    for name, command in jobs.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        rows[name] = measure([*command, "--o", str(out / name / "run")], out / f"{name}.log", environ)
        wall, cpu, mib = rows[name]
        print(f"{name:7s} wall {wall:8.1f} s   CPU {cpu:8.1f} s   largest process {mib:6.0f} MiB", flush=True)
    if a.only is None:
        (wall, cpu, _), (wall_relion, cpu_relion, _) = rows["mpiapp"], rows["relion"]
        print(f"RELION / mpiapp: wall {wall_relion / wall:.1f}, CPU {cpu_relion / cpu:.1f}")


if __name__ == "__main__":
    main()
