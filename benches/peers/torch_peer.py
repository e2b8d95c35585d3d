"""PyTorch worker. Variants: eager (default), compile (torch.compile of the loss); both with the fused Adam.

Usage: torch_peer.py WORKLOAD THREADS [VARIANT]
"""
import os
import sys
import time

T0 = time.perf_counter()
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import workloads as C

NAME, THREADS, VARIANT = sys.argv[1], int(sys.argv[2]), (sys.argv + ["eager"])[3]
VAR = set(VARIANT.split(","))
torch.set_num_threads(THREADS)
torch.manual_seed(0)
WL = C.W[NAME]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def maybe_compile(f, **kw):
    return torch.compile(f, dynamic=False, **kw) if "compile" in VAR else f


def adam(params):
    return torch.optim.Adam(params, lr=C.LR, fused=True)


def linears(shapes):
    ps = C.linear_params(shapes)
    out = []
    for j, (o, i) in enumerate(shapes):
        l = nn.Linear(i, o)
        with torch.no_grad():
            l.weight.copy_(torch.from_numpy(ps[2 * j]))
            l.bias.copy_(torch.from_numpy(ps[2 * j + 1]))
        out.append(l)
    return out


# ------------------------------------------------------------------ models
class Coupling(nn.Module):
    def __init__(self, d, flip, ls):
        super().__init__()
        self.a, self.flip = d // 2, flip
        self.l1, self.l2, self.l3 = ls

    def net(self, z_id, ctx):
        h = F.silu(self.l1(torch.cat([z_id, ctx], 1)))
        h = F.silu(self.l2(h))
        s, t = self.l3(h).chunk(2, 1)
        return 2.0 * torch.tanh(0.5 * s), t

    def forward(self, z, ctx):
        lo, hi = z[:, : self.a], z[:, self.a :]
        if self.flip:
            s, t = self.net(hi, ctx)
            z = torch.cat([lo * torch.exp(s) + t, hi], 1)
        else:
            s, t = self.net(lo, ctx)
            z = torch.cat([lo, hi * torch.exp(s) + t], 1)
        return z, s.sum(1)

    def inverse(self, z, ctx):
        lo, hi = z[:, : self.a], z[:, self.a :]
        if self.flip:
            s, t = self.net(hi, ctx)
            return torch.cat([(lo - t) * torch.exp(-s), hi], 1)
        s, t = self.net(lo, ctx)
        return torch.cat([lo, (hi - t) * torch.exp(-s)], 1)


class RealNVP(nn.Module):
    def __init__(self, w):
        super().__init__()
        ls = linears(C.linear_shapes_npe(w))
        self.d = w["d"]
        self.layers = nn.ModuleList(
            [Coupling(w["d"], l % 2 == 1, ls[3 * l : 3 * l + 3]) for l in range(w["layers"])]
        )

    def log_prob(self, theta, ctx):
        z, ld = theta, 0.0
        for l in self.layers:
            z, d = l(z, ctx)
            ld = ld + d
        return -0.5 * (z * z).sum(1) - self.d * HALF_LOG_2PI + ld

    def sample(self, z, ctx):
        for l in reversed(self.layers):
            z = l.inverse(z, ctx)
        return z


class ScoreMLP(nn.Module):
    """Returns sigma * score (the network's raw output)."""

    def __init__(self, w):
        super().__init__()
        self.ls = nn.ModuleList(linears(C.linear_shapes_dsm(w)))
        self.register_buffer("emb", torch.from_numpy(C.sigma_embedding(w["emb"])))
        self.register_buffer("sig", torch.from_numpy(C.SIGMAS.astype(np.float32)))

    def forward(self, x, lev):
        h = torch.cat([x, self.emb[lev]], 1)
        for l in self.ls[:-1]:
            h = F.silu(l(h))
        return self.ls[-1](h)


