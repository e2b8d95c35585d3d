"""Starts the workers of a workload, lets them take turns in short slices, and prints one table.

Workers answer the protocol of WORKLOADS.md. A slice counts as clean if other processes took at most 5 % of the
machine, or (one thread, pinned) if the worker itself had its core for 97 % of the time. Unclean slices count only
where fewer than two clean ones exist; the table marks such rows with '*'. `--help` lists the options.
"""
import argparse
import json
import os
import statistics as st
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.environ.get("PEERS_HOME", os.path.join(HERE, "target"))  # what setup.sh makes
WORKLOADS = ["W1", "W2", "W3", "W4", "W5", "W6", "W7s", "W7l"]
TRAINING = ["W1", "W2", "W3", "W5", "W6"]


def python(venv, script, variant):
    return lambda w, t: [os.path.join(HOME, venv, "bin", "python"), os.path.join(HERE, script), w, str(t), variant]


def binary(*path):
    return lambda w, t: [os.path.join(HOME, *path), w, str(t)]


PEERS = {
    "retrodict": (binary("engine", "release", "examples", "workloads"), WORKLOADS),
    "torch": (python("torch", "torch_peer.py", "eager"), WORKLOADS),
    "torch-compile": (python("torch", "torch_peer.py", "compile"), WORKLOADS),
    "jax": (python("jax", "jax_peer.py", "jit"), WORKLOADS),
    "jax-scan": (python("jax", "jax_peer.py", "scan"), TRAINING),
    "candle": (binary("rust", "release", "candle_peer"), WORKLOADS),
    "burn": (binary("rust", "release", "burn_peer"), WORKLOADS),
}


def environment(t):
    e = dict(os.environ)
    for k in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        e.pop(k, None)
    e.update(OMP_NUM_THREADS=str(t), MKL_NUM_THREADS=str(t), OPENBLAS_NUM_THREADS=str(t), RAYON_NUM_THREADS=str(t),
             MATMUL_NUM_THREADS=str(t), TORCHINDUCTOR_CACHE_DIR=os.path.join(HOME, "inductor"), JAX_PLATFORMS="cpu", PYTHONWARNINGS="ignore")
    return e


