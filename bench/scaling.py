# SPDX-License-Identifier: MIT
"""What more workers and ranks than this machine has would give: the pipeline as a simulation of events.

Costs are measured (bench/steps, callgrind); rules are those of src/pipeline: two queues with a lock each,
one bell, the baton of a stream, slots of rings, read buffers, two live windows, decoding paced by claims.
Data: batches of 64 rows, int64 tokens, blocks of 250 KiB, windows of 64 blocks. Trainers give a batch
back after --trainer microseconds. Prints a table of speed-ups; docs/scaling.md discusses it."""
import argparse
import heapq

# Nanoseconds of one core (bench/steps on the machine of docs/scaling.md).
COSTS = {
    "decode": 320_000,      # one block
    "read": 18_000,         # one block from the page cache, by the fetch thread
    "lengths": 150_000,     # all lengths of a window, by the fetch thread
    "plan": 1_450_000,      # one window
    "fill": 19_500,         # one batch into a ring that stays in the cache
    "fill_cold": 37_000,    # the same into rings larger than the cache
    "step": 500,            # a step of the baton that finds nothing to do
    "batch": 1_300,         # and more for each batch that it claims and publishes
    "ring": 60,             # and more for each further ring
    "block": 250,           # and more for each block handed to a worker
    "lock": 25,             # queue push or pop
    "bounce": 120,          # a lock or baton whose cache line another core held
    "wake_call": 5_000,     # the futex call of who wakes
    "wake": 4_000,          # until a sleeper runs
    "spin": 20_000,         # how long an idle worker looks before it sleeps
}
BLOCKS, BATCHES = 64, 515
BATCH_BYTES = 2 * 707_000 + 2 * 32_000  # written with read-for-ownership, decoded bytes out and in


class Window:
    def __init__(self, number):
        self.number = number
        self.planned = False
        self.read = self.issued = self.decoded = 0
        self.reads_done = 0
        self.claimed = self.filled = 0

    def ready_batches(self, partial):
        if self.decoded == BLOCKS:
            return BATCHES
        if not partial:
            return 0
        batch = 0  # blocks in the order of first use: how many batches find all theirs
        while batch < BATCHES and self.decoded >= min(BLOCKS - 1, BLOCKS * (1 - (1 - 1 / BLOCKS) ** (64 * (batch + 1)))):
            batch += 1
        return batch


