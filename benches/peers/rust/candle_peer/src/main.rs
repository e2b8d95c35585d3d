//! candle (CPU, its own gemm crate). Usage: candle_peer WORKLOAD THREADS, then the worker protocol.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW};
use workloads::numbers::{normal, permutation};
use workloads::worker::{Job, framework};
use workloads::{
    CHECK_STEPS, DRAWS, HALF_LN_TAU, Kind, LANGEVIN_STEP, LEARNING_RATE, Workload, sigma, sigma_embedding,
};

fn t(v: Vec<f32>, shape: &[usize]) -> Tensor {
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}

struct Params {
    vars: Vec<Var>,
}

impl Params {
    fn var(&mut self, v: Vec<f32>, shape: &[usize]) -> Tensor {
        let var = Var::from_tensor(&t(v, shape)).unwrap();
        let out = var.as_tensor().clone();
        self.vars.push(var);
        out
    }
    fn linears(&mut self, w: &Workload) -> Vec<Linear> {
        w.linear_shapes()
            .iter()
            .zip(w.linear_params())
            .map(|(&(o, i), (a, b))| Linear::new(self.var(a, &[o, i]), Some(self.var(b, &[o]))))
            .collect()
    }
}

/// The linear maps of a workload's model, in the order of their parameters.
struct Net {
    d: usize,
    ls: Vec<Linear>,
}

impl Net {
    fn conditioner(&self, l: usize, id: &Tensor, ctx: &Tensor) -> Result<(Tensor, Tensor)> {
        let p = &self.ls[3 * l..3 * l + 3];
        let h = p[0].forward(&Tensor::cat(&[id, ctx], 1)?)?.silu()?;
        let o = p[2].forward(&p[1].forward(&h)?.silu()?)?;
        let n = o.dim(1)? / 2;
        let s = ((o.narrow(1, 0, n)? * 0.5)?.tanh()? * 2.0)?;
        Ok((s, o.narrow(1, n, n)?))
    }
    fn log_prob(&self, theta: &Tensor, ctx: &Tensor) -> Result<Tensor> {
        let a = self.d / 2;
        let mut z = theta.clone();
        let mut ld: Option<Tensor> = None;
        for l in 0..self.ls.len() / 3 {
            let (lo, hi) = (z.narrow(1, 0, a)?, z.narrow(1, a, self.d - a)?);
            let s;
            if l % 2 == 1 {
                let (s_, tt) = self.conditioner(l, &hi, ctx)?;
                z = Tensor::cat(&[&((lo * s_.exp()?)? + tt)?, &hi], 1)?;
                s = s_;
            } else {
                let (s_, tt) = self.conditioner(l, &lo, ctx)?;
                z = Tensor::cat(&[&lo, &((hi * s_.exp()?)? + tt)?], 1)?;
                s = s_;
            }
            let sl = s.sum(1)?;
            ld = Some(match ld {
                Some(x) => (x + sl)?,
                None => sl,
            });
        }
        ((z.sqr()?.sum(1)? * -0.5)? + ld.unwrap())? - self.d as f64 * HALF_LN_TAU
    }
    fn sample(&self, z: &Tensor, ctx: &Tensor) -> Result<Tensor> {
        let a = self.d / 2;
        let mut z = z.clone();
        for l in (0..self.ls.len() / 3).rev() {
            let (lo, hi) = (z.narrow(1, 0, a)?, z.narrow(1, a, self.d - a)?);
            if l % 2 == 1 {
                let (s, tt) = self.conditioner(l, &hi, ctx)?;
                z = Tensor::cat(&[&((lo - tt)? * s.neg()?.exp()?)?, &hi], 1)?;
            } else {
                let (s, tt) = self.conditioner(l, &lo, ctx)?;
                z = Tensor::cat(&[&lo, &((hi - tt)? * s.neg()?.exp()?)?], 1)?;
            }
        }
        Ok(z)
    }

    /// sigma times the score.
    fn score(&self, x: &Tensor, e: &Tensor) -> Result<Tensor> {
        let mut h = Tensor::cat(&[x, e], 1)?;
        for l in &self.ls[..self.ls.len() - 1] {
            h = l.forward(&h)?.silu()?;
        }
        self.ls[self.ls.len() - 1].forward(&h)
    }

