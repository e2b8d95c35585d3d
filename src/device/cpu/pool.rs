//! A small persistent pool of threads for tasks that are many, short and alike.
//!
//! A run publishes one [`Job`] on the caller's stack and the range of tasks nobody has claimed yet.
//! Whoever shortens that range owns a task, and by owning it keeps the job alive: the caller
//! leaves [`Pool::run`] only when the count of tasks not yet finished is zero. So a thread claims
//! first and looks at the job only then. Nothing is allocated in a run.
//!
//! The caller claims from the front, the others from the back. So in runs over the same memory a
//! thread mostly meets the part that is in its cache since the run before.

use std::any::Any;
use std::cell::Cell;
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread looks for work, or for the end of it, before it sleeps: longer than the gap
/// between two runs of a training step, far shorter than a time slice.
const SPIN: Duration = Duration::from_micros(40);

thread_local! {
    /// Whether this thread is inside a task. A run within a task stays on its thread: the pool's
    /// threads may all be busy with, or waiting for, that very task.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Threads that wait for tasks. Shared as `Arc<Pool>` or `&Pool`; dropping it joins them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the one run that has the workers.
    turn: Mutex<()>,
}

/// What the pool and its workers both see.
#[derive(Debug)]
struct Shared {
    /// The job to which range and count belong; may be read only by the owner of a task.
    job: AtomicPtr<Job<'static>>,
    unclaimed: Unclaimed,
    unfinished: AtomicUsize,
    closing: AtomicBool,
}

/// One run: the tasks and what to tell whom at its end.
struct Job<'a> {
    task: &'a (dyn Fn(usize, usize) + Sync),
    caller: Thread,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A range of tasks: its start in the low half, its end in the high half.
#[derive(Debug, Default)]
struct Unclaimed(AtomicU64);

/// An end of that range.
#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