class VAE(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.e, self.mu, self.lv, self.d1, self.d2 = linears(C.linear_shapes_vae(w))

    def loss(self, x, eps):
        h = F.relu(self.e(x))
        mu, lv = self.mu(h), self.lv(h)
        z = mu + torch.exp(0.5 * lv) * eps
        y = self.d2(F.relu(self.d1(z)))
        rec = 0.5 * ((x - y) ** 2).sum(1)
        kl = 0.5 * (mu * mu + torch.exp(lv) - 1.0 - lv).sum(1)
        return (rec + kl).mean()


class MDN(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.ls = nn.ModuleList(linears(C.linear_shapes_mdn(w)))
        self.k, self.d = w["k"], w["d"]

    def loss(self, theta, ctx):
        h = F.silu(self.ls[0](ctx))
        h = F.silu(self.ls[1](h))
        o = self.ls[2](h)
        k, d = self.k, self.d
        logit = F.log_softmax(o[:, :k], 1)
        mu = o[:, k : k + k * d].view(-1, k, d)
        ls = o[:, k + k * d :].view(-1, k, d)
        e = (theta[:, None, :] - mu) * torch.exp(-ls)
        lp = (-0.5 * e * e - ls).sum(2) - d * HALF_LOG_2PI
        return -torch.logsumexp(logit + lp, 1).mean()


def dsm_loss(model, x, lev, eps):
    sig = model.sig[lev].view(-1, *([1] * (x.dim() - 1)))
    out = model(x + sig * eps, lev)
    return 0.5 * ((out + eps) ** 2).flatten(1).sum(1).mean()


# ------------------------------------------------------------------ jobs
class Train:
    items = 1

    def __init__(self):
        self.perm = torch.from_numpy(C.permutation(WL["n"]))
        self.t = 0
        self.fresh()

    def fresh(self):
        self.make()
        self.opt = adam(list(self.model.parameters()))
        self.closs = maybe_compile(self.loss)

    def idx(self):
        b = WL["batch"]
        s = (self.t * b) % WL["n"]
        self.t += 1
        return self.perm[s : s + b]

    def run(self, n):
        for _ in range(n):
            l = self.closs(self.idx(), None)
            self.opt.zero_grad(set_to_none=True)
            l.backward()
            self.opt.step()

    def check(self):
        self.t = 0
        self.fresh()
        out = []
        for t in range(C.CHECK_STEPS):
            l = self.closs(self.idx(), self.noise(t))
            self.opt.zero_grad(set_to_none=True)
            l.backward()
            self.opt.step()
            out.append(l.item())
        return out

    def noise(self, t):
        return 0


class Npe(Train):
    def make(self):
        th, x = C.data_npe(WL)
        self.theta, self.x = torch.from_numpy(th), torch.from_numpy(x)
        self.model = RealNVP(WL)

    def loss(self, idx, _):
        return -self.model.log_prob(self.theta[idx], self.x[idx]).mean()


class Dsm(Train):
    def make(self):
        self.data = torch.from_numpy(C.data_dsm(WL))
        self.model = ScoreMLP(WL)

    def loss(self, idx, noise):
        x = self.data[idx]
        if noise is None:
            lev = torch.randint(0, WL["levels"], (x.shape[0],))
            eps = torch.randn_like(x)
        else:
            lev, eps = noise
        return dsm_loss(self.model, x, lev, eps)

    def noise(self, t):
        b = WL["batch"]
        lev = torch.from_numpy(C.levels_for_check(t, b))
        return lev, torch.from_numpy(C.normal(20000 + t, b * self.data[0].numel()).reshape(b, *self.data.shape[1:]))


class Vae(Train):
    def make(self):
        self.data = torch.from_numpy(C.data_vae(WL))
        self.model = VAE(WL)

    def loss(self, idx, eps):
        x = self.data[idx]
        if eps is None:
            eps = torch.randn(x.shape[0], WL["z"])
        return self.model.loss(x, eps)

    def noise(self, t):
        return torch.from_numpy(C.normal(20000 + t, WL["batch"] * WL["z"]).reshape(-1, WL["z"]))


class Mdn(Train):
    def make(self):
        th, x = C.data_npe(WL)
        self.theta, self.x = torch.from_numpy(th), torch.from_numpy(x)
        self.model = MDN(WL)

    def loss(self, idx, _):
        return self.model.loss(self.theta[idx], self.x[idx])


class Langevin:
    items = WL.get("chains", 1)

    def __init__(self):
        self.model = ScoreMLP(WL)
        self.x0 = torch.from_numpy(2.0 * C.uniform(5, WL["chains"] * WL["d"]) - 1.0).view(WL["chains"], WL["d"])
        self.x = self.x0.clone()
        self.t = 0
        self.cstep = maybe_compile(self.step)

    def step(self, x, lev, alpha, sig, z):
        e = self.model.emb[lev].expand(x.shape[0], -1)
        h = torch.cat([x, e], 1)
        for l in self.model.ls[:-1]:
            h = F.silu(l(h))
        s = self.model.ls[-1](h) / sig
        return x + 0.5 * alpha * s + torch.sqrt(alpha) * z

    def args(self, lev):
        sig = torch.tensor(float(C.SIGMAS[lev]))
        alpha = torch.tensor(float(C.LANGEVIN_EPS * (C.SIGMAS[lev] / C.SIGMAS[-1]) ** 2))
        return torch.tensor([lev]), alpha, sig

    @torch.no_grad()
    def run(self, n):
        for _ in range(n):
            lev = (self.t // 100) % 10
            if self.t % 1000 == 0:
                self.x = self.x0.clone()
            self.t += 1
            self.x = self.cstep(self.x, *self.args(lev), torch.randn_like(self.x))

    @torch.no_grad()
    def check(self):
        x, out = self.x0.clone(), []
        for t in range(C.CHECK_STEPS):
            x = self.cstep(x, *self.args(t), torch.from_numpy(C.normal(20000 + t, x.numel()).reshape(x.shape)))
            out.append(x.abs().mean().item())
        return out


CHUNK = int(os.environ.get("PEERS_CHUNK", "1000"))  # rows per call


class Sample:
    def __init__(self):
        w = dict(WL)
        self.model = RealNVP(w)
        self.logp = WL["kind"] == "npe_logprob"
        n = WL["pairs"] if self.logp else WL["obs"]
        self.theta, self.x = (torch.from_numpy(a) for a in C.data_npe(w, n))
        self.chunk = CHUNK
        self.items = CHUNK
        self.t = 0
        self.f = maybe_compile(self.model.log_prob if self.logp else self.model.sample)

    @torch.inference_mode()
    def run(self, n):
        k = self.chunk
        for _ in range(n):
            if self.logp:
                s = (self.t * k) % (WL["pairs"] // k * k)
                self.out = self.f(self.theta[s : s + k], self.x[s : s + k])
            else:
                no = k // WL["draws"]
                s = (self.t * no) % (WL["obs"] // no * no)
                xs = self.x[s : s + no]
                self.out = self.f(torch.randn(k, WL["d"]), xs.repeat_interleave(WL["draws"], 0))
            self.t += 1

    @torch.inference_mode()
    def check(self):
        if self.logp:
            return self.model.log_prob(self.theta[:10], self.x[:10]).tolist()
        z = torch.from_numpy(C.normal(40000, 10 * WL["d"]).reshape(10, -1))
        return self.model.sample(z, self.x[:10]).sum(1).tolist()


KIND = dict(npe=Npe, dsm=Dsm, langevin=Langevin, vae=Vae, mdn=Mdn, npe_sample=Sample, npe_logprob=Sample)

if __name__ == "__main__":
    C.serve(KIND[WL["kind"]](), T0)