    fn mixture_loss(&self, w: &Workload, theta: &Tensor, x: &Tensor) -> Result<Tensor> {
        let h = self.ls[0].forward(x)?.silu()?;
        let o = self.ls[2].forward(&self.ls[1].forward(&h)?.silu()?)?;
        let (k, d) = (w.latent, w.dim);
        let logit = candle_nn::ops::log_softmax(&o.narrow(1, 0, k)?, 1)?;
        let mu = o.narrow(1, k, k * d)?.reshape((w.batch, k, d))?;
        let s = o.narrow(1, k + k * d, k * d)?.reshape((w.batch, k, d))?;
        let e = (theta.unsqueeze(1)?.broadcast_sub(&mu)? * s.neg()?.exp()?)?;
        let lp = (((e.sqr()? * -0.5)? - s)?.sum(2)? - d as f64 * HALF_LN_TAU)?;
        (logit + lp)?.log_sum_exp(1)?.mean_all()?.neg()
    }

    fn autoencoder_loss(&self, x: &Tensor, eps: &Tensor) -> Result<Tensor> {
        let h = self.ls[0].forward(x)?.relu()?;
        let (mu, lv) = (self.ls[1].forward(&h)?, self.ls[2].forward(&h)?);
        let z = (&mu + ((&lv * 0.5)?.exp()? * eps)?)?;
        let y = self.ls[4].forward(&self.ls[3].forward(&z)?.relu()?)?;
        let rec = ((x - y)?.sqr()?.sum(1)? * 0.5)?;
        let kl = ((((mu.sqr()? + lv.exp()?)? - 1.0)? - lv)?.sum(1)? * 0.5)?;
        (rec + kl)?.mean_all()
    }
}

struct Peer {
    w: Workload,
    net: Net,
    opt: AdamW,
    /// Rows of data (of theta).
    a: Tensor,
    /// Context.
    b: Tensor,
    emb: Tensor,
    sig: Tensor,
    perm: Vec<u32>,
    step: usize,
    /// Langevin chains.
    x: Tensor,
}

