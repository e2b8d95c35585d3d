"""JAX worker (jit, optax Adam, donated state). Variants: jit (default), scan (16 steps per call by lax.scan).

Usage: jax_peer.py WORKLOAD THREADS [VARIANT]   (with one thread the caller pins the process to one core)
"""
import os
import sys
import time

T0 = time.perf_counter()
NAME, THREADS, VARIANT = sys.argv[1], int(sys.argv[2]), (sys.argv + ["jit"])[3]
VAR = set(VARIANT.split(","))
if THREADS == 1:
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.nn import relu, silu

import workloads as C

WL = C.W[NAME]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def linears(shapes):
    ps = C.linear_params(shapes)
    return [(jnp.asarray(np.ascontiguousarray(ps[2 * j].T)), jnp.asarray(ps[2 * j + 1])) for j in range(len(shapes))]


def lin(p, x):
    return x @ p[0] + p[1]


# ------------------------------------------------------------------ models
def conditioner(p, z_id, ctx):
    h = silu(lin(p[0], jnp.concatenate([z_id, ctx], 1)))
    h = silu(lin(p[1], h))
    s, t = jnp.split(lin(p[2], h), 2, 1)
    return 2.0 * jnp.tanh(0.5 * s), t


def npe_log_prob(ps, theta, ctx):
    d = WL["d"]
    a = d // 2
    z, ld = theta, 0.0
    for l in range(WL["layers"]):
        p = ps[3 * l : 3 * l + 3]
        lo, hi = z[:, :a], z[:, a:]
        if l % 2:
            s, t = conditioner(p, hi, ctx)
            z = jnp.concatenate([lo * jnp.exp(s) + t, hi], 1)
        else:
            s, t = conditioner(p, lo, ctx)
            z = jnp.concatenate([lo, hi * jnp.exp(s) + t], 1)
        ld = ld + s.sum(1)
    return -0.5 * (z * z).sum(1) - d * HALF_LOG_2PI + ld


def npe_sample(ps, z, ctx):
    a = WL["d"] // 2
    for l in reversed(range(WL["layers"])):
        p = ps[3 * l : 3 * l + 3]
        lo, hi = z[:, :a], z[:, a:]
        if l % 2:
            s, t = conditioner(p, hi, ctx)
            z = jnp.concatenate([(lo - t) * jnp.exp(-s), hi], 1)
        else:
            s, t = conditioner(p, lo, ctx)
            z = jnp.concatenate([lo, (hi - t) * jnp.exp(-s)], 1)
    return z


SIG = jnp.asarray(C.SIGMAS.astype(np.float32))


def score_out(ps, x, e):
    h = jnp.concatenate([x, e], 1)
    for p in ps[:-1]:
        h = silu(lin(p, h))
    return lin(ps[-1], h)


def vae_loss(ps, x, eps):
    h = relu(lin(ps[0], x))
    mu, lv = lin(ps[1], h), lin(ps[2], h)
    z = mu + jnp.exp(0.5 * lv) * eps
    y = lin(ps[4], relu(lin(ps[3], z)))
    return (0.5 * ((x - y) ** 2).sum(1) + 0.5 * (mu * mu + jnp.exp(lv) - 1.0 - lv).sum(1)).mean()


def mdn_loss(ps, theta, ctx):
    k, d = WL["k"], WL["d"]
    o = lin(ps[2], silu(lin(ps[1], silu(lin(ps[0], ctx)))))
    logit = jax.nn.log_softmax(o[:, :k], 1)
    mu = o[:, k : k + k * d].reshape(-1, k, d)
    ls = o[:, k + k * d :].reshape(-1, k, d)
    e = (theta[:, None, :] - mu) * jnp.exp(-ls)
    lp = (-0.5 * e * e - ls).sum(2) - d * HALF_LOG_2PI
    return -jax.scipy.special.logsumexp(logit + lp, 1).mean()


# ------------------------------------------------------------------ jobs
SCAN = 16