def busy():
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:]]
    return (sum(v[:8]) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def own(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            v = f.read().rsplit(")", 1)[1].split()
        return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


class Worker:
    def __init__(self, cmd, threads, workload):
        pin = (lambda: os.sched_setaffinity(0, {1})) if threads == 1 and os.cpu_count() > 1 else None
        t = time.perf_counter()
        self.p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE if not os.environ.get("PEERS_VERBOSE") else None,
                                  text=True, env=environment(threads), preexec_fn=pin, cwd=HERE)
        self.ready = self.read()
        self.ready_s = time.perf_counter() - t
        self.threads = threads
        self.slices = []  # (foreign share, clean, [ms])

    def read(self):
        while True:
            line = self.p.stdout.readline()
            if not line:
                err = self.p.stderr.read()[-800:] if self.p.stderr else ""
                raise RuntimeError(f"worker ended: {err}")
            if line.startswith("{"):
                return json.loads(line)

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return self.read()

    def slice(self, seconds):
        b, o, t = busy(), own(self.p.pid), time.perf_counter()
        ms = self.ask(f"slice {seconds}")["ms"]
        dt = time.perf_counter() - t
        mine = own(self.p.pid) - o
        foreign = max(0.0, busy() - b - mine) / (dt * os.cpu_count())
        clean = foreign <= 0.05 or (self.threads == 1 and mine >= 0.97 * dt - 0.011)
        self.slices.append((foreign, clean, ms))

    def quit(self):
        r = self.ask("quit")
        self.p.wait()
        return r["rss_mb"]

    def stats(self):
        clean = [s for s in self.slices if s[1]]
        use = clean if len(clean) >= 2 else self.slices
        ms = sorted(m for s in use for m in s[2])
        q = lambda f: ms[min(len(ms) - 1, int(f * len(ms)))]
        return dict(median_ms=st.median(ms), p10=q(0.1), p90=q(0.9), min_ms=ms[0], chunks=len(ms), clean=len(clean),
                    slices=len(self.slices), foreign=round(st.median(s[0] for s in use), 3))


def wait_quiet(limit):
    end = time.time() + limit
    while time.time() < end:
        b = busy()
        time.sleep(1.0)
        if (busy() - b) / os.cpu_count() < 0.05:
            return


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--workloads", default=",".join(WORKLOADS))
    ap.add_argument("--peers", default=",".join(PEERS))
    ap.add_argument("--threads", default="1,2")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--slice", type=float, default=0.35)
    ap.add_argument("--wait-quiet", type=float, default=0.0, help="before each slice wait up to this long for an idle machine")
    ap.add_argument("--engine", action="append", default=[], help="another worker: name=command with {w} and {t}")
    ap.add_argument("--out", default="", help="JSON lines of all results")
    ap.add_argument("--check", action="store_true", help="print the ten check values of every worker")
    a = ap.parse_args()
    threads = [int(t) for t in a.threads.split(",")]
    engines = {}
    for e in a.engine:
        n, c = e.split("=", 1)
        engines[n] = (lambda c: lambda w, t: c.format(w=w, t=t).split())(c)
    sys.path.insert(0, HERE)
    import workloads as C

    fl = {w: C.flops(w) for w in WORKLOADS}  # W7: per row
    t0 = time.time()
    results = []
    for w in a.workloads.split(","):
        todo = [(p, t) for p in a.peers.split(",") if p for t in threads if w in PEERS[p][1]]
        todo = [(p, t, PEERS[p][0]) for p, t in todo] + [(n, t, c) for n, c in engines.items() for t in threads]
        ws = []
        for p, t, cmd in todo:
            try:
                k = Worker(cmd(w, t), t, w)
                ws.append((p, t, k))
                if a.check:
                    print(json.dumps(dict(workload=w, peer=p, threads=t, check=k.ask("check")["check"])), flush=True)
            except (RuntimeError, OSError) as e:
                print(f"# {w} {p}@{t}: {str(e).strip()[-300:]}", flush=True)
        for r in range(a.rounds):
            order = ws if r % 2 == 0 else ws[::-1]
            for p, t, k in order:
                if r >= 3 and st.median(k.slices[0][2]) > 1000:
                    continue
                if a.wait_quiet:
                    wait_quiet(a.wait_quiet)
                k.slice(a.slice)
        rows = []
        for p, t, k in ws:
            s = k.stats()
            items = k.ready.get("items", 1)
            d = dict(workload=w, peer=p, threads=t, **{x: round(y, 4) if isinstance(y, float) else y for x, y in s.items()})
            d.update(steps_s=round(1e3 / s["median_ms"], 2), items=items, items_s=round(items * 1e3 / s["median_ms"], 1),
                     startup_s=k.ready["startup_s"], spawn_s=round(k.ready_s, 2), rss_mb=k.quit())
            if w in fl:
                d["gflops"] = round(fl[w] * (items if w.startswith("W7") else 1) / s["median_ms"] / 1e6, 2)
            rows.append(d)
        results += rows
        if rows:
            for r in rows:  # comparable across calls of different sizes
                r["per"] = r["median_ms"] / r["items"]
            best = min(r["per"] for r in rows)
            print(f"\n## {w}" + (f"  ({fl[w] / 1e6:.4g} MFLOP per {'row' if w.startswith('W7') else 'step'})" if w in fl else ""))
            print(f"{'peer':16} {'thr':>3} {'median ms':>10} {'p10':>9} {'p90':>9} {'steps/s':>9} {'items/s':>11} {'GFLOP/s':>8} {'x best':>7} {'RSS MB':>7} {'first step s':>12}")
            for r in sorted(rows, key=lambda r: r["per"]):
                mark = "" if r["clean"] >= 2 else "*"
                print(f"{r['peer'] + mark:16} {r['threads']:>3} {r['median_ms']:>10.3f} {r['p10']:>9.3f} {r['p90']:>9.3f} {r['steps_s']:>9.1f} "
                      f"{r['items_s']:>11.0f} {r.get('gflops', 0):>8.1f} {r['per'] / best:>7.2f} {r['rss_mb']:>7.0f} {r['startup_s']:>12.2f}", flush=True)
    if a.out:
        os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
        with open(a.out, "w") as f:
            for r in results:
                f.write(json.dumps(r) + "\n")
    print(f"\n# {time.time() - t0:.0f} s; '*': fewer than two slices without other load (> 5 % of the machine)")


if __name__ == "__main__":
    main()
