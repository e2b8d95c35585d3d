//! Simulators that are other programs: workers that are fed through pipes, watched, and started anew when they fail.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ndarray::{Array1, Array2};
use rand::Rng;
use serde_json::Value;

use crate::error::Error;
use crate::files::Message;
use crate::progress::{Cancel, Progress};
use crate::rng::Philox;
use crate::sbi::{Prior, Simulations};

/// A simulator that is another program. It is started once for each worker and then asked again and again.
///
/// A row whose simulator crashes, hangs or answers something else is filled with NaN and reported; the worker starts
/// the program anew and goes on. Row i has its parameters and a seed from stream i of the run's seed, so the table does
/// not depend on the number of workers, nor, if the program uses the seed, on anything else.
///
/// What goes through the pipes is an [`Exchange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How it is asked and answers.
    pub exchange: Exchange,
    /// How many run side by side.
    pub workers: usize,
    /// How long one row may take, the start of the program included.
    pub timeout: Duration,
}

/// What an external simulator reads on standard input and writes to standard output, until its input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A line for each row, `{"row": 3, "seed": 8125, "theta": [0.5, 2.0]}`; the answer is a line too,
    /// `{"row": 3, "x": [1.5, null, 3.0]}` or `{"row": 3, "error": "why"}`. `null` and `NaN` are not a number.
    JsonLines,
    /// Two `.npy` arrays for this many rows at once: θ, `[rows x parameters]` of `f64`, and seeds, `[rows]` of `f64`
    /// below 2^53; the answer is the array x, `[rows x features]`. If one of the rows makes it fail, they are asked for
    /// one by one.
    Npy(usize),
}

/// A row that the simulator did not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The row.
    pub row: usize,
    /// What happened.
    pub why: String,
}

/// What an external simulator gave.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalRun {
    /// The simulations; rows that failed have NaN for x. If the run was cancelled, the rows before the first that is
    /// missing.
    pub simulations: Simulations,
    /// The rows that failed, in order.
    pub failures: Vec<Failure>,
}

/// Without one success, this many failures end a run: the simulator does not work at all.
const HOPELESS: usize = 10;
/// How long a program has to end when its input does.
const GRACE: Duration = Duration::from_secs(1);
/// How often those who wait look up.
const GLANCE: Duration = Duration::from_millis(20);
/// The longest line that a program may answer, in bytes.
const LONGEST_LINE: u64 = 1 << 26;

/// What one row needs.
#[derive(Clone, Debug)]
struct Request {
    row: usize,
    seed: u64,
    theta: Vec<f64>,
}

type Answer = Result<Vec<Vec<f64>>, String>;
/// A row's number, its parameters, and what became of it.
type Outcome = (usize, Vec<f64>, Result<Vec<f64>, String>);

impl External {
    /// Simulates these rows of the run with this seed; `cancel` stops it, and what is done is kept.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the settings cannot be, the program cannot be started, or does not work at all.
    pub fn simulate(
        &self,
        prior: &Prior,
        rows: Range<usize>,
        seed: u64,
        cancel: &Cancel,
    ) -> Result<ExternalRun, Error> {
        self.check()?;
        let progress = Progress::new("simulate", rows.len());
        let run =
            Run { external: self, prior, seed, cancel, progress, next: rows.start.into(), tally: Tally::default() };
        let mut outcomes: Vec<Outcome> = thread::scope(|scope| {
            let work = || Worker { run: &run, process: None }.work(rows.end);
            let workers: Vec<_> = (0..self.workers).map(|_| scope.spawn(work)).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
        });
        outcomes.sort_unstable_by_key(|(row, ..)| *row);
        if let Some((row, _, Err(why))) = outcomes.iter().find(|_| run.tally.is_hopeless()) {
            return Err(self.error(format!("gave nothing; on row {row} it {why}")));
        }
        let done = outcomes.iter().zip(rows).take_while(|((row, ..), expected)| row == expected).count();
        outcomes.truncate(done);
        Ok(assemble(outcomes, prior.dim()))
    }

