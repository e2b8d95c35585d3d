//! The driver's state: one device, its streams and events, modules, graphs, and memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::capture::{Capture, Seen};
use super::code;
use super::work::Work;
use crate::machine::{Counters, Memory};
use crate::ptx::Module;

/// Bytes of device memory, where a test does not say how many.
const TOTAL_MEMORY: usize = 4 << 30;

/// What waits in a stream.
#[derive(Debug)]
pub(super) enum Task {
    Work(Work),
    /// The event's n-th record.
    Record(usize, u64),
    /// Until the event's n-th record has been reached.
    Wait(usize, u64),
}

/// An event.
#[derive(Default)]
pub(super) struct Event {
    pub issued: u64,
    pub reached: u64,
    /// The stream in which it was recorded last.
    pub stream: usize,
    pub timing: bool,
    pub time: Option<Instant>,
    /// Recorded in a capture: which one, and what it had seen.
    pub captured: Option<(usize, Seen)>,
}

/// A kernel that was asked for by name.
pub(super) struct Function {
    pub module: Arc<Module>,
    pub name: String,
    pub dynamic_limit: usize,
}

/// Everything.
#[derive(Default)]
pub(super) struct State {
    pub initialized: bool,
    pub sticky: i32,
    pub memory: Memory,
    /// Bytes of device memory.
    pub total_memory: usize,
    /// Addresses and lengths of pinned host memory.
    pub pinned: BTreeMap<usize, usize>,
    pub streams: HashMap<usize, VecDeque<Task>>,
    pub events: HashMap<usize, Event>,
    pub captures: HashMap<usize, Capture>,
    pub modules: HashMap<usize, (Arc<Module>, u64)>,
    pub functions: HashMap<usize, Function>,
    pub graphs: HashMap<usize, Vec<Work>>,
    pub launches: u32,
    pub order: Option<u64>,
    /// By kernel; what the host asked for under the empty name.
    pub counters: BTreeMap<String, Counters>,
    pub message: String,
    handles: usize,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The state, locked.
pub(super) struct Locked(MutexGuard<'static, Option<State>>);

impl std::ops::Deref for Locked {
    type Target = State;
    fn deref(&self) -> &State {
        self.0.as_ref().expect("`lock` has filled it")
    }
}

impl std::ops::DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_mut().expect("`lock` has filled it")
    }
}

pub(super) fn lock() -> Locked {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = || State {
        streams: HashMap::from([(0, VecDeque::new())]),
        handles: 16,
        total_memory: TOTAL_MEMORY,
        ..State::default()
    };
    state.get_or_insert_with(fresh);
    Locked(state)
}

impl State {
    /// So many bytes of device memory; `None` for the usual size.
    pub fn set_memory(&mut self, bytes: Option<usize>) {
        self.total_memory = bytes.unwrap_or(TOTAL_MEMORY);
    }

    /// Bytes that can still be allocated.
    pub fn free_memory(&self) -> usize {
        self.total_memory.saturating_sub(self.memory.used())
    }

    /// A number that no other object has.
    pub fn new_handle(&mut self) -> usize {
        self.handles += 1;
        self.handles
    }

    /// Keeps and prints what went wrong.
    pub fn say(&mut self, code: i32, message: String) -> i32 {
        eprintln!("cusim: {message}");
        self.message = message;
        code
    }

    /// Counts a launch, unless it is captured.
    pub fn asked(&mut self, stream: usize) {
        if self.capture_of(stream).is_none() {
            self.counters.entry(String::new()).or_default().asked += 1;
        }
    }

    /// Work for a stream: captured, or done later.
    pub fn push(&mut self, stream: usize, work: Work) -> i32 {
        if let Some(id) = self.capture_of(stream) {
            self.capture(id, stream, work);
            return code::SUCCESS;
        }
        match self.streams.get_mut(&stream) {
            Some(queue) => queue.push_back(Task::Work(work)),
            None => return code::INVALID_HANDLE,
        }
        code::SUCCESS
    }

    pub fn record(&mut self, stream: usize, handle: usize) -> i32 {
        if let Some(id) = self.capture_of(stream) {
            return self.record_captured(id, stream, handle);
        }
        let Some(event) = self.events.get_mut(&handle) else { return code::INVALID_HANDLE };
        event.captured = None;
        event.issued += 1;
        event.stream = stream;
        let record = Task::Record(handle, event.issued);
        self.streams.get_mut(&stream).map_or(code::INVALID_HANDLE, |queue| {
            queue.push_back(record);
            code::SUCCESS
        })
    }

    pub fn wait(&mut self, stream: usize, handle: usize) -> i32 {
        let Some(event) = self.events.get(&handle) else { return code::INVALID_HANDLE };
        if event.captured.is_some() || self.capture_of(stream).is_some() && event.issued > 0 {
            let captured = event.captured.clone();
            return self.wait_captured(stream, captured);
        }
        let wait = Task::Wait(handle, event.issued);
        self.streams.get_mut(&stream).map_or(code::INVALID_HANDLE, |queue| {
            queue.push_back(wait);
            code::SUCCESS
        })
    }

    /// Runs the first task of a stream; `false` if there is none.
    fn step(&mut self, stream: usize) -> bool {
        let Some(task) = self.streams.get_mut(&stream).and_then(VecDeque::pop_front) else { return false };
        match task {
            Task::Work(work) => self.sticky = self.perform(&work),
            Task::Record(event, count) => {
                if let Some(event) = self.events.get_mut(&event) {
                    (event.reached, event.time) = (count, Some(Instant::now()));
                }
            }
            Task::Wait(event, count) => {
                self.reach(event, count);
            }
        }
        true
    }

    /// Runs streams until the event's n-th record has been reached.
    pub fn reach(&mut self, event: usize, count: u64) -> i32 {
        while self.sticky == code::SUCCESS {
            let Some(waited) = self.events.get(&event) else { break };
            if waited.reached >= count || !self.step(waited.stream) {
                break;
            }
        }
        self.sticky
    }

    /// Runs everything that a stream has been given.
    pub fn drain(&mut self, stream: usize) -> i32 {
        while self.sticky == code::SUCCESS && self.step(stream) {}
        self.sticky
    }

    pub fn drain_all(&mut self) -> i32 {
        let mut streams: Vec<usize> = self.streams.keys().copied().collect();
        streams.sort_unstable();
        streams.into_iter().rev().for_each(|stream| {
            self.drain(stream);
        });
        self.sticky
    }

    /// Whether the whole range is pinned host memory.
    pub fn is_pinned(&self, address: usize, len: usize) -> bool {
        let before = self.pinned.range(..=address).next_back();
        before.is_some_and(|(start, pinned)| address + len <= start + pinned)
    }
}
