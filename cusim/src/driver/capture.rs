//! Capturing a graph from streams.
//!
//! A capture begins in one stream, spreads to others through events, and must come back to the first before it ends.
//! It may depend on nothing outside of it. Source: NVIDIA, *CUDA Driver API*, stream management and graph management.

use std::collections::HashMap;
use std::thread::ThreadId;

use super::code;
use super::state::State;
use super::work::Work;

/// For each stream of a capture, how much of its work has been seen.
pub(super) type Seen = HashMap<usize, usize>;

/// A capture under way.
pub(super) struct Capture {
    pub origin: usize,
    pub thread: ThreadId,
    /// Calls that could wait or allocate are allowed in this thread.
    pub relaxed: bool,
    pub invalid: bool,
    /// In the order of the calls, which is an order that respects all dependencies.
    pub work: Vec<Work>,
    /// What each stream of the capture has seen, its own work included.
    pub streams: HashMap<usize, Seen>,
}

impl State {
    /// The capture that a stream belongs to.
    pub(super) fn capture_of(&self, stream: usize) -> Option<usize> {
        self.captures.iter().find(|(_, capture)| capture.streams.contains_key(&stream)).map(|(&id, _)| id)
    }

    pub(super) fn begin_capture(&mut self, stream: usize, relaxed: bool) -> i32 {
        if stream == 0 {
            return self.say(code::CAPTURE_UNSUPPORTED, "the default stream cannot be captured".into());
        }
        if self.capture_of(stream).is_some() {
            return code::ILLEGAL_STATE;
        }
        let (id, thread) = (self.new_handle(), std::thread::current().id());
        let streams = HashMap::from([(stream, Seen::new())]);
        let capture = Capture { origin: stream, thread, relaxed, invalid: false, work: Vec::new(), streams };
        self.captures.insert(id, capture);
        code::SUCCESS
    }

    /// The graph's handle.
    pub(super) fn end_capture(&mut self, stream: usize) -> Result<usize, i32> {
        let id = self.capture_of(stream).ok_or(code::ILLEGAL_STATE)?;
        if self.captures[&id].origin != stream {
            return Err(self.say(code::CAPTURE_UNMATCHED, "a capture ends in the stream in which it began".into()));
        }
        let capture = self.captures.remove(&id).ok_or(code::ILLEGAL_STATE)?;
        for event in self.events.values_mut().filter(|event| event.captured.as_ref().is_some_and(|(c, _)| *c == id)) {
            event.captured = None;
        }
        if capture.invalid {
            return Err(code::CAPTURE_INVALIDATED);
        }
        let seen = &capture.streams[&stream];
        let own = |(&stream, other): (&usize, &Seen)| (stream, other.get(&stream).copied().unwrap_or(0));
        if capture.streams.iter().map(own).any(|(stream, work)| seen.get(&stream).copied().unwrap_or(0) < work) {
            return Err(self.say(code::CAPTURE_UNJOINED, "work of another stream was never joined".into()));
        }
        let graph = self.new_handle();
        self.graphs.insert(graph, capture.work);
        Ok(graph)
    }

    /// Notes work in a capturing stream.
    pub(super) fn capture(&mut self, id: usize, stream: usize, work: Work) {
        let Some(capture) = self.captures.get_mut(&id) else { return };
        capture.work.push(work);
        *capture.streams.entry(stream).or_default().entry(stream).or_default() += 1;
    }

    pub(super) fn record_captured(&mut self, id: usize, stream: usize, event: usize) -> i32 {
        let seen = self.captures[&id].streams[&stream].clone();
        if let Some(event) = self.events.get_mut(&event) {
            event.captured = Some((id, seen));
        }
        code::SUCCESS
    }

    /// A wait in which a capture takes part, on one side or on both.
    pub(super) fn wait_captured(&mut self, stream: usize, event: Option<(usize, Seen)>) -> i32 {
        let of_stream = self.capture_of(stream);
        match (of_stream, event) {
            (Some(id), None) => {
                self.invalidate(id);
                let why = "a capturing stream waits for an event that was recorded outside of the capture";
                self.say(code::CAPTURE_ISOLATION, why.into())
            }
            (Some(id), Some((other, _))) if id != other => {
                self.invalidate(id);
                self.say(code::CAPTURE_MERGE, "two captures cannot depend on each other".into())
            }
            (_, Some((id, seen))) => {
                if let Some(capture) = self.captures.get_mut(&id) {
                    let own = capture.streams.entry(stream).or_default();
                    for (other, work) in seen {
                        let known = own.entry(other).or_default();
                        *known = work.max(*known);
                    }
                }
                code::SUCCESS
            }
            (None, None) => code::SUCCESS,
        }
    }

    pub(super) fn invalidate(&mut self, id: usize) {
        if let Some(capture) = self.captures.get_mut(&id) {
            capture.invalid = true;
        }
    }

    /// An error if this thread captures: the call might wait for work that is not going to run.
    pub(super) fn forbid_while_capturing(&mut self, what: &str) -> Result<(), i32> {
        let thread = std::thread::current().id();
        let own = |(_, capture): &(&usize, &Capture)| capture.thread == thread && !capture.relaxed;
        let Some(id) = self.captures.iter().find(own).map(|(&id, _)| id) else { return Ok(()) };
        self.invalidate(id);
        Err(self.say(code::CAPTURE_UNSUPPORTED, format!("{what} while a stream is capturing")))
    }
}