    fn check(&self) -> Result<(), Error> {
        let rows = if let Exchange::Npy(rows) = self.exchange { rows } else { 1 };
        for (name, value) in [("workers", self.workers), ("rows at once", rows), ("command", self.command.len())] {
            if value == 0 {
                return Err(Error::parameter(name, "0 must be at least 1"));
            }
        }
        // One that is not there is found out before any row fails.
        Process::start(self).map(drop).map_err(|why| self.error(why))
    }

    fn error(&self, why: String) -> Error {
        Error::parameter("simulator", format!("`{}` {why}", self.command.join(" ")))
    }

    fn rows_at_once(&self) -> usize {
        match self.exchange {
            Exchange::JsonLines => 1,
            Exchange::Npy(rows) => rows,
        }
    }
}

/// The table of rows 0, 1, ... The first answer in order of rows decides how many features there are.
fn assemble(outcomes: Vec<Outcome>, parameters: usize) -> ExternalRun {
    let features = outcomes.iter().find_map(|(.., x)| x.as_ref().ok().map(Vec::len)).unwrap_or(0);
    let mut theta = Array2::zeros((outcomes.len(), parameters));
    let mut x = Array2::from_elem((outcomes.len(), features), f64::NAN);
    let mut failures = Vec::new();
    for (i, (row, own, outcome)) in outcomes.into_iter().enumerate() {
        theta.row_mut(i).assign(&Array1::from(own));
        let outcome = outcome.and_then(|given| {
            let found = given.len();
            if found == features { Ok(given) } else { Err(format!("gave {found} numbers, {features} before")) }
        });
        match outcome {
            Ok(given) => x.row_mut(i).assign(&Array1::from(given)),
            Err(why) => failures.push(Failure { row, why }),
        }
    }
    ExternalRun { simulations: Simulations { theta, x }, failures }
}

/// What all workers share.
struct Run<'a> {
    external: &'a External,
    prior: &'a Prior,
    seed: u64,
    cancel: &'a Cancel,
    progress: Progress,
    /// The first row that nobody has taken.
    next: AtomicUsize,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    given: AtomicUsize,
    failed: AtomicUsize,
}

impl Tally {
    fn is_hopeless(&self) -> bool {
        self.given.load(Ordering::Relaxed) == 0 && self.failed.load(Ordering::Relaxed) >= HOPELESS
    }

    fn count(&self, outcome: &Result<Vec<f64>, String>) {
        let which = if outcome.is_ok() { &self.given } else { &self.failed };
        which.fetch_add(1, Ordering::Relaxed);
    }
}

impl Run<'_> {
    fn request(&self, row: usize) -> Request {
        let mut rng = Philox::new(self.seed, row as u64);
        let mut theta = vec![0.0; self.prior.dim()];
        self.prior.sample(&mut rng, &mut theta).expect("theta has the prior's width");
        Request { row, seed: rng.next_u64() >> 11, theta }
    }

    fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.tally.is_hopeless()
    }
}

/// One thread with its program.
struct Worker<'a> {
    run: &'a Run<'a>,
    process: Option<Process>,
}

impl Worker<'_> {
    /// Takes rows and simulates them until none are left.
    fn work(mut self, end: usize) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let at_once = self.run.external.rows_at_once();
        while !self.run.is_over() {
            let first = self.run.next.fetch_add(at_once, Ordering::Relaxed);
            if first >= end {
                break;
            }
            let requests: Vec<Request> = (first..end.min(first + at_once)).map(|row| self.run.request(row)).collect();
            let given = self.simulate(&requests);
            outcomes.extend(requests.into_iter().zip(given).map(|(request, x)| (request.row, request.theta, x)));
        }
        outcomes
    }

    /// One outcome for each request; fewer if the run is over before.
    fn simulate(&mut self, requests: &[Request]) -> Vec<Result<Vec<f64>, String>> {
        let outcomes = match self.ask(requests) {
            _ if self.run.cancel.is_cancelled() => return Vec::new(),
            Err(_) if requests.len() > 1 => {
                return requests.iter().flat_map(|request| self.simulate(std::slice::from_ref(request))).collect();
            }
            Err(why) => vec![Err(why)],
            Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
        };
        outcomes.iter().for_each(|outcome| self.run.tally.count(outcome));
        self.run.progress.advance(outcomes.len());
        outcomes
    }

    /// Asks the program, which is started if it does not run; after a failure it no longer does.
    fn ask(&mut self, requests: &[Request]) -> Answer {
        let process = match self.process.take() {
            Some(process) => process,
            None => Process::start(self.run.external)?,
        };
        let timeout = self.run.external.timeout * requests.len() as u32;
        match process.ask(requests, timeout, self.run.cancel) {
            Ok(rows) => {
                self.process = Some(process);
                Ok(rows)
            }
            Err(why) => Err(process.end(&why)),
        }
    }
}