impl Pool {
    /// A pool of `threads`, of which the caller of a run is one: `threads - 1` are started, or as
    /// many as the system grants. No results depend on the number.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            job: AtomicPtr::new(ptr::null_mut()),
            unclaimed: Unclaimed::default(),
            unfinished: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        let start = |i| {
            let shared = shared.clone();
            thread::Builder::new().name(format!("retrodict-{i}")).spawn(move || shared.serve(i))
        };
        let workers = (1..threads).map_while(|i| start(i).ok()).collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// How many threads share a run, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(i)` once for every i in `0..tasks`, spread over the threads, and returns when
    /// all have returned. Allocates nothing.
    ///
    /// Runs from several threads take turns; a run from inside a task stays on its thread. If a
    /// task panics the others still run, then the first panic goes on in the caller.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.run_on_threads(tasks, &|_, i| task(i));
    }

    /// Calls `task(t, i)`, where t < [`threads`](Self::threads) is the thread that runs it; the caller is 0.
    fn run_on_threads(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let job = Job { task, caller: thread::current(), panic: Mutex::new(None) };
        match u32::try_from(tasks) {
            Ok(tasks @ 2..) if !self.workers.is_empty() && !IN_TASK.get() => {
                let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                self.share(&job, tasks);
                drop(turn);
            }
            _ => (0..tasks).for_each(|i| job.perform(0, i)),
        }
        let panic = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Calls `task(i, &mut items[i])` for every item, as [`run`](Self::run) does.
    pub fn run_over<S: Send>(&self, items: &mut [S], task: impl Fn(usize, &mut S) + Sync) {
        let first = AtomicPtr::new(items.as_mut_ptr()); // a pointer that may be shared
        self.run(items.len(), &|i| {
            // SAFETY: i < items.len(), and `run` hands out each i once: this is the only
            // reference to the item, which may be used on another thread because S is Send.
            let item = unsafe { &mut *first.load(Ordering::Relaxed).add(i) };
            task(i, item);
        });
    }

    /// Calls `task(&mut owned[t], i)` for every i in `0..tasks`, as [`run`](Self::run) does, where t is the thread that
    /// runs it: memory to work in, of which no result may depend. There must be one for each thread.
    pub fn run_with<S: Send>(&self, owned: &mut [S], tasks: usize, task: impl Fn(&mut S, usize) + Sync) {
        assert!(owned.len() >= self.threads(), "{} for {} threads", owned.len(), self.threads());
        let first = AtomicPtr::new(owned.as_mut_ptr()); // a pointer that may be shared
        self.run_on_threads(tasks, &|thread, i| {
            // SAFETY: thread < threads() <= owned.len(), and a thread runs one task of a run at a time: this is
            // the only reference to what it owns, which may be used on another thread because S is Send.
            let own = unsafe { &mut *first.load(Ordering::Relaxed).add(thread) };
            task(own, i);
        });
    }

    /// Calls `task(range)` for fixed pieces of `0..len`, which do not depend on the number of threads.
    pub fn run_pieces(&self, len: usize, task: impl Fn(Range<usize>) + Sync) {
        /// Enough elements to be worth a task, few enough for the cache.
        const PIECE: usize = 8192;
        self.run(len.div_ceil(PIECE), &|i| task(i * PIECE..len.min((i + 1) * PIECE)));
    }

    /// Runs a job of so many tasks together with the workers; the caller holds the turn.
    fn share(&self, job: &Job, tasks: u32) {
        let Shared { job: slot, unclaimed, unfinished, .. } = &*self.shared;
        slot.store(ptr::from_ref(job).cast_mut().cast(), Ordering::Relaxed);
        unfinished.store(tasks as usize, Ordering::Relaxed);
        unclaimed.open(tasks); // from here on there are claims
        for worker in self.workers.iter().take(tasks as usize - 1) {
            worker.thread().unpark();
        }
        unfinished.fetch_sub(job.work(0, unclaimed, End::Front), Ordering::Relaxed);
        // Acquire: what the tasks wrote is seen by the caller.
        let done = || unfinished.load(Ordering::Acquire) == 0;
        while !spin_until(done) {
            thread::park();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker ends by returning: panics of tasks were caught and went to the caller.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn serve(&self, thread: usize) {
        let closing = || self.closing.load(Ordering::Acquire);
        while !closing() {
            if spin_until(|| closing() || !self.unclaimed.is_empty()) {
                self.help(thread);
            } else {
                thread::park(); // returns at once if there was an unpark since the last
            }
        }
    }

    /// Takes part in the present job, if there is still a task to claim.
    fn help(&self, thread: usize) {
        let Some(first) = self.unclaimed.claim(End::Back) else { return };
        let (finished, caller) = {
            // SAFETY: an unfinished task has been claimed, so the caller of this job, on whose
            // stack it lies, is still in `share`, and no other job has taken its place. The
            // borrow ends before the task is reported as finished. All fields of a job are Sync.
            let job = unsafe { &*self.job.load(Ordering::Relaxed) };
            job.perform(thread, first);
            (1 + job.work(thread, &self.unclaimed, End::Back), job.caller.clone())
        };
        // Release: what the tasks wrote is seen by the caller. From here on the job may be gone.
        if self.unfinished.fetch_sub(finished, Ordering::Release) == finished {
            caller.unpark();
        }
    }
}

impl Job<'_> {
    /// Performs tasks until none is unclaimed; returns how many.
    fn work(&self, thread: usize, unclaimed: &Unclaimed, end: End) -> usize {
        std::iter::from_fn(|| unclaimed.claim(end)).map(|i| self.perform(thread, i)).count()
    }

    fn perform(&self, thread: usize, i: usize) {
        let outer = IN_TASK.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| (self.task)(thread, i)));
        IN_TASK.set(outer);
        if let Err(panic) = result {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match *first {
                None => *first = Some(panic),
                // Dropping what a panic carries could panic again.
                Some(_) => std::mem::forget(panic),
            }
        }
    }
}

impl Unclaimed {
    /// Publishes tasks 0 to `tasks`, and the job that was stored before.
    fn open(&self, tasks: u32) {
        self.0.store(u64::from(tasks) << 32, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        let range = self.0.load(Ordering::Relaxed);
        range as u32 as u64 == range >> 32
    }

    /// Takes the task at one end, if there is one. Acquire: after it, the job published before is seen.
    fn claim(&self, end: End) -> Option<usize> {
        let shorter = |range: u64| match (range as u32 as u64 == range >> 32, end) {
            (true, _) => None,
            (false, End::Front) => Some(range + 1),
            (false, End::Back) => Some(range - (1 << 32)),
        };
        let range = self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, shorter).ok()?;
        Some(match end {
            End::Front => range as u32 as usize,
            End::Back => (range >> 32) as usize - 1,
        })
    }
}

