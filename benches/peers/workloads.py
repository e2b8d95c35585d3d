"""What the Python peers share: deterministic numbers, data sets, shapes, and the worker protocol.

WORKLOADS.md defines every number here.
"""
import json
import os
import sys
import time

import numpy as np

# ------------------------------------------------------------------ deterministic numbers
_G = np.uint64(0x9E3779B97F4A7C15)
_A = np.uint64(0xBF58476D1CE4E5B9)
_B = np.uint64(0x94D049BB133111EB)
_S = np.uint64(0xD1342543DE82EF95)


def hash64(seed, n, first=0):
    """h(seed, i) for i in first..first + n: splitmix64's finaliser of seed * S + i (wrapping)."""
    with np.errstate(over="ignore"):
        x = np.uint64(seed) * _S + np.arange(first, first + n, dtype=np.uint64)
        z = x + _G
        z = (z ^ (z >> np.uint64(30))) * _A
        z = (z ^ (z >> np.uint64(27))) * _B
        return z ^ (z >> np.uint64(31))


_BLOCK = 1 << 16  # made piecewise, so that the generator does not show in the peak RSS


def uniform(seed, n):
    """[0, 1): the top 24 bits over 2^24, exact in f32."""
    out = np.empty(n, np.float32)
    for a in range(0, n, _BLOCK):
        b = min(n, a + _BLOCK)
        out[a:b] = (hash64(seed, b - a, a) >> np.uint64(40)).astype(np.float64) * 2.0**-24
    return out


def normal(seed, n):
    """Box-Muller (cosine half) in f64, rounded to f32."""
    out = np.empty(n, np.float32)
    for a in range(0, n, _BLOCK):
        b = min(n, a + _BLOCK)
        h = (hash64(seed, 2 * (b - a), 2 * a) >> np.uint64(40)).astype(np.float64)
        u1 = (h[0::2] + 1.0) * 2.0**-24
        u2 = h[1::2] * 2.0**-24
        out[a:b] = np.sqrt(-2.0 * np.log(u1)) * np.cos(2.0 * np.pi * u2)
    return out


def permutation(n, seed=7):
    return np.argsort(hash64(seed, n), kind="stable").astype(np.int64)


# ------------------------------------------------------------------ workload constants
W = {
    "W1": dict(kind="npe", d=5, c=16, layers=8, h=64, batch=256, n=16384),
    "W2": dict(kind="npe", d=12, c=64, layers=8, h=256, batch=512, n=16384),
    "W3": dict(kind="dsm", d=16, h=256, emb=32, levels=10, batch=512, n=16384),
    "W4": dict(kind="langevin", d=16, h=256, emb=32, levels=10, chains=4096),
    "W5": dict(kind="vae", x=784, h=400, z=20, batch=128, n=8192),
    "W6": dict(kind="mdn", d=5, c=16, h=64, k=8, batch=256, n=16384),
    "W7s": dict(kind="npe_sample", d=5, c=16, layers=8, h=64, obs=1000, draws=1000),
    "W7l": dict(kind="npe_logprob", d=5, c=16, layers=8, h=64, pairs=1_000_000),
}
ORDER = ["W1", "W2", "W3", "W4", "W5", "W6", "W7s", "W7l"]
SIGMAS = np.array([1.0 * (0.01 / 1.0) ** (i / 9.0) for i in range(10)], dtype=np.float64)
LANGEVIN_EPS = 2e-5
LR = 5e-4
CHECK_STEPS = 10


def linear_shapes_npe(w):
    """Per coupling layer: (out, in) of the three linear maps."""
    a = w["d"] // 2
    out = []
    for l in range(w["layers"]):
        d_id, d_tr = (a, w["d"] - a) if l % 2 == 0 else (w["d"] - a, a)
        out += [(w["h"], d_id + w["c"]), (w["h"], w["h"]), (2 * d_tr, w["h"])]
    return out


def linear_shapes_dsm(w):
    h = w["h"]
    return [(h, w["d"] + w["emb"]), (h, h), (h, h), (h, h), (w["d"], h)]


def linear_shapes_vae(w):
    return [(w["h"], w["x"]), (w["z"], w["h"]), (w["z"], w["h"]), (w["h"], w["z"]), (w["x"], w["h"])]


def linear_shapes_mdn(w):
    return [(w["h"], w["c"]), (w["h"], w["h"]), (w["k"] * (1 + 2 * w["d"]), w["h"])]


