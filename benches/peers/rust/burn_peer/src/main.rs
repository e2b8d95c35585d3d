//! burn (flex backend). Usage: burn_peer WORKLOAD THREADS, then the worker protocol.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{log_softmax, relu, silu};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use workloads::numbers::{normal, permutation};
use workloads::worker::{Job, framework};
use workloads::{
    CHECK_STEPS, DRAWS, HALF_LN_TAU, Kind, LANGEVIN_STEP, LEARNING_RATE, Workload, sigma, sigma_embedding,
};

fn t<const D: usize>(v: Vec<f32>, shape: [usize; D], dev: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(v, shape), dev)
}

fn ti(v: &[u32], dev: &Device) -> Tensor<1, Int> {
    let v: Vec<i32> = v.iter().map(|&x| x as i32).collect();
    let n = v.len();
    Tensor::from_data(TensorData::new(v, [n]), dev)
}

fn linear(o: usize, i: usize, a: Vec<f32>, b: Vec<f32>, dev: &Device) -> Linear {
    let mut l = LinearConfig::new(i, o).init(dev);
    // burn keeps [in, out]
    let mut tr = vec![0f32; o * i];
    for r in 0..o {
        for c in 0..i {
            tr[c * o + r] = a[r * i + c];
        }
    }
    l.weight = Param::from_tensor(t(tr, [i, o], dev));
    l.bias = Some(Param::from_tensor(t(b, [o], dev)));
    l
}

fn linears(w: &Workload, dev: &Device) -> Vec<Linear> {
    w.linear_shapes().iter().zip(w.linear_params()).map(|(&(o, i), (a, b))| linear(o, i, a, b, dev)).collect()
}

#[derive(Module, Debug)]
struct Model {
    ls: Vec<Linear>,
}

impl Model {
    fn cond(&self, l: usize, id: Tensor<2>, ctx: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let p = &self.ls[3 * l..3 * l + 3];
        let h = silu(p[0].forward(Tensor::cat(vec![id, ctx], 1)));
        let o = p[2].forward(silu(p[1].forward(h)));
        let n = o.dims()[1] / 2;
        let s = o.clone().narrow(1, 0, n).mul_scalar(0.5).tanh().mul_scalar(2.0);
        (s, o.narrow(1, n, n))
    }
    fn log_prob(&self, theta: Tensor<2>, ctx: Tensor<2>) -> Tensor<2> {
        let d = theta.dims()[1];
        let a = d / 2;
        let mut z = theta;
        let mut ld: Option<Tensor<2>> = None;
        for l in 0..self.ls.len() / 3 {
            let (lo, hi) = (z.clone().narrow(1, 0, a), z.narrow(1, a, d - a));
            let s;
            if l % 2 == 1 {
                let (s_, tt) = self.cond(l, hi.clone(), ctx.clone());
                z = Tensor::cat(vec![lo * s_.clone().exp() + tt, hi], 1);
                s = s_;
            } else {
                let (s_, tt) = self.cond(l, lo.clone(), ctx.clone());
                z = Tensor::cat(vec![lo, hi * s_.clone().exp() + tt], 1);
                s = s_;
            }
            let sl = s.sum_dim(1);
            ld = Some(match ld {
                Some(x) => x + sl,
                None => sl,
            });
        }
        (z.clone() * z).sum_dim(1).mul_scalar(-0.5) + ld.unwrap() - d as f64 * HALF_LN_TAU
    }
    fn sample(&self, z: Tensor<2>, ctx: Tensor<2>) -> Tensor<2> {
        let d = z.dims()[1];
        let a = d / 2;
        let mut z = z;
        for l in (0..self.ls.len() / 3).rev() {
            let (lo, hi) = (z.clone().narrow(1, 0, a), z.narrow(1, a, d - a));
            if l % 2 == 1 {
                let (s, tt) = self.cond(l, hi.clone(), ctx.clone());
                z = Tensor::cat(vec![(lo - tt) * s.neg().exp(), hi], 1);
            } else {
                let (s, tt) = self.cond(l, lo.clone(), ctx.clone());
                z = Tensor::cat(vec![lo, (hi - tt) * s.neg().exp()], 1);
            }
        }
        z
    }
    fn score(&self, x: Tensor<2>, e: Tensor<2>) -> Tensor<2> {
        let mut h = Tensor::cat(vec![x, e], 1);
        let n = self.ls.len();
        for l in &self.ls[..n - 1] {
            h = silu(l.forward(h));
        }
        self.ls[n - 1].forward(h)
    }

