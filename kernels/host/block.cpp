// Blocks of threads on one thread of this machine: each thread of a block is a fiber, which runs until it waits.
// This file is compiled without a sanitizer, and tells the thread sanitizer which fiber runs and what orders memory:
// barriers and nothing else. Threads of different blocks are different fibers, so that their races are seen too.
#include "block.hpp"

#include <algorithm>
#include <deque>
#include <numeric>
#include <random>
#include <sanitizer/tsan_interface.h>
#include <sys/mman.h>
#include <ucontext.h>

// They are there in the build with the thread sanitizer only.
#pragma weak __tsan_get_current_fiber
#pragma weak __tsan_create_fiber
#pragma weak __tsan_switch_to_fiber
#pragma weak __tsan_acquire
#pragma weak __tsan_release
extern "C" __attribute__((weak)) void __tsan_ignore_thread_begin();
extern "C" __attribute__((weak)) void __tsan_ignore_thread_end();

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr unsigned WARP = 32;
constexpr size_t STACK = 256 << 10;

enum class State { READY, AT_BARRIER, IN_WARP, DONE };

struct Thread {
    ucontext_t context;
    void *stack = nullptr, *fiber = nullptr;
    unsigned index;
    State state;
    // Where it waits, and in a warp for which lanes.
    Place place;
    unsigned mask;
    // What it brings to a shuffle, whose value it takes, and that.
    uint64_t brought, taken;
    unsigned from;
    // What the thread sanitizer knows this thread's barriers by (those of the first one stand for the whole block, or
    // the warp). Two of each, in turn: nobody reaches the next but one before all have left this one.
    char barriers[2], warp_barriers[2];
    unsigned passed, warp_passed;
};

struct SharedVariable {
    Place place;
    void* memory;
};

struct Block {
    std::vector<Thread*> threads;
    std::vector<SharedVariable> shared;
    void* dynamic;
};

// While there is one, the thread sanitizer does not look at this thread: what it does is not the kernel's doing.
struct Unseen {
    Unseen() {
        if (__tsan_ignore_thread_begin) __tsan_ignore_thread_begin();
    }
    ~Unseen() {
        if (__tsan_ignore_thread_end) __tsan_ignore_thread_end();
    }
};

// Threads of former launches, whose stacks and fibers are used again.
std::deque<Thread> pool;
const char* kernel_name;
const std::function<void()>* body;
Block* block;
Thread* running;
ucontext_t scheduler;
void* scheduler_fiber;
char started, finished;

void acquire(char& order) {
    if (__tsan_acquire) __tsan_acquire(&order);
}
void release(char& order) {
    if (__tsan_release) __tsan_release(&order);
}

[[noreturn]] void fail(const Place& place, const std::string& what) {
    const char* file = strrchr(place.file_name(), '/');
    fprintf(stderr, "%s: %s at %s:%u (block %u, %u, thread %u)\n", kernel_name, what.c_str(),
        file ? file + 1 : place.file_name(), place.line(), blockIdx.x, blockIdx.y, running->index);
    _Exit(1);
}

bool same(const Place& a, const Place& b) { return a.line() == b.line() && !strcmp(a.file_name(), b.file_name()); }

void switch_to(void* fiber, ucontext_t& from, ucontext_t& to) {
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync);
    swapcontext(&from, &to);
}

void wait(State state, const Place& place) {
    running->state = state;
    running->place = place;
    switch_to(scheduler_fiber, running->context, scheduler);
}

// The lanes of a thread's warp; `at` is the first of them, `count` how many the block has.
struct Warp {
    Thread** at;
    unsigned count;
    explicit Warp(const Thread& thread) {
        unsigned first = thread.index / WARP * WARP;
        at = &block->threads[first];
        count = std::min<size_t>(WARP, block->threads.size() - first);
    }
    Thread** begin() const { return at; }
    Thread** end() const { return at + count; }
};

bool names(unsigned mask, const Thread& thread) { return mask >> thread.index % WARP & 1; }

// Lets the lanes of a mask go if all of them have come to the same place.
void meet(const Thread& thread) {
    Warp warp(thread);
    for (const Thread* lane : warp) {
        if (!names(thread.mask, *lane)) continue;
        if (lane->state == State::DONE) fail(thread.place, "waits for lanes that have ended");
        bool here = lane->state == State::IN_WARP && lane->mask == thread.mask && same(lane->place, thread.place);
        if (!here) return;
    }
    unsigned mask = thread.mask;
    for (Thread* lane : warp)
        if (names(mask, *lane)) {
            lane->taken = warp.at[lane->from]->brought;
            lane->state = State::READY;
        }
}

void run_thread() {
    acquire(started);
    (*body)();
    release(finished);
    running->state = State::DONE;
    for (const Thread* lane : Warp(*running))
        if (lane->state == State::IN_WARP && names(lane->mask, *running)) meet(*lane);
    switch_to(scheduler_fiber, running->context, scheduler);
}

