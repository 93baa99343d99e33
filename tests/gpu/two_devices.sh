#!/usr/bin/env bash
# One and two devices beside each other: sums over ranks, then a few iterations by a leader and four workers.
#
#   tests/gpu/two_devices.sh                              only the sums over ranks
#   tests/gpu/two_devices.sh FOLDER DIAMETER [ITERATIONS [PARTICLES]]
#                                                         also FOLDER/particles.star from FOLDER/ref_class001_lp*.mrc, with
#                                                         PARTICLES rows (those of the file come again)
#   MPIEXEC=/path/mpiexec PYTHON=python3 tests/gpu/two_devices.sh ...
#
# The same four workers compute on device 0 alone, then on all devices; asked for are expectation steps 1.9 times faster
# with two and the same curves. Ends with code 1 where that, or a sum, fails.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

launcher() { # the first launcher that belongs to the MPI of mpi4py, with what it needs to run here
    local found flags
    for found in ${MPIEXEC:-} "$(dirname "$("$python" -c 'import sys; print(sys.executable)')")/mpiexec" \
        $(type -ap mpiexec mpirun mpiexec.hydra); do
        [ -x "$found" ] || continue
        flags=
        "$found" --version 2>&1 | grep -qiE "open ?mpi|open-?rte|prrte" &&
            flags="--allow-run-as-root --oversubscribe --bind-to none"
        [ "$(timeout 60 "$found" $flags -n 2 "$python" -c \
            'from mpi4py import MPI; print(MPI.COMM_WORLD.size)' 2>/dev/null | tr -d '[:space:]')" = 22 ] || continue
        echo "$found $flags"
        return
    done
    return 1
}

mpi=$(launcher) || { echo "no mpiexec fits the MPI of mpi4py; name it in MPIEXEC"; exit 1; }
echo "launcher: $mpi"
nvidia-smi --query-gpu=index,name --format=csv,noheader || exit 1
failed=0
$mpi -n 3 "$python" -m pytest -q -p no:cacheprovider --tb=short --only-mpi --timeout-method=thread \
    tests/mpi/test_device_sums_gpu.py 2>&1 | tail -8
[ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
[ $# -ge 2 ] || exit $failed

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
reference=$(ls "$1"/ref_class001_lp*.mrc)
star=$1/particles.star
if [ $# -ge 4 ]; then
    star=$(cd benchmarks && "$python" - "$(realpath "$1")" "$4" "$out" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from gpu_growth import make_case

from mpiapp.io.star import read_star

folder, out = Path(sys.argv[1]), Path(sys.argv[3])
box = int(read_star(folder / "particles.star")["optics"]["rlnImageSize"].iloc[0])
print(make_case(folder, int(sys.argv[2]), box, out, np))
PYTHON
    ) || exit 1
fi
high=${reference##*_lp}

refine() { # name, folder, diameter, iterations, words after --gpu
    local name=$1 data=$2 diameter=$3 iterations=$4
    shift 4
    mkdir -p "$out/$name"
    $mpi -n 5 "$python" -m mpiapp refine3d --i "$star" --root "$data" --o "$out/$name/run" \
        --ref "$reference" --ini_high "${high%.mrc}" --firstiter_cc --particle_diameter "$diameter" --offset_range 5 \
        --offset_step 2 --random_seed 1 --auto_iter_max "$iterations" --j 4 --gpu "$@" >"$out/$name.txt" 2>&1 ||
        { tail -5 "$out/$name.txt"; exit 1; }
    echo "$name:"
    grep -E "GPU-|PCI-|Sums over|WARNING" "$out/$name.txt" | head -8
}

refine one "$1" "$2" "${3:-4}" 0
refine all "$1" "$2" "${3:-4}"
"$python" - "$out" <<'PYTHON' || failed=1
import sys

import numpy as np

from mpiapp.io.checkpoint import load_checkpoint
from mpiapp.io.outputs import OutputNames
from mpiapp.model.rotations import euler_to_matrix, geodesic_deg

one, two = (load_checkpoint(OutputNames(f"{sys.argv[1]}/{name}/run").checkpoints()[-1][1])[0] for name in ("one", "all"))
ratios = []
print("iteration  step   size   E with one   with all devices   ratio    M with one   with all")
for k, number in enumerate(one["history"]["iteration"]):
    row = [run["history"][name][k] for name in ("expectation_s", "maximization_s") for run in (one, two)]
    step, size = (one["history"][name][k] for name in ("step_deg", "current_size"))
    ratios.append(row[0] / row[1])
    print(f"{number:9.0f} {step:5.3g} {size:6.0f} {row[0]:10.2f} s {row[1]:14.2f} s {ratios[-1]:10.2f} {row[2]:11.2f} s {row[3]:8.2f} s")
poses = [euler_to_matrix(*(run["poses"][f"{angle}_deg"] for angle in ("rot", "tilt", "psi"))) for run in (one, two)]
same = float((geodesic_deg(*poses) < 0.01).mean())
difference = float(np.abs(one["fsc"] - two["fsc"]).max())
ratio = float(np.median(ratios[1:]))
print(f"expectation, median after the first iteration: {ratio:.2f} times faster (asked for: 1.9)")
print(f"largest difference of the halves' FSC {difference:.1e} (at most 1e-2); {100 * same:.1f} % of poses the same")
sys.exit(not (ratio >= 1.9 and difference < 1e-2))
PYTHON
exit $failed
