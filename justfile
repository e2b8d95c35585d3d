# Everything that continuous integration runs.
ci:
    bash .ci/run

# The tests, as the README runs them.
test:
    cargo test --features cli

# Formatting, lints and documentation, warnings denied.
lint:
    find . -name target -prune -o -name '*.rs' -print0 | xargs -0 rustfmt --edition 2024 --check
    cargo clippy --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

# The main job: 371 real galaxies (pass `--quick` for a look at the machinery).
galaxies *ARGS:
    cargo run --release --features arrays,plots,progress --example sed_fitting -- {{ARGS}}

# Every density family on densities whose truth is known (`--quick` for a look).
zoo *ARGS:
    cargo run --release --features plots,progress --example density_zoo -- {{ARGS}}

# The PTX that stands beside the CUDA kernels (installs NVRTC under target/; needs no GPU).
kernels:
    python3 kernels/compile.py

# The CUDA kernels on the processor, compiled by g++ with its sanitizers.
sanitize:
    kernels/host/check.sh

# The CUDA tests on the machine's own GPU, and what its kernels reach beside its peaks (`--simulated` to see that it runs).
gpu *ARGS:
    kernels/gpu.sh {{ARGS}}

# What each kernel moves against the least that it must, counted by the simulated driver.
counts:
    cargo bench --features cuda --bench kernels

# A table of every layer's cost, and a step beside the machine's peak; run it on a quiet machine.
bench:
    cargo bench -q --bench layers -- --table
    cargo bench -q --bench training_step -- --table

# The criterion benches, with their history.
criterion:
    cargo bench --bench layers
    cargo bench --bench training_step
    cargo bench --bench gemm

# The library beside PyTorch, JAX, candle and burn (installs and builds them the first time).
peers *ARGS:
    benches/peers/run.sh {{ARGS}}