class Simulation:
    def __init__(self, workers, ranks=1, cached=False, slots=8, reads=16, live=3, partial=False,
                 trainer=5.0, bandwidth=None, late_bell=True):
        self.__dict__.update(workers=workers, ranks=ranks, cached=cached, slots=slots, reads=reads, live=live,
                             partial=partial, trainer=trainer * 1000, bandwidth=bandwidth, late_bell=late_bell)
        self.now, self.events, self.order = 0, [], 0
        self.urgent, self.ahead = [], []
        self.lock_free, self.lock_owner, self.lock_held = 0, None, 0
        self.spinning, self.sleeping = {}, list(range(1, workers))
        self.pokes, self.baton_busy, self.baton_wait = 0, 0, 0
        self.buffers, self.fetch_free, self.in_flight = reads, 0, 0
        self.windows, self.next_window = [], 0
        self.head, self.claimed, self.tail = [0] * ranks, [0] * ranks, [0] * ranks
        self.trainer_free = [0] * ranks
        self.done = [set() for _ in range(ranks)]
        self.unissued = []
        self.published, self.busy, self.filling = 0, 0, 0
        self.fill_cost = COSTS["fill"] if ranks * slots * 0.7 < 24 else COSTS["fill_cold"]

    def at(self, time, action, *arguments):
        self.order += 1
        heapq.heappush(self.events, (time, self.order, action, arguments))

    def lock(self, worker, time):
        """Take and leave the lock of a queue; when that is done."""
        start = max(time, self.lock_free)
        cost = COSTS["lock"] + (COSTS["bounce"] if self.lock_owner not in (None, worker) else 0)
        self.lock_held += cost
        self.lock_owner, self.lock_free = worker, start + cost
        return self.lock_free

    # ---- workers ----

    def look(self, worker):
        """The worker looks for a task."""
        self.spinning.pop(worker, None)
        if not self.urgent and not self.ahead:
            self.spinning[worker] = self.now
            self.at(self.now + COSTS["spin"], self.doze, worker, self.now)
            return
        when = self.lock(worker, self.now)
        task = self.urgent.pop(0) if self.urgent else self.ahead.pop(0)
        kind, item = task
        cost = {"plan": COSTS["plan"], "decode": COSTS["decode"], "fill": self.fill_cost, "poke": 0}[kind]
        if self.bandwidth and kind == "fill":  # all fills share the memory
            cost = max(cost, (self.filling + 1) * BATCH_BYTES / self.bandwidth)
        self.filling += kind == "fill"
        self.busy += cost
        self.at(when + cost, self.finish, worker, kind, item)

    def doze(self, worker, since):
        if self.spinning.get(worker) == since:
            del self.spinning[worker]
            self.sleeping.append(worker)

    def finish(self, worker, kind, item):
        if kind == "plan":
            item.planned = True
        elif kind == "decode":
            item.decoded += 1
            self.in_flight -= 1
            self.buffers += not self.cached
        elif kind == "fill":
            self.filling -= 1
            window, ring, sequence = item
            window.filled += 1
            self.done[ring].add(sequence)
        self.wake_stream(worker)

    def wake_stream(self, worker):
        self.pokes += 1
        if self.pokes > 1:
            if worker is not None:
                self.look(worker)
            return
        self.step(worker)

    def step(self, worker):
        seen = self.pokes
        cost, pushed, wakes = self.stream_step()
        when = self.now + cost + (COSTS["bounce"] * 4 if self.workers > 1 else 0)
        for _ in range(len(pushed)):
            when = self.lock(worker, when)
        count = len(pushed) - (worker is not None)
        if count > 0 and self.sleeping and not self.late_bell:
            when += COSTS["wake_call"]
        self.baton_busy += when - self.now
        self.at(when, self.step_end, worker, seen, pushed, count)

    def step_end(self, worker, seen, pushed, count):
        for urgent, task in pushed:
            (self.urgent if urgent else self.ahead).append(task)
        for waker in list(self.spinning)[:len(pushed)]:
            self.spinning.pop(waker)
            self.at(self.now + 100, self.look, waker)
        calls = min(max(count, 0), len(self.sleeping))
        for _ in range(calls):
            self.at(self.now + COSTS["wake"], self.look, self.sleeping.pop())
        self.pokes -= seen
        if self.pokes > 0:
            self.step(worker)
        elif worker is not None and count > 0 and self.late_bell and calls:
            self.at(self.now + COSTS["wake_call"], self.look, worker)
        elif worker is not None:
            self.look(worker)

    # ---- fetch thread and trainers ----

    def fetch(self, window, kind):
        self.fetch_free = max(self.fetch_free, self.now) + COSTS[kind]
        self.at(self.fetch_free, self.fetched, window, kind)

    def fetched(self, window, kind):
        if kind == "read":
            window.reads_done += 1
        else:
            window.lengths = True
        self.wake_stream(None)

    def release(self, ring, sequence):
        full = self.head[ring] - self.tail[ring] >= self.slots
        self.tail[ring] = sequence + 1
        if full:
            self.at(self.now + 8_000, self.poke)  # a byte on the socket, the control thread, a task

    def poke(self):
        self.urgent.append(("poke", None))
        if self.spinning:
            self.look(next(iter(self.spinning)))
        elif self.sleeping:
            self.at(self.now + COSTS["wake"], self.look, self.sleeping.pop())

    # ---- the step of a stream ----

    def stream_step(self):
        cost, pushed = COSTS["step"] + COSTS["ring"] * (self.ranks - 1), []
        for ring in range(self.ranks):
            while self.head[ring] in self.done[ring]:
                self.done[ring].remove(self.head[ring])
                self.trainer_free[ring] = max(self.trainer_free[ring], self.now) + self.trainer
                self.at(self.trainer_free[ring], self.release, ring, self.head[ring])
                self.head[ring] += 1
                self.published += 1
                cost += COSTS["batch"] * 0.45
        cost += self.claim(pushed)
        self.windows = [w for w in self.windows if w.filled < BATCHES]
        while len(self.windows) < self.live:
            window = Window(self.next_window)
            window.lengths = window.asked = False
            self.next_window += 1
            self.windows.append(window)
            self.fetch(window, "lengths")
        for place, window in enumerate(self.windows):
            if window.lengths and not window.asked:
                window.asked = True
                pushed.append((True, ("plan", window)))
            if window.planned and place < 2:
                cost += self.advance(window, self.windows[place - 1] if place else None, pushed)
        return cost, pushed, 0

    def claim(self, pushed):
        cost = 0
        while True:
            ring = min(range(self.ranks), key=lambda r: self.claimed[r] - self.tail[r])
            window = next((w for w in self.windows if w.claimed < BATCHES), None)
            if self.claimed[ring] - self.tail[ring] >= self.slots or window is None or not window.planned:
                break
            if window.claimed >= window.ready_batches(self.partial):
                break
            pushed.append((True, ("fill", (window, ring, self.claimed[ring]))))
            self.claimed[ring] += 1
            window.claimed += 1
            cost += COSTS["batch"] * 0.55
        return cost

    def advance(self, window, before, pushed):
        cost = 0
        if window.decoded == BLOCKS:
            return 0
        if self.cached:
            window.read = window.reads_done = window.issued = window.decoded = BLOCKS
            self.pokes += 1
            return COSTS["block"] * BLOCKS
        if self.buffers >= self.reads / 2:
            while window.read < BLOCKS and self.buffers > 0:
                self.buffers -= 1
                window.read += 1
                cost += COSTS["block"]
                self.fetch(window, "read")
        paced = -(-BLOCKS * before.claimed // BATCHES) if before else BLOCKS
        urgent = paced > window.issued
        limit = paced - window.issued if urgent else self.workers - self.in_flight
        for _ in range(min(limit, window.reads_done - window.issued)):
            window.issued += 1
            self.in_flight += 1
            cost += COSTS["block"]
            pushed.append((urgent, ("decode", window)))
        return cost

    def run(self, batches, warm=1030):
        self.wake_stream(0)
        begin = None
        while self.published < warm + batches:
            self.now, _, action, arguments = heapq.heappop(self.events)
            action(*arguments)
            if begin is None and self.published >= warm:
                begin = (self.now, self.published, self.baton_busy, self.lock_held, self.busy)
        span = self.now - begin[0]
        return {"rate": (self.published - begin[1]) / span * 1e9, "baton": (self.baton_busy - begin[2]) / span,
                "lock": (self.lock_held - begin[3]) / span, "busy": (self.busy - begin[4]) / span / self.workers}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--trainer", type=float, default=5.0, help="microseconds that a trainer keeps a batch")
    parser.add_argument("--batches", type=int, default=8000)
    parser.add_argument("--bandwidth", type=float, help="GB/s that all fills share (default: no limit)")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--reads", type=int, default=16, help="read buffers of a stream")
    parser.add_argument("--live", type=int, default=3, help="windows that are open; the third is planned only")
    parser.add_argument("--partial", action="store_true", help="a batch waits for its own blocks only")
    parser.add_argument("--late-bell", type=int, default=1, help="0: sleepers are woken by who holds the baton")
    arguments = parser.parse_args()
    options = {key: getattr(arguments, key)
               for key in ("slots", "reads", "live", "partial", "trainer", "bandwidth", "late_bell")}
    print(f"{'ranks':>5} {'cache':>5} {'workers':>7} {'batches/s':>10} {'speed-up':>8} {'workers busy':>12} "
          f"{'baton held':>10} {'lock held':>10}")
    for cached in (False, True):
        for ranks in (1, 8):
            base = None
            for workers in arguments.workers:
                result = Simulation(workers, ranks, cached, **options).run(arguments.batches)
                base = base or result["rate"]
                print(f"{ranks:>5} {'full' if cached else '0':>5} {workers:>7} {result['rate']:>10.0f} "
                      f"{result['rate'] / base:>8.1f} {result['busy']:>12.0%} {result['baton']:>10.0%} "
                      f"{result['lock']:>10.1%}")


if __name__ == "__main__":
    main()
