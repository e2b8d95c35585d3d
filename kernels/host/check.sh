#!/usr/bin/env bash
# Compiles the CUDA kernels with g++ and runs them, threads as fibers, under the address and undefined-behaviour
# sanitizers (in single precision) and under the thread sanitizer (in double). Each seeded mistake must be reported.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=target/host-check
mkdir -p $build

# C++ has no storage class for shared memory: `__shared__ T name[n];` becomes a call, on the same line.
for kernel in kernels/*.cu cusim/tests/kernels/bugs.cu; do
    sed -E -e 's/extern __shared__ (\w+) (\w+)\[\];/\1* \2 = (\1*)dynamic_shared_memory();/' \
        -e 's/__shared__ (\w+) (\w+)((\[[^]]*\])*);/auto\& \2 = shared_memory<\1\3>();/' "$kernel" \
        > "$build/${kernel##*/}"
done
# The names of all kernels, and of those with mistakes.
sed -nE 's/^KERNEL(_OF\([^)]*\))? (\w+)\(.*/"\2",/p' kernels/*.cu > $build/kernels.list
sed -nE 's/^extern "C" __global__ void (\w+)\(.*/BUG(\1)/p' $build/bugs.cu > $build/bugs.list

compile() {
    g++ -std=c++20 -O1 -g -Wall -Wno-sign-compare -Wno-unknown-pragmas -ffp-contract=off -Ikernels/host -I$build \
        -Ikernels "$@"
}
build_address() {
    for program in cases bugs; do
        compile -fsanitize=address,undefined -fno-sanitize-recover=all kernels/host/$program.cpp $build/block.o \
            -o $build/$program-address
    done
}
build_thread() {
    for program in cases bugs; do
        compile -fsanitize=thread -DDOUBLE kernels/host/$program.cpp $build/block.o -o $build/$program-thread
    done
}
compile -c kernels/host/block.cpp -o $build/block.o
build_address & address=$!
build_thread
wait $address

export TSAN_OPTIONS=halt_on_error=1
for sanitizer in address thread; do
    $build/cases-$sanitizer > $build/log 2>&1 || { cat $build/log >&2; exit 1; }
    for kernel in "ok_neighbours 1" "ok_warp_barrier 1" "ok_atomic 3" "race_between_blocks 1" "traps 1"; do
        $build/bugs-$sanitizer $kernel > $build/log 2>&1 || { cat $build/log >&2; exit 1; }
    done
done

# found SANITIZER KERNEL BLOCKS WHAT PLACE: the run fails, and says what is wrong and where.
found() {
    if $build/bugs-"$1" "$2" "$3" > $build/log 2>&1 || ! grep -q "$4" $build/log || ! grep -qE "$5\b" $build/log; then
        cat $build/log >&2
        echo "$2: no report of '$4' at $5 ($1 sanitizer)" >&2
        exit 1
    fi
}
found thread missing_barrier 1 "data race" "bugs.cu:(13|14)"
found thread missing_second_barrier 1 "data race" "bugs.cu:(20|22)"
found thread missing_warp_barrier 1 "data race" "bugs.cu:(35|36)"
found address global_out_of_bounds 1 "heap-buffer-overflow" "bugs.cu:39"
found address global_before_the_start 1 "heap-buffer-overflow" "bugs.cu:41"
found address shared_out_of_bounds 1 "index 64 out of bounds" "bugs.cu:45"
found address dynamic_out_of_bounds 1 "heap-buffer-overflow" "bugs.cu:52"
found address misaligned_float4 1 "misaligned address" "bugs.cu:58"
found address uninitialised_shared 1 "not finite" "element 63 of the output"
found address divergent_barrier 1 "divergent barrier" "bugs.cu:70"
found address two_barriers 1 "divergent barrier" "bugs.cu:(76|79)"
found thread race_between_blocks 2 "data race" "bugs.cu:85"
found address shuffle_without_all 1 "waits for lanes that have ended" "bugs.cu:92"
found address shuffle_not_in_mask 1 "a lane that its own mask does not name" "bugs.cu:96"
found address shuffle_after_exit 1 "waits for lanes that have ended" "bugs.cu:101"
found address misaligned_shared_float4 1 "misaligned address" "bugs.cu:113"
echo "kernels on the host: no complaint, and every seeded mistake was reported"
