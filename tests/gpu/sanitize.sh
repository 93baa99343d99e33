#!/usr/bin/env bash
# memcheck and racecheck of the GPU kernels on small inputs, by compute-sanitizer of the CUDA toolkit.
#
#   tests/gpu/sanitize.sh                      every kernel on the cases of the self-test, and expectation steps in half
#                                              precision, under both tools; split ones and a reconstruction under memcheck
#   SECONDS_EACH=300 tests/gpu/sanitize.sh     more patience with each check (default 60)
#   COMPUTE_SANITIZER=/path/compute-sanitizer PYTHON=python3 tests/gpu/sanitize.sh
#
# Arrays get memory of their own, not a piece of CuPy's pool, or an access past an end would go unseen; transforms and
# large products, which are cuFFT's and cuBLAS's, are made on the host (checked_device.py). Ends with code 1 when a check
# found something, failed or did not finish.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
patience=${SECONDS_EACH:-60}
export MPIAPP_TEST_UNDER_CHECKER=1

find_sanitizer() {
    [ -n "${COMPUTE_SANITIZER:-}" ] && echo "$COMPUTE_SANITIZER" && return
    command -v compute-sanitizer && return
    local found
    for found in "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer /usr/local/cuda*/bin/compute-sanitizer \
        /usr/local/cuda*/compute-sanitizer/compute-sanitizer /opt/cuda/bin/compute-sanitizer \
        /usr/lib/nvidia-cuda-toolkit/compute-sanitizer/compute-sanitizer; do
        [ -x "$found" ] && echo "$found" && return
    done
    return 1
}

sanitizer=$(find_sanitizer) || { echo "compute-sanitizer is not installed (part of the CUDA toolkit)"; exit 0; }
"$sanitizer" --version | head -3
tests=(-m pytest -q -p no:cacheprovider --tb=short -o faulthandler_timeout=$((patience * 3 / 4)))
steps=tests/gpu/test_expectation_gpu.py
# compiled kernels are kept, so that the checks below do not wait for the compiler
"$python" "${tests[@]}" $steps tests/gpu/test_selftest_gpu.py -k "test_kernels_of or (test_sums_and_poses and (half or tf32))" | tail -1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

check() { # tool, file, selection of tests
    local begun=$SECONDS code
    timeout "$patience" "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 \
        "$python" "${tests[@]}" "$2" -k "$3" >"$log" 2>&1
    code=$?
    [ $code -eq 0 ] && ! grep -q " passed" "$log" && code=5 # nothing ran
    echo "$1, $3: $((SECONDS - begun)) s, $(case $code in 0) echo clean ;; 124) echo "not finished" ;; *) echo "code $code" ;; esac)"
    grep -E "ERROR SUMMARY|RACECHECK SUMMARY|(passed|failed|error)" "$log" | tail -4
    [ "$code" -eq 0 ] && return
    failed=1
    [ "$code" -eq 124 ] && grep -E '^  File .*mpiapp' "$log" | head -6
    grep -E -A8 "^========= (Invalid|Error|Warning|Race|Program|Internal|Target)" "$log" | head -60
    [ "$code" -eq 9 ] || tail -5 "$log"
}

check memcheck tests/gpu/test_selftest_gpu.py "test_kernels_of"
check racecheck tests/gpu/test_selftest_gpu.py "test_kernels_of"
check memcheck $steps "test_sums_and_poses and half and local"
check racecheck $steps "test_sums_and_poses and half and local"
check memcheck $steps "test_sums_and_poses and half and global"
check racecheck $steps "test_sums_and_poses and half and global"
check memcheck $steps "test_sums_and_poses and tf32 and local"
check memcheck tests/gpu/test_reconstruct_gpu.py "test_sums and CTF"
exit $failed