impl Peer {
    fn new(w: Workload) -> Peer {
        let mut p = Params { vars: vec![] };
        let net = Net { d: w.dim, ls: p.linears(&w) };
        let zero = t(vec![0.0], &[1]);
        let (a, b) = match w.kind {
            Kind::Flow | Kind::Sample | Kind::LogProb | Kind::Mdn => {
                let (a, b) = w.pairs();
                (t(a, &[w.rows, w.dim]), t(b, &[w.rows, w.context]))
            }
            Kind::Langevin => (t(w.chains(), &[w.batch, w.dim]), zero.clone()),
            _ => (t(w.table(), &[w.rows, w.dim]), zero.clone()),
        };
        let prm = ParamsAdamW { lr: LEARNING_RATE, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
        let opt = AdamW::new(p.vars, prm).unwrap();
        Peer {
            w,
            net,
            opt,
            x: a.clone(),
            a,
            b,
            emb: t(sigma_embedding(w.embedding), &[10, w.embedding]),
            sig: t((0..10).map(|i| sigma(i) as f32).collect(), &[10]),
            perm: permutation(w.rows),
            step: 0,
        }
    }

    fn idx(&mut self) -> Tensor {
        let (n, b) = (self.w.rows, self.w.batch);
        let s = (self.step * b) % n;
        self.step += 1;
        Tensor::from_slice(&self.perm[s..s + b], b, &Device::Cpu).unwrap()
    }

    /// The loss of the next minibatch; with the noise of a check's step if one is given.
    fn loss(&mut self, check: Option<usize>) -> Result<Tensor> {
        let (idx, w, dev) = (self.idx(), self.w, Device::Cpu);
        let rows = self.a.index_select(&idx, 0)?;
        let noise = |cols: usize| match check {
            Some(i) => Ok(t(w.check_noise(i, cols), &[w.batch, cols])),
            None => Tensor::randn(0f32, 1f32, (w.batch, cols), &dev),
        };
        match w.kind {
            Kind::Flow => self.net.log_prob(&rows, &self.b.index_select(&idx, 0)?)?.mean_all()?.neg(),
            Kind::Mdn => self.net.mixture_loss(&w, &rows, &self.b.index_select(&idx, 0)?),
            Kind::Vae => self.net.autoencoder_loss(&rows, &noise(w.latent)?),
            _ => {
                let eps = noise(w.dim)?;
                let level = match check {
                    Some(i) => Tensor::from_vec(w.check_levels(i), w.batch, &dev)?,
                    None => Tensor::rand(0f32, 10f32, w.batch, &dev)?.to_dtype(DType::U32)?,
                };
                let sigma = self.sig.index_select(&level, 0)?.unsqueeze(1)?;
                let noisy = (&rows + eps.broadcast_mul(&sigma)?)?;
                let out = self.net.score(&noisy, &self.emb.index_select(&level, 0)?)?;
                (out + eps)?.sqr()?.sum(1)?.mean_all()? * 0.5
            }
        }
    }

    fn train(&mut self, check: Option<usize>) -> Result<Tensor> {
        let l = self.loss(check)?;
        let g = l.backward()?;
        self.opt.step(&g)?;
        Ok(l)
    }

    fn langevin(&mut self, lev: usize, z: Option<Tensor>) -> Result<()> {
        let (sg, al) = (sigma(lev), LANGEVIN_STEP * (sigma(lev) / sigma(9)).powi(2));
        let e = self.emb.narrow(0, lev, 1)?.broadcast_as((self.w.batch, self.w.embedding))?;
        let o = self.net.score(&self.x, &e)?.detach();
        let z = match z {
            Some(z) => z,
            None => self.x.randn_like(0.0, 1.0)?,
        };
        self.x = ((&self.x + (o * (0.5 * al / sg))?)? + (z * al.sqrt())?)?.detach();
        Ok(())
    }

    fn draw(&mut self) -> Result<()> {
        let f = &self.net;
        let k = self.w.batch;
        if self.w.kind == Kind::LogProb {
            let s = (self.step * k) % self.w.rows;
            f.log_prob(&self.a.narrow(0, s, k)?, &self.b.narrow(0, s, k)?)?;
        } else {
            let no = k / DRAWS;
            let s = (self.step * no) % self.w.rows;
            let x = self
                .b
                .narrow(0, s, no)?
                .unsqueeze(1)?
                .broadcast_as((no, DRAWS, self.w.context))?
                .reshape((k, self.w.context))?;
            f.sample(&Tensor::randn(0f32, 1f32, (k, self.w.dim), &Device::Cpu)?, &x)?;
        }
        self.step += 1;
        Ok(())
    }
}

impl Job for Peer {
    fn run(&mut self, n: usize) {
        for _ in 0..n {
            match self.w.kind {
                Kind::Langevin => {
                    if self.step % 1000 == 0 {
                        self.x = self.a.clone();
                    }
                    self.langevin((self.step / 100) % 10, None).unwrap();
                    self.step += 1;
                }
                Kind::Sample | Kind::LogProb => self.draw().unwrap(),
                _ => {
                    self.train(None).unwrap();
                }
            }
        }
    }
    fn check(&mut self) -> Vec<f64> {
        let mut p = Peer::new(self.w);
        let w = self.w;
        match w.kind {
            Kind::Langevin => (0..CHECK_STEPS)
                .map(|i| {
                    p.langevin(i, Some(t(normal(20000 + i as u64, w.batch * w.dim), &[w.batch, w.dim]))).unwrap();
                    p.x.abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap() as f64
                })
                .collect(),
            Kind::Sample | Kind::LogProb => {
                let f = &p.net;
                let x = p.b.narrow(0, 0, 10).unwrap();
                let o = if w.kind == Kind::LogProb {
                    f.log_prob(&p.a.narrow(0, 0, 10).unwrap(), &x).unwrap()
                } else {
                    f.sample(&t(normal(40000, 10 * w.dim), &[10, w.dim]), &x).unwrap().sum(1).unwrap()
                };
                o.to_vec1::<f32>().unwrap().iter().map(|&v| v as f64).collect()
            }
            _ => (0..CHECK_STEPS).map(|i| p.train(Some(i)).unwrap().to_scalar::<f32>().unwrap() as f64).collect(),
        }
    }
    fn items(&self) -> usize {
        self.w.items()
    }
}

fn main() -> std::io::Result<()> {
    framework(Peer::new)
}