/// A running program. A thread of its own talks to it, since both writing and reading may block for ever.
struct Process {
    child: Child,
    requests: Option<Sender<Vec<Request>>>,
    answers: Receiver<Answer>,
    /// The last line of its standard error.
    complaint: Arc<Mutex<String>>,
}

impl Process {
    fn start(external: &External) -> Result<Self, String> {
        let mut command = Command::new(&external.command[0]);
        command.args(&external.command[1..]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own Ctrl-C does not reach it, and what it starts can be ended with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|why| format!("cannot be started: {why}"))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("has no pipes".into());
        };
        let complaint = Arc::new(Mutex::new(String::new()));
        let last = complaint.clone();
        thread::spawn(move || listen(stderr, &last));
        let (requests, inbox) = channel();
        let (outbox, answers) = channel();
        let exchange = external.exchange;
        thread::spawn(move || Talk::new(exchange, stdin, stdout).converse(&inbox, &outbox));
        Ok(Self { child, requests: Some(requests), answers, complaint })
    }

    fn ask(&self, requests: &[Request], timeout: Duration, cancel: &Cancel) -> Answer {
        let gone = || "ended".to_string();
        let start = Instant::now();
        self.requests.as_ref().ok_or_else(gone)?.send(requests.to_vec()).map_err(|_| gone())?;
        loop {
            match self.answers.recv_timeout(GLANCE) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Err("was stopped".into()),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= timeout => {
                    return Err(format!("gave no answer within {} s", timeout.as_secs_f64()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Ends the program after a failure; what happened, with its status and last complaint.
    fn end(mut self, why: &str) -> String {
        thread::sleep(GLANCE); // a program that crashed closes its pipes a little before it has a status
        let status = self.child.try_wait().ok().flatten().map(|status| format!(" ({status})"));
        self.kill();
        thread::sleep(GLANCE); // its last words are on their way
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let complaint = if complaint.is_empty() { complaint } else { format!(": {complaint}") };
        format!("{why}{}{complaint}", status.unwrap_or_default())
    }

    /// Ends the program and what it started, at once.
    fn kill(&mut self) {
        #[cfg(unix)]
        {
            use nix::sys::signal::{Signal, killpg};
            use nix::unistd::Pid;
            let _ = i32::try_from(self.child.id()).map(|id| killpg(Pid::from_raw(id), Signal::SIGKILL)); // may be gone
        }
        let _ = self.child.kill(); // may be gone
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    /// Its input ends, and soon it should too.
    fn drop(&mut self) {
        self.requests = None;
        let start = Instant::now();
        while start.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(GLANCE / 10);
        }
        self.kill();
    }
}

/// Keeps the last line that is not empty.
fn listen(stderr: impl Read, last: &Mutex<String>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while lines.by_ref().take(1 << 12).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = text.trim().to_string();
        }
        line.clear();
    }
}

/// The two pipes.
struct Talk {
    exchange: Exchange,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Talk {
    fn new(exchange: Exchange, stdin: ChildStdin, stdout: ChildStdout) -> Self {
        Self { exchange, to: BufWriter::new(stdin), from: BufReader::new(stdout) }
    }

    /// Until one side hangs up.
    fn converse(mut self, inbox: &Receiver<Vec<Request>>, outbox: &Sender<Answer>) {
        for requests in inbox {
            let answer = match self.exchange {
                Exchange::JsonLines => requests.iter().map(|request| self.line(request)).collect(),
                Exchange::Npy(_) => self.npy(&requests),
            };
            if outbox.send(answer).is_err() {
                break;
            }
        }
    }

    fn line(&mut self, Request { row, seed, theta }: &Request) -> Result<Vec<f64>, String> {
        // Debug prints finite floats as JSON does.
        let sent = writeln!(self.to, r#"{{"row": {row}, "seed": {seed}, "theta": {theta:?}}}"#);
        sent.and_then(|()| self.to.flush()).map_err(|_| "ended")?;
        let mut line = Vec::new();
        let read = self.from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if read.map_err(|why| why.to_string())? == 0 {
            return Err("ended without an answer".into());
        }
        observation(String::from_utf8_lossy(&line).trim(), *row)
    }

    fn npy(&mut self, requests: &[Request]) -> Answer {
        let (rows, width) = (requests.len(), requests[0].theta.len());
        let theta = requests.iter().flat_map(|request| request.theta.iter().copied());
        let theta = Message { shape: vec![rows, width], numbers: theta.collect() };
        let seeds = Message { shape: vec![rows], numbers: requests.iter().map(|r| r.seed as f64).collect() };
        let sent = theta.write(&mut self.to).and_then(|()| seeds.write(&mut self.to));
        sent.and_then(|()| self.to.flush()).map_err(|_| "ended")?;
        let answer =
            Message::read(&mut self.from, rows).map_err(|why| format!("did not answer with an array: {why}"))?;
        if !self.from.buffer().is_empty() {
            return Err("answered more than one array".into());
        }
        let features = answer.numbers.len() / rows;
        Ok(answer.numbers.chunks(features.max(1)).map(<[f64]>::to_vec).collect())
    }
}

/// The x of `{"row": 3, "x": [1.5, null]}`, or the error that stands there instead.
///
/// The row ties it to its request: a program that prints a line too many would otherwise be one row behind for ever.
/// Python writes NaN and Infinity, which JSON does not have.
fn observation(line: &str, expected: usize) -> Result<Vec<f64>, String> {
    let wrong = || {
        let start: String = line.chars().take(60).collect();
        format!(r#"answered `{start}`; expected {{"row": {expected}, "x": [1.5, 2.0]}}"#)
    };
    let line = line.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null");
    let answer: Value = serde_json::from_str(&line).map_err(|_| wrong())?;
    if answer["row"].as_u64() != Some(expected as u64) {
        return Err(wrong());
    }
    if let Some(error) = answer["error"].as_str() {
        return Err(format!("answered the error: {error}"));
    }
    let number = |value: &Value| if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
    let numbers = answer["x"].as_array().and_then(|x| x.iter().map(number).collect::<Option<Vec<_>>>());
    numbers.filter(|x| !x.is_empty()).ok_or_else(wrong)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A simulator whose observation is θ itself, but for what `rows` does to some of its rows, $r.
    fn echo(rows: &str) -> External {
        let script = format!(
            r#"answer() {{ echo "{{\"row\": $r, \"x\": $1}}"; }}
            while read -r line; do
                r=${{line#*\"row\": }}; r=${{r%%,*}}; theta=${{line#*\"theta\": }}; theta=${{theta%\}}}}
                case $r in {rows} *) answer "$theta";; esac
            done"#
        );
        External {
            command: vec!["sh".into(), "-c".into(), script],
            exchange: Exchange::JsonLines,
            workers: 3,
            timeout: Duration::from_secs(20),
        }
    }

    fn prior() -> Prior {
        Prior::new().uniform("a", -1.0, 1.0).normal("b", 0.0, 1e-7).build().unwrap()
    }

    fn run(external: &External, rows: Range<usize>) -> ExternalRun {
        external.simulate(&prior(), rows, 3, &Cancel::default()).unwrap()
    }

    #[test]
    fn a_row_is_the_same_in_every_run() {
        let whole = run(&echo(""), 0..40);
        assert!(whole.failures.is_empty());
        assert_eq!(whole.simulations.x, whole.simulations.theta);
        let alone = run(&External { workers: 1, ..echo("") }, 30..40);
        assert_eq!(alone.simulations.x, whole.simulations.x.slice(ndarray::s![30.., ..]));
        assert_eq!(run(&echo(""), 5..5).simulations.x.nrows(), 0);
    }

    #[test]
    fn what_fails_costs_its_row_and_says_why() {
        let external = echo(
            "3) echo boom >&2; exit 7;; 5) echo hello;; 8) sleep 60;; 11) answer '[1]';; 14) answer '[1, NaN]';;
             17) echo; answer '[1, 2]';; 20) kill -9 $$;; 23) answer '[1, 2]'; answer '[1, 2]';; 26) answer '[1, x]';;
             28) echo '{\"row\": 28, \"error\": \"no root\"}';;",
        );
        let start = Instant::now();
        let run = run(&External { timeout: Duration::from_millis(600), ..external }, 0..30);
        assert!(start.elapsed() < Duration::from_secs(10));
        let ExternalRun { simulations: Simulations { theta, x }, failures } = run;
        let bad: Vec<usize> = failures.iter().map(|failure| failure.row).collect();
        // The second answer of row 23 costs the row that its worker asks for next, and no more.
        let others = bad.iter().filter(|row| ![3, 5, 8, 11, 17, 20, 26, 28].contains(row)).count();
        assert_eq!((bad.len(), others), (9, 1), "{failures:?}");
        for row in 0..30 {
            match row {
                14 => assert!(x[(row, 0)] == 1.0 && x[(row, 1)].is_nan()),
                23 => assert_eq!(x.row(row), ndarray::array![1.0, 2.0]),
                row if bad.contains(&row) => assert!(x.row(row).iter().all(|x| x.is_nan())),
                row => assert_eq!(x.row(row), theta.row(row)),
            }
        }
        let why = |row| &failures.iter().find(|failure| failure.row == row).unwrap().why;
        assert!(why(3).contains("ended") && why(3).contains("7") && why(3).ends_with(": boom"), "{}", why(3));
        assert!(why(5).contains("answered `hello`; expected {\"row\": 5"), "{}", why(5));
        assert!(why(8).contains("gave no answer within 0.6 s"), "{}", why(8));
        assert_eq!(why(28), "answered the error: no root");
        assert_eq!(why(11), "gave 1 numbers, 2 before");
    }

    #[test]
    fn what_does_not_work_at_all_ends_the_run() {
        let message =
            |external: External| external.simulate(&prior(), 0..1000, 0, &Cancel::default()).unwrap_err().to_string();
        let absent = External { command: vec!["no-such-simulator".into()], ..echo("") };
        assert!(message(absent).contains("`no-such-simulator` cannot be started"));
        assert!(message(echo("*) exit 1;;")).contains("gave nothing; on row 0 it ended"));
        assert!(message(External { workers: 0, ..echo("") }).contains("`workers`"));
        assert!(message(External { command: Vec::new(), ..echo("") }).contains("`command`"));
    }

    #[test]
    fn a_cancelled_run_keeps_its_first_rows() {
        let cancel = Cancel::default();
        let switch = cancel.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            switch.cancel();
        });
        let slow = echo("20) sleep 60;;");
        let start = Instant::now();
        let run = slow.simulate(&prior(), 0..1_000_000_000, 3, &cancel).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(run.simulations.theta.nrows(), 20);
        assert_eq!(run.simulations.theta, super::tests::run(&echo(""), 0..20).simulations.theta);
    }

    #[test]
    fn arrays_of_many_rows() {
        // The message of four rows of two numbers is given back, that of the four seeds is swallowed.
        let script =
            "while :; do dd bs=192 count=1 iflag=fullblock; dd bs=160 count=1 iflag=fullblock of=/dev/null; done";
        let external = External {
            command: vec!["sh".into(), "-c".into(), format!("({script}) 2>/dev/null")],
            exchange: Exchange::Npy(4),
            workers: 2,
            timeout: Duration::from_secs(20),
        };
        let given = run(&external, 0..16);
        assert!(given.failures.is_empty(), "{:?}", given.failures);
        assert_eq!(given.simulations.x, run(&echo(""), 0..16).simulations.x);
        let both = External { command: vec!["cat".into()], ..external };
        let message = both.simulate(&prior(), 0..40, 0, &Cancel::default()).unwrap_err().to_string();
        assert!(message.contains("more than one array"), "{message}");
    }
}