    fn mixture_loss(&self, w: &Workload, theta: Tensor<2>, x: Tensor<2>) -> Tensor<1> {
        let h = silu(self.ls[0].forward(x));
        let o = self.ls[2].forward(silu(self.ls[1].forward(h)));
        let (b, k, d) = (w.batch, w.latent, w.dim);
        let logit = log_softmax(o.clone().narrow(1, 0, k), 1);
        let mu = o.clone().narrow(1, k, k * d).reshape([b, k, d]);
        let ls = o.narrow(1, k + k * d, k * d).reshape([b, k, d]);
        let e = (theta.reshape([b, 1, d]) - mu) * ls.clone().neg().exp();
        let lp = ((e.clone() * e).mul_scalar(-0.5) - ls).sum_dim(2).reshape([b, k]) - d as f64 * HALF_LN_TAU;
        let v = logit + lp;
        let most = v.clone().detach().max_dim(1);
        ((v - most.clone()).exp().sum_dim(1).log() + most).mean().neg()
    }

    fn autoencoder_loss(&self, x: Tensor<2>, eps: Tensor<2>) -> Tensor<1> {
        let h = relu(self.ls[0].forward(x.clone()));
        let (mu, lv) = (self.ls[1].forward(h.clone()), self.ls[2].forward(h));
        let z = mu.clone() + lv.clone().mul_scalar(0.5).exp() * eps;
        let r = x - self.ls[4].forward(relu(self.ls[3].forward(z)));
        let rec = (r.clone() * r).sum_dim(1).mul_scalar(0.5);
        let kl = (mu.clone() * mu + lv.clone().exp() - 1.0 - lv).sum_dim(1).mul_scalar(0.5);
        (rec + kl).mean()
    }
}

struct Peer {
    w: Workload,
    dev: Device,
    model: Option<Model>,
    opt: ModuleOptimizer,
    a: Tensor<2>,
    b: Tensor<2>,
    emb: Tensor<2>,
    sig: Tensor<1>,
    perm: Vec<u32>,
    step: usize,
    x: Tensor<2>,
}

impl Peer {
    fn new(w: Workload, base: &Device) -> Peer {
        let infer = matches!(w.kind, Kind::Langevin | Kind::Sample | Kind::LogProb);
        let dev = if infer { base.clone() } else { base.clone().autodiff() };
        let model = Model { ls: linears(&w, &dev) };
        let zero = t(vec![0.0], [1, 1], &dev);
        let (a, b) = match w.kind {
            Kind::Flow | Kind::Sample | Kind::LogProb | Kind::Mdn => {
                let (a, b) = w.pairs();
                (t(a, [w.rows, w.dim], &dev), t(b, [w.rows, w.context], &dev))
            }
            Kind::Langevin => (t(w.chains(), [w.batch, w.dim], &dev), zero),
            _ => (t(w.table(), [w.rows, w.dim], &dev), zero),
        };
        Peer {
            w,
            model: Some(model),
            opt: AdamConfig::new().with_epsilon(1e-8).init(),
            x: a.clone(),
            a,
            b,
            emb: t(sigma_embedding(w.embedding), [10, w.embedding], &dev),
            sig: t((0..10).map(|i| sigma(i) as f32).collect(), [10], &dev),
            perm: permutation(w.rows),
            step: 0,
            dev,
        }
    }

    /// The loss of the next minibatch; with the noise of a check's step if one is given.
    fn loss(&mut self, check: Option<usize>) -> Tensor<1> {
        let w = self.w;
        let (dev, b) = (&self.dev, w.batch);
        let start = (self.step * b) % w.rows;
        self.step += 1;
        let idx = ti(&self.perm[start..start + b], dev);
        let model = self.model.as_ref().unwrap();
        let rows = self.a.clone().select(0, idx.clone());
        let noise = |cols: usize| match check {
            Some(i) => t(w.check_noise(i, cols), [b, cols], dev),
            None => Tensor::random([b, cols], Distribution::Normal(0.0, 1.0), dev),
        };
        match w.kind {
            Kind::Flow => model.log_prob(rows, self.b.clone().select(0, idx)).mean().neg(),
            Kind::Mdn => model.mixture_loss(&w, rows, self.b.clone().select(0, idx)),
            Kind::Vae => model.autoencoder_loss(rows, noise(w.latent)),
            _ => {
                let eps = noise(w.dim);
                let level = match check {
                    Some(i) => ti(&w.check_levels(i), dev),
                    None => Tensor::<1>::random([b], Distribution::Uniform(0.0, 10.0), dev).int(),
                };
                let sigma = self.sig.clone().select(0, level.clone()).reshape([b, 1]);
                let noisy = rows + eps.clone() * sigma;
                let r = model.score(noisy, self.emb.clone().select(0, level)) + eps;
                (r.clone() * r).sum_dim(1).mean().mul_scalar(0.5)
            }
        }
    }