def linear_params(shapes, first=100):
    """[W0, b0, W1, b1, ...] in row-major [out, in]; tensor p of the list uses seed first + p."""
    ps = []
    for o, i in shapes:
        b = 1.0 / np.sqrt(i)
        for shape in ((o, i), (o,)):
            u = uniform(first + len(ps), int(np.prod(shape)))
            ps.append(((2.0 * u - 1.0) * np.float32(b)).astype(np.float32).reshape(shape))
    return ps


def data_npe(w, n=None):
    n = n or w["n"]
    theta = normal(1, n * w["d"]).reshape(n, w["d"])
    noise = normal(2, n * w["c"]).reshape(n, w["c"])
    noise *= np.float32(0.5)
    for j in range(w["c"]):
        noise[:, j] += theta[:, j % w["d"]]
    return theta, noise


def data_dsm(w):
    return (np.float32(0.5) * normal(1, w["n"] * w["d"])).astype(np.float32).reshape(w["n"], w["d"])


def data_vae(w):
    return uniform(1, w["n"] * w["x"]).reshape(w["n"], w["x"])


def sigma_embedding(dim):
    """[levels, dim]: sin | cos of f_k * ln sigma_i with f_k = 0.25 * 2^(k/4), k = 0..dim/2."""
    k = np.arange(dim // 2)
    f = 0.25 * 2.0 ** (k / 4.0)
    a = np.log(SIGMAS)[:, None] * f[None, :]
    return np.concatenate([np.sin(a), np.cos(a)], 1).astype(np.float32)


def levels_for_check(t, batch):
    return np.minimum((10.0 * uniform(30000 + t, batch)).astype(np.int64), 9)


# ------------------------------------------------------------------ FLOPs (2 per multiply-add)
def flops(name):
    """FLOPs of a step's matrix products (of a row for W7). Training counts forward, weight gradients and input
    gradients, the latter not where the input is data or context."""
    w = W[name]
    k = w["kind"]
    if k == "npe":
        f = d = 0
        for o, i in linear_shapes_npe(w):
            f += o * i
        for l, (o, i) in enumerate(linear_shapes_npe(w)):
            d += o * (i - w["c"]) if l % 3 == 0 else o * i
        a = w["d"] // 2
        d -= w["h"] * a  # the first layer's identity part is data
        return 2 * w["batch"] * (2 * f + d)
    if k in ("dsm", "mdn", "vae"):
        sh = dict(dsm=linear_shapes_dsm, mdn=linear_shapes_mdn, vae=linear_shapes_vae)[k](w)
        f = sum(o * i for o, i in sh)
        return 2 * w["batch"] * (3 * f - sh[0][0] * sh[0][1])
    if k == "langevin":
        return 2 * w["chains"] * sum(o * i for o, i in linear_shapes_dsm(w))
    if k == "npe_sample":
        return 2 * sum(o * i for o, i in linear_shapes_npe(w))  # per sample
    if k == "npe_logprob":
        return 2 * sum(o * i for o, i in linear_shapes_npe(w))  # per pair
    raise KeyError(name)


# ------------------------------------------------------------------ the worker protocol
def vm_hwm_mb():
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024.0
    return float("nan")


def serve(job, t0):
    """job.run(n): n steps, finished when it returns; job.items: work items per step (rows sampled,
    chain-steps, ...); job.check(): list of floats. Talks in lines on stdin/stdout."""
    out = sys.stdout
    unit = getattr(job, "unit", 1)  # steps that one compiled call does
    job.run(unit)
    t1 = time.perf_counter()
    for _ in range(3):
        job.run(unit)
    # steps per timed chunk: at least ~4 ms, so that clocks and calls do not matter
    a = time.perf_counter()
    job.run(unit)
    one = (time.perf_counter() - a) / unit
    n = max(1, int(np.ceil(0.004 / max(one, 1e-6))))
    n = -(-min(n, 64) // unit) * unit
    job.run(n)
    print(json.dumps(dict(ready=True, startup_s=round(t1 - t0, 3), items=job.items, chunk=n)), file=out, flush=True)
    for line in sys.stdin:
        cmd = line.split()
        if not cmd:
            continue
        if cmd[0] == "slice":
            end = time.perf_counter() + float(cmd[1])
            ms = []
            while True:
                a = time.perf_counter()
                job.run(n)
                b = time.perf_counter()
                ms.append(1e3 * (b - a) / n)
                if b >= end:
                    break
            print(json.dumps(dict(ms=ms)), file=out, flush=True)
        elif cmd[0] == "check":
            print(json.dumps(dict(check=[float(v) for v in job.check()])), file=out, flush=True)
        elif cmd[0] == "quit":
            print(json.dumps(dict(rss_mb=round(vm_hwm_mb(), 1))), file=out, flush=True)
            return
