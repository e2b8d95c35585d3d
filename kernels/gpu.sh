#!/usr/bin/env bash
# All CUDA tests on the machine's own GPU, then a table of what its kernels and steps reach beside the card's peaks.
# With --simulated the same on the simulated device: then the figures mean nothing, and only that it runs does.
set -euo pipefail
cd "$(dirname "$0")/.."

arguments=()
if [[ "${1:-}" == --simulated ]]; then
    echo "On the simulated device: the times below mean nothing."
    arguments=(-- --time)
else
    export RETRODICT_GPU=1
fi
tests=()
for file in tests/cuda*.rs; do
    tests+=(--test "$(basename "$file" .rs)")
done
cargo test --features cuda,weights "${tests[@]}"
cargo bench --features cuda --bench kernels "${arguments[@]}"
