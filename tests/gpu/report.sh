#!/usr/bin/env bash
# Tests and benchmarks of the GPU engine on a machine with a device, as one text report on standard output.
#
#   tests/gpu/report.sh                      tests, sanitizer, products, slicing, reading (5.2 GB in /dev/shm),
#                                            reconstruction
#   tests/gpu/report.sh FOLDER DIAMETER      also refines FOLDER/particles.star from FOLDER/ref_class001_lp60.mrc, twice:
#                                            the first run compiles what is missing, the second is the one to quote;
#                                            classes, growth with particles and box, two devices where there are two
#   PYTHON=python3 tests/gpu/report.sh ...
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

section() { printf '\n== %s\n' "$*"; }

section "machine, $(date +%F)"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
nproc
"$python" -c 'import cupy, numpy; print("CuPy", cupy.__version__, "NumPy", numpy.__version__)'
git log -1 --format='commit %h of %cs' 2>/dev/null

section "tests"
"$python" -m pytest -q -p no:cacheprovider --tb=short tests/gpu | tail -15

section "kernels against their equations"
"$python" -m mpiapp info | sed -n '/^Self-test/,$p'

section "compute-sanitizer"
PYTHON="$python" tests/gpu/sanitize.sh

section "coarse score product beside a bare product"
"$python" benchmarks/gpu_products.py

section "slicing by global loads and by textures"
"$python" benchmarks/gpu_slicing.py

section "reading 10,000 images of 360 px from the RAM disk"
"$python" benchmarks/gpu_reading.py /dev/shm --readers 1 4 8 16

section "reconstruction from known poses on processors and on the device"
"$python" benchmarks/reconstruct_gpu.py /dev/shm

section "post-processing with a given mask"
(cd benchmarks && "$python" postprocess_gpu.py)

[ $# -ge 2 ] || exit 0
section "auto-refine of $1"
for run in first second; do
    start=$(date +%s.%N)
    "$python" -m mpiapp refine3d --i "$1/particles.star" --ref "$1/ref_class001_lp60.mrc" --root "$1" --ini_high 60 \
        --firstiter_cc --particle_diameter "$2" --offset_range 5 --offset_step 2 --random_seed 1 --gpu --o "$out/$run/run" \
        >"$out/$run.txt" 2>&1 || tail -3 "$out/$run.txt"
    echo "$run run: $(echo "$(date +%s.%N) - $start" | bc) s from start to end"
done
cat "$out/second/run_progress.csv"
grep -E "Scores" "$out/second.txt" | sort | uniq -c | sort -rn | head -8

section "classes of $1"
"$python" benchmarks/gpu_classes.py "$1" --plot "$out/classes.png"

section "growth with particles and box"
"$python" benchmarks/gpu_growth.py "$1" --diameter "$2" --out "$out/growth"

[ "$(nvidia-smi -L | wc -l)" -ge 2 ] || exit 0
section "four workers on one and on two devices"
tests/gpu/two_devices.sh "$1" "$2" 5 40000