/// Whether the condition came true within [`SPIN`].
fn spin_until(ready: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        for _ in 0..64 {
            if ready() {
                return true;
            }
            spin_loop();
        }
        if begin.elapsed() > SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;

    /// Runs and returns how often each task was called.
    fn counts(pool: &Pool, tasks: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(tasks, &|i| {
            counts[i].fetch_add(1, SeqCst);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_once() {
        for threads in [0, 1, 2, 3, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 3, 4, 5, 7, 64, 1000, 10_007] {
                assert_eq!(counts(&pool, tasks), vec![1; tasks], "{threads} threads");
            }
        }
    }

    #[test]
    fn many_tiny_runs() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        for run in 0..100_000 {
            pool.run(3, &|i| {
                sum.fetch_add(run * i, SeqCst);
            });
        }
        assert_eq!(sum.into_inner(), 3 * (99_999 * 100_000 / 2));
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            thread::sleep(20 * SPIN);
            assert_eq!(counts(&pool, 9), [1; 9]);
        }
    }

    #[test]
    fn tasks_really_run_side_by_side() {
        // Each task waits for the other: one thread alone would wait for ever.
        let barrier = std::sync::Barrier::new(2);
        Pool::new(2).run(2, &|_| {
            barrier.wait();
        });
    }

    #[test]
    fn each_task_has_its_item() {
        for threads in [1, 2, 5] {
            let mut items: Vec<Vec<usize>> = vec![Vec::new(); 137];
            let pool = Pool::new(threads);
            for _ in 0..3 {
                pool.run_over(&mut items, |i, item| item.push(i));
            }
            assert!(items.iter().enumerate().all(|(i, item)| *item == [i; 3]));
            pool.run_over(&mut [(); 0], |_, _| unreachable!());
            pool.run_over(&mut [(); 9], |_, _| {});
        }
    }

    #[test]
    fn each_thread_works_in_what_it_owns() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            let mut owned: Vec<Vec<usize>> = vec![Vec::new(); threads];
            pool.run_with(&mut owned, 1009, |own, i| {
                own.push(i);
                // A run within a task stays on its thread, which is the caller there.
                let mut inner = vec![0; threads];
                pool.run_with(&mut inner, 3, |own, _| *own += 1);
                assert_eq!(inner[0], 3);
            });
            assert!(owned.iter().all(|own| own.is_sorted() || own.iter().rev().is_sorted()), "an end each");
            let mut tasks = owned.concat();
            tasks.sort_unstable();
            assert!(tasks.into_iter().eq(0..1009), "every task once");
        }
    }

    #[test]
    #[should_panic(expected = "1 for 2 threads")]
    fn a_thread_without_its_own_is_refused() {
        Pool::new(2).run_with(&mut [()], 1, |_, _| {});
    }

    #[test]
    fn a_panic_reaches_the_caller_after_the_other_tasks() {
        for (threads, tasks) in [(1, 1), (1, 20), (2, 1), (2, 20), (5, 20)] {
            let (pool, ran) = (Pool::new(threads), AtomicUsize::new(0));
            let panic = catch_unwind(AssertUnwindSafe(|| {
                pool.run(tasks, &|i| {
                    ran.fetch_add(1, SeqCst);
                    assert!(i % 3 != 0, "task {i}");
                });
            }));
            let message = *panic.unwrap_err().downcast::<String>().unwrap();
            assert!(message.starts_with("task "), "{message}");
            assert_eq!(ran.into_inner(), tasks);
            assert_eq!(counts(&pool, 30), [1; 30], "the pool is whole");
        }
    }

    #[test]
    fn a_run_within_a_task_stays_on_its_thread() {
        let (pool, other) = (Pool::new(3), Pool::new(2));
        let calls = AtomicUsize::new(0);
        pool.run(10, &|_| {
            let here = thread::current().id();
            for pool in [&pool, &other] {
                pool.run(10, &|_| {
                    assert_eq!(thread::current().id(), here);
                    calls.fetch_add(1, SeqCst);
                });
            }
        });
        assert_eq!(calls.into_inner(), 200);
    }

    #[test]
    fn two_callers_take_turns() {
        let pool = Arc::new(Pool::new(2));
        thread::scope(|scope| {
            for _ in 0..2 {
                let pool = pool.clone();
                scope.spawn(move || (0..5000).for_each(|_| assert_eq!(counts(&pool, 5), [1; 5])));
            }
        });
    }

    #[test]
    fn what_tasks_wrote_is_seen_by_the_next_run() {
        // Plain memory, no atomics: the counts must order it.
        let pool = Pool::new(2);
        let mut items = [0u64; 8];
        for run in 0..20_000 {
            pool.run_over(&mut items, |_, item| {
                assert_eq!(*item, run);
                *item += 1;
            });
        }
    }

    #[test]
    fn dropping_joins_the_workers() {
        for wait in [Duration::ZERO, 10 * SPIN] {
            let pool = Pool::new(5);
            assert_eq!(counts(&pool, 9), [1; 9]);
            let shared = Arc::downgrade(&pool.shared);
            thread::sleep(wait);
            drop(pool);
            assert!(shared.upgrade().is_none(), "a worker is still there");
        }
    }
}