void start(Thread& thread, unsigned index) {
    if (!thread.stack) {
        thread.stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (thread.stack == MAP_FAILED) abort();
        if (__tsan_create_fiber) thread.fiber = __tsan_create_fiber(0);
    }
    thread.index = index;
    thread.state = State::READY;
    thread.passed = thread.warp_passed = 0;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack;
    thread.context.uc_stack.ss_size = STACK;
    makecontext(&thread.context, run_thread, 0);
}

// Lets all threads go from the barrier at which they must be, as none can go on.
void open_barrier() {
    auto waits = [](const Thread* thread) { return thread->state != State::DONE; };
    const Thread* first = *std::find_if(block->threads.begin(), block->threads.end(), waits);
    for (Thread* thread : block->threads) {
        running = thread;
        if (thread->state == State::IN_WARP) fail(thread->place, "waits for lanes that do not come");
        if (thread->state == State::DONE || !same(thread->place, first->place))
            fail(first->place, "divergent barrier, to which not all threads come,");
    }
    for (Thread* thread : block->threads) thread->state = State::READY;
}

// Puts things into the order of a launch.
template <typename T>
void arrange(std::vector<T>& things, unsigned order, std::mt19937& random) {
    if (order == 1) std::reverse(things.begin(), things.end());
    if (order > 1) std::shuffle(things.begin(), things.end(), random);
}

void run_block(unsigned order, std::mt19937& random) {
    auto turns = block->threads;
    arrange(turns, order, random);
    for (;;) {
        bool ran = false, done = true;
        for (Thread* thread : turns) {
            done &= thread->state == State::DONE;
            if (thread->state != State::READY) continue;
            ran = true;
            running = thread;
            threadIdx = {thread->index, 0, 0};
            switch_to(thread->fiber, scheduler, thread->context);
        }
        if (done) return;
        if (!ran) open_barrier();
    }
}

// Memory in which each number is NaN until it is written.
void* fresh(size_t bytes) {
    void* memory = malloc(bytes);
    if (!memory) abort();
    return memset(memory, 0xFF, bytes);
}

}  // namespace

void __syncthreads(Place place) {
    char& order = block->threads[0]->barriers[running->passed++ % 2];
    release(order);
    wait(State::AT_BARRIER, place);
    acquire(order);
}

void __syncwarp(unsigned mask, Place place) {
    char& order = Warp(*running).at[0]->warp_barriers[running->warp_passed++ % 2];
    release(order);
    shuffle(mask, 0, running->index % WARP, place);
    acquire(order);
}

uint64_t shuffle(unsigned mask, uint64_t bits, unsigned from, Place place) {
    if (!names(mask, *running)) fail(place, "a lane that its own mask does not name");
    if (from >= Warp(*running).count || !(mask >> from & 1)) fail(place, "takes from a lane that is not in the mask");
    running->brought = bits;
    running->from = from;
    running->mask = mask;
    running->state = State::IN_WARP;
    running->place = place;
    meet(*running);
    wait(running->state, place);
    return running->taken;
}

void __trap(Place place) { fail(place, "trap"); }

void* shared_memory(size_t bytes, Place place) {
    Unseen unseen;
    for (const SharedVariable& variable : block->shared)
        if (same(variable.place, place)) return variable.memory;
    block->shared.push_back({place, fresh(bytes)});
    return block->shared.back().memory;
}

void* dynamic_shared_memory() { return block->dynamic; }

void launch(const char* name, Grid grid, size_t dynamic_bytes, unsigned order, const std::function<void()>& kernel) {
    std::mt19937 random(order);
    kernel_name = name;
    body = &kernel;
    blockDim = {grid.threads, 1, 1};
    gridDim = {grid.columns, grid.rows, 1};
    std::vector<unsigned> numbers(grid.columns * grid.rows);
    std::iota(numbers.begin(), numbers.end(), 0);
    arrange(numbers, order, random);
    if (pool.size() < numbers.size() * grid.threads) pool.resize(numbers.size() * grid.threads);
    if (__tsan_get_current_fiber) scheduler_fiber = __tsan_get_current_fiber();
    release(started);
    for (unsigned number : numbers) {
        Unseen unseen;
        Block memory{{}, {}, fresh(dynamic_bytes)};
        block = &memory;
        blockIdx = {number % grid.columns, number / grid.columns, 0};
        for (unsigned i = 0; i < grid.threads; i++) {
            block->threads.push_back(&pool[number * grid.threads + i]);
            start(*block->threads[i], i);
        }
        run_block(order, random);
        for (const SharedVariable& variable : memory.shared) free(variable.memory);
        free(memory.dynamic);
    }
    acquire(finished);
}
