#!/usr/bin/env bash
# Tests and benchmarks of the GPU engine on a machine with a device, as one text report on standard output.
#
#   tests/gpu/report.sh                      tests, sanitizer, products, slicing, reading (5.2 GB in /dev/shm),
#                                            reconstruction, post-processing
#   tests/gpu/report.sh FOLDER DIAMETER      also refines FOLDER/particles.star from FOLDER/ref_class001_lp60.mrc, twice:
#                                            the first run compiles what is missing, the second is the one to quote;
#                                            classes, growth with particles and box, two devices
#   SECTIONS="tests refine" tests/gpu/report.sh ...      some of it: the names of the functions below
#   PYTHON=python3 tests/gpu/report.sh ...
#
# Ends with code 1 if the tests or the sanitizer failed.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
folder=${1:-} diameter=${2:-}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0

machine() {
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
    nproc
    "$python" -c 'import cupy, numpy; print("CuPy", cupy.__version__, "NumPy", numpy.__version__)'
    git log -1 --format='commit %h of %cs' 2>/dev/null
}

tests() { "$python" -m pytest -q -p no:cacheprovider --tb=short tests/gpu | tail -15; }

selftest() { "$python" -m mpiapp info | sed -n '/^Self-test/,$p'; }

sanitizer() { PYTHON="$python" tests/gpu/sanitize.sh; }

products() { "$python" benchmarks/gpu_products.py; }

slicing() { "$python" benchmarks/gpu_slicing.py; }

reading() { "$python" benchmarks/gpu_reading.py /dev/shm --readers 1 4 8 16; }

reconstruct() { "$python" benchmarks/reconstruct_gpu.py /dev/shm; }

postprocess() { (cd benchmarks && "$python" postprocess_gpu.py); }

refine() {
    local run start
    for run in first second; do
        start=$EPOCHREALTIME
        "$python" -m mpiapp refine3d --i "$folder/particles.star" --ref "$folder/ref_class001_lp60.mrc" --root "$folder" \
            --ini_high 60 --firstiter_cc --particle_diameter "$diameter" --offset_range 5 --offset_step 2 --random_seed 1 \
            --gpu --o "$out/$run/run" >"$out/$run.txt" 2>&1 || tail -3 "$out/$run.txt"
        "$python" -c "print(f'$run run: {$EPOCHREALTIME - $start:.1f} s from start to end')"
    done
    cat "$out/second/run_progress.csv"
    grep -E "Final resolution|FSC of the half" "$out/second.txt"
    grep -E "Scores" "$out/second.txt" | sort | uniq -c | sort -rn | head -8
}

classes() { "$python" benchmarks/gpu_classes.py "$folder" --plot "$out/classes.png"; }

growth() { "$python" benchmarks/gpu_growth.py "$folder" --diameter "$diameter" --out "$out/growth"; }

two_devices() {
    [ "$(nvidia-smi -L | wc -l)" -ge 2 ] || { echo "there is one device"; return; }
    tests/gpu/two_devices.sh "$folder" "$diameter" 5 40000
}

all="machine tests selftest sanitizer products slicing reading reconstruct postprocess"
[ $# -ge 2 ] && all="$all refine classes growth two_devices"
for section in ${SECTIONS:-$all}; do
    printf '\n== %s, %s\n' "$section" "$(date +%F)"
    begun=$SECONDS
    "$section" || {
        echo "FAILED: $section"
        case $section in tests | sanitizer) failed=1 ;; esac
    }
    echo "($((SECONDS - begun)) s)"
done
exit $failed