    fn train(&mut self, check: Option<usize>) -> Tensor<1> {
        let l = self.loss(check);
        let model = self.model.take().unwrap();
        let g = GradientsParams::from_grads(l.backward(), &model);
        self.model = Some(self.opt.step(LEARNING_RATE, model, g));
        l
    }

    fn langevin(&mut self, lev: usize, z: Option<Tensor<2>>) {
        let w = self.w;
        let (sg, al) = (sigma(lev), LANGEVIN_STEP * (sigma(lev) / sigma(9)).powi(2));
        let e = self.emb.clone().narrow(0, lev, 1).expand([w.batch, w.embedding]);
        let o = self.model.as_ref().unwrap().score(self.x.clone(), e);
        let z = z.unwrap_or_else(|| Tensor::random([w.batch, w.dim], Distribution::Normal(0.0, 1.0), &self.dev));
        self.x = self.x.clone() + o.mul_scalar(0.5 * al / sg) + z.mul_scalar(al.sqrt());
    }

    fn draw(&mut self) {
        let w = self.w;
        let k = w.batch;
        let m = self.model.as_ref().unwrap();
        if w.kind == Kind::LogProb {
            let s = (self.step * k) % w.rows;
            self.x = m.log_prob(self.a.clone().narrow(0, s, k), self.b.clone().narrow(0, s, k));
        } else {
            let no = k / DRAWS;
            let s = (self.step * no) % w.rows;
            let x: Tensor<3> =
                self.b.clone().narrow(0, s, no).reshape([no, 1, w.context]).expand([no, DRAWS, w.context]);
            let z = Tensor::random([k, w.dim], Distribution::Normal(0.0, 1.0), &self.dev);
            self.x = m.sample(z, x.reshape([k, w.context]));
        }
        self.step += 1;
    }
}

fn floats<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.try_into_vec_as::<f32>().unwrap().iter().map(|&v| v as f64).collect()
}

impl Job for Peer {
    fn run(&mut self, n: usize) {
        for _ in 0..n {
            match self.w.kind {
                Kind::Langevin => {
                    if self.step % 1000 == 0 {
                        self.x = self.a.clone();
                    }
                    self.langevin((self.step / 100) % 10, None);
                    self.step += 1;
                }
                Kind::Sample | Kind::LogProb => self.draw(),
                _ => {
                    self.train(None);
                }
            }
        }
        self.dev.sync().unwrap();
    }
    fn check(&mut self) -> Vec<f64> {
        let w = self.w;
        let mut p = Peer::new(w, &self.dev.clone().without_autodiff());
        match w.kind {
            Kind::Langevin => (0..CHECK_STEPS)
                .map(|i| {
                    let z = t(normal(20000 + i as u64, w.batch * w.dim), [w.batch, w.dim], &p.dev);
                    p.langevin(i, Some(z));
                    floats(p.x.clone().abs().mean())[0]
                })
                .collect(),
            Kind::Sample | Kind::LogProb => {
                let x = p.b.clone().narrow(0, 0, 10);
                let m = p.model.as_ref().unwrap();
                floats(if w.kind == Kind::LogProb {
                    m.log_prob(p.a.clone().narrow(0, 0, 10), x)
                } else {
                    m.sample(t(normal(40000, 10 * w.dim), [10, w.dim], &p.dev), x).sum_dim(1)
                })
            }
            _ => (0..CHECK_STEPS).map(|i| floats(p.train(Some(i)))[0]).collect(),
        }
    }
    fn items(&self) -> usize {
        self.w.items()
    }
}

fn main() -> std::io::Result<()> {
    framework(|workload| Peer::new(workload, &Device::flex()))
}