class Train:
    unit = SCAN if "scan" in VAR else 1

    def __init__(self):
        self.items = 1
        self.make()
        self.opt = optax.adam(C.LR)
        self.perm = jnp.asarray(C.permutation(WL["n"]).astype(np.int32))
        n, b = WL["n"], WL["batch"]

        def step(params, st, key, t, data, noise):
            idx = lax.dynamic_slice(self.perm, ((t * b) % n,), (b,))
            batch = tuple(jnp.take(d, idx, axis=0) for d in data)
            if noise is None:
                key, sub = jax.random.split(key)
                noise = self.draw(sub)
            l, g = jax.value_and_grad(self.loss)(params, batch, noise)
            u, st = self.opt.update(g, st, params)
            return optax.apply_updates(params, u), st, key, t + 1, l

        self.step_check = jax.jit(step)
        if "scan" in VAR:
            def many(params, st, key, t, data):
                def body(c, _):
                    p, s, k, t_, l = step(*c, data, None)
                    return (p, s, k, t_), l
                (p, s, k, t_), l = lax.scan(body, (params, st, key, t), None, length=SCAN)
                return p, s, k, t_, l[-1]
            self.jstep = jax.jit(many, donate_argnums=(0, 1, 2, 3))
        else:
            self.jstep = jax.jit(lambda p, s, k, t, d: step(p, s, k, t, d, None), donate_argnums=(0, 1, 2, 3))
        self.state = (self.params, self.opt.init(self.params), jax.random.key(0), jnp.int32(0))

    def run(self, n):
        for _ in range(n // self.unit):
            *st, l = self.jstep(*self.state, self.data)
            self.state = tuple(st)
        jax.block_until_ready((self.state, l))

    def check(self):
        self.make()
        p, s, k, t = self.params, self.opt.init(self.params), jax.random.key(0), jnp.int32(0)
        out = []
        for i in range(C.CHECK_STEPS):
            p, s, k, t, l = self.step_check(p, s, k, t, self.data, self.noise(i))
            out.append(float(l))
        return out

    def draw(self, key):
        return 0

    def noise(self, t):
        return 0


class Npe(Train):
    def make(self):
        self.data = tuple(jnp.asarray(a) for a in C.data_npe(WL))
        self.params = linears(C.linear_shapes_npe(WL))

    def loss(self, ps, batch, _):
        return -npe_log_prob(ps, *batch).mean()


class Mdn(Npe):
    def make(self):
        self.data = tuple(jnp.asarray(a) for a in C.data_npe(WL))
        self.params = linears(C.linear_shapes_mdn(WL))

    def loss(self, ps, batch, _):
        return mdn_loss(ps, *batch)


class Dsm(Train):
    shape = (WL.get("batch", 1), WL.get("d", 1))

    def make(self):
        self.data = (jnp.asarray(C.data_dsm(WL)),)
        self.emb = jnp.asarray(C.sigma_embedding(WL["emb"]))
        self.params = linears(C.linear_shapes_dsm(WL))
        self.net = score_out

    def draw(self, key):
        a, b = jax.random.split(key)
        return jax.random.randint(a, (WL["batch"],), 0, WL["levels"]), jax.random.normal(b, self.shape)

    def noise(self, t):
        b = WL["batch"]
        e = C.normal(20000 + t, int(np.prod(self.shape))).reshape(self.shape)
        return jnp.asarray(C.levels_for_check(t, b).astype(np.int32)), jnp.asarray(e)

    def loss(self, ps, batch, noise):
        (x,) = batch
        lev, eps = noise
        sig = SIG[lev].reshape((-1,) + (1,) * (x.ndim - 1))
        r = self.net(ps, x + sig * eps, self.emb[lev]) + eps
        return 0.5 * (r * r).reshape(x.shape[0], -1).sum(1).mean()


class Vae(Train):
    def make(self):
        self.data = (jnp.asarray(C.data_vae(WL)),)
        self.params = linears(C.linear_shapes_vae(WL))

    def draw(self, key):
        return jax.random.normal(key, (WL["batch"], WL["z"]))

    def noise(self, t):
        return jnp.asarray(C.normal(20000 + t, WL["batch"] * WL["z"]).reshape(-1, WL["z"]))

    def loss(self, ps, batch, eps):
        return vae_loss(ps, batch[0], eps)


INNER = 10  # Langevin steps per call


class Langevin:
    unit = INNER

    def __init__(self):
        n, d = WL["chains"], WL["d"]
        self.items = n
        self.ps = linears(C.linear_shapes_dsm(WL))
        self.emb = jnp.asarray(C.sigma_embedding(WL["emb"]))
        self.x0 = jnp.asarray((2.0 * C.uniform(5, n * d) - 1.0).reshape(n, d))
        self.t = 0
        sig = SIG
        alpha = jnp.asarray((C.LANGEVIN_EPS * (C.SIGMAS / C.SIGMAS[-1]) ** 2).astype(np.float32))

        def one(ps, x, lev, z):
            e = jnp.broadcast_to(self.emb[lev], (n, WL["emb"]))
            s = score_out(ps, x, e) / sig[lev]
            return x + 0.5 * alpha[lev] * s + jnp.sqrt(alpha[lev]) * z

        def many(ps, x, lev, key):
            def body(_, c):
                x, key = c
                key, sub = jax.random.split(key)
                return one(ps, x, lev, jax.random.normal(sub, x.shape)), key
            return lax.fori_loop(0, INNER, body, (x, key))

        self.one = jax.jit(one)
        self.many = jax.jit(many)
        self.x, self.key = self.x0, jax.random.key(0)

    def run(self, n):
        for _ in range(n // INNER):
            if self.t % 1000 == 0:
                self.x = self.x0
            self.x, self.key = self.many(self.ps, self.x, (self.t // 100) % 10, self.key)
            self.t += INNER
        jax.block_until_ready(self.x)

    def check(self):
        x, out = self.x0, []
        for t in range(C.CHECK_STEPS):
            x = self.one(self.ps, x, t, jnp.asarray(C.normal(20000 + t, x.size).reshape(x.shape)))
            out.append(float(jnp.abs(x).mean()))
        return out


class Sample:
    def __init__(self):
        self.logp = WL["kind"] == "npe_logprob"
        n = WL["pairs"] if self.logp else WL["obs"]
        self.theta, self.x = (jnp.asarray(a) for a in C.data_npe(WL, n))
        self.ps = linears(C.linear_shapes_npe(WL))
        k = self.chunk = int(os.environ.get("PEERS_CHUNK", "4000"))
        self.items = k
        self.t = 0
        self.key = jax.random.key(0)
        no = k // WL.get("draws", 1)

        if self.logp:
            def f(ps, theta, x, s):
                return npe_log_prob(ps, lax.dynamic_slice(theta, (s, 0), (k, WL["d"])), lax.dynamic_slice(x, (s, 0), (k, WL["c"])))
        else:
            def f(ps, x, s, key):
                key, sub = jax.random.split(key)
                xs = jnp.repeat(lax.dynamic_slice(x, (s, 0), (no, WL["c"])), WL["draws"], 0)
                return npe_sample(ps, jax.random.normal(sub, (k, WL["d"])), xs), key
        self.f = jax.jit(f)

    def run(self, n):
        k = self.chunk
        for _ in range(n):
            if self.logp:
                out = self.f(self.ps, self.theta, self.x, (self.t * k) % (WL["pairs"] // k * k))
            else:
                no = k // WL["draws"]
                out, self.key = self.f(self.ps, self.x, (self.t * no) % (WL["obs"] // no * no), self.key)
            self.t += 1
        jax.block_until_ready(out)

    def check(self):
        if self.logp:
            return [float(v) for v in npe_log_prob(self.ps, self.theta[:10], self.x[:10])]
        z = jnp.asarray(C.normal(40000, 10 * WL["d"]).reshape(10, -1))
        return [float(v) for v in npe_sample(self.ps, z, self.x[:10]).sum(1)]


KIND = dict(npe=Npe, dsm=Dsm, langevin=Langevin, vae=Vae, mdn=Mdn, npe_sample=Sample, npe_logprob=Sample)

if __name__ == "__main__":
    C.serve(KIND[WL["kind"]](), T0)
