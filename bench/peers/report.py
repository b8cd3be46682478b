# SPDX-License-Identifier: MIT
"""What a comparison found, as tables, as a page and as a picture."""
import html
import math
import statistics
import sys

OURS, TORCH, VIEWS = "seqfeed, numpy views", "seqfeed.torch", "seqfeed.torch, zero_copy"
CLIENT, CLIENT_COPIES = "seqfeed, C client", "seqfeed, C client that copies"
ANEW = "seqfeed, numpy views, no cache"
# What one Python trainer shall reach: tokens/s against the loaders whose names begin so.
SPEED_GOALS = (("PyTorch DataLoader, 1 worker", 15), ("PyTorch DataLoader, 2 workers", 15),
               ("PyTorch DataLoader, in process", 3), ("MosaicML Streaming", 40), ("WebDataset", 40),
               ("numpy + zstandard by hand", 2.5))
BESIDE = "alone"  # one trainer, right before four of its kind
AT_HAND = "three torch tensors, nothing loaded"
IN_GOALS = ("seqfeed", *(begins for begins, _ in SPEED_GOALS))
TITLES = {"W1": "W1: one trainer", "W4": "W4: one trainer, batches of like lengths",
          "W2": "W2: two trainers, each of which takes every batch",
          "W3": "W3: two ranks, half of the batches each", "W0": "W0: handing over"}


class Found:
    """The runs by task and loader; several of one kind as their median."""

    def __init__(self, found):
        self.facts, self.corpus, self.machine = found["facts"], found["corpus"], found["machine"]
        self.minutes, self.kept, self.failed = found["minutes"], {}, {}
        for run in found["runs"]:
            place = (run["task"], run["loader"])
            if "failed" in run:
                self.failed[place] = run["failed"]
            else:
                self.kept.setdefault(place, []).append(run)

    def loaders(self, task):
        names = [name for where, name in self.kept if where == task]
        return sorted(names, key=lambda name: -self.of(task, name, "speed"))

    def of(self, task, name, key):
        """The median, or None where nothing was measured."""
        runs = self.kept.get((task, name))
        return statistics.median(self.value(run, key) for run in runs) if runs else None

    @staticmethod
    def value(run, key):
        per_million = 1e6 / max(1, run["tokens"])
        return {"cpu_per_million": run["cpu"] * per_million, "mib": run["peak"] / 2**20,
                "cpu_per_batch_us": run["cpu"] / max(1, run["batches"]) * 1e6,
                "loader_per_batch_us": (run["cpu"] - run["own_cpu"]) / max(1, run["batches"]) * 1e6,
                "loader_per_million": (run["cpu"] - run["own_cpu"]) * per_million,
                "own_per_million": run["own_cpu"] * per_million,
                "daemon_per_million": (run["cpu"] - run["trainer_cpu"]) * per_million}.get(key, run.get(key))

    def ratio(self, task, key, name, other):
        mine, theirs = self.of(task, name, key), self.of(task, other, key)
        return mine / theirs if mine and theirs else None


def table(head, rows):
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def told(value, form="{:.1f}"):
    return "–" if value is None else form.format(value)


# --- tables --------------------------------------------------------------------------------------

def note(found, task, name):
    missing = found.kept[task, name][-1].get("missing", 0)
    if not missing:
        return ""
    return f" ({abs(missing)} tokens too {'few' if missing > 0 else 'many'})"


def speeds(found, task, name):
    runs = [run["speed"] / 1e6 for run in found.kept[task, name]]
    if len(runs) == 1:
        return f"{runs[0]:.1f}"
    return f"{statistics.median(runs):.1f} ({min(runs):.1f} .. {max(runs):.1f})"


def failures(found, task):
    return "".join(f"\n{name}: failed, `{words}`\n" for (where, name), words in found.failed.items()
                   if where == task)


def one_trainer(found):
    rows = []
    for name in found.loaders("W1"):
        rows.append([name + note(found, "W1", name), speeds(found, "W1", name),
                     told(found.ratio("W1", "speed", OURS, name), "{:.1f} x"),
                     told(found.of("W1", name, "cpu_per_million"), "{:.4f}"),
                     told(found.of("W1", name, "first_ms"), "{:.0f}"),
                     told(found.of("W5", name, "wait_p50_us"), "{:.0f}"),
                     told(found.of("W5", name, "wait_p99_us"), "{:.0f}"),
                     told(found.of("check", name, "mib"), "{:.0f}")])
    return table(["loader", "M tokens/s", "numpy views are faster", "CPU s per M tokens",
                  "first batch, ms", "W5: wait p50, us", "W5: wait p99, us", "peak memory, MiB"],
                 rows) + failures(found, "W1") + failures(found, "W5")


def several(found, task):
    rows = [[name + note(found, task, name), speeds(found, task, name),
             told(found.of(task, name, "cpu_per_million"), "{:.4f}"),
             told(found.of(task, name, "first_ms"), "{:.0f}")] for name in found.loaders(task)]
    return table(["loader", "M tokens/s", "CPU s per M tokens", "first batch, ms"],
                 rows) + failures(found, task)


def sharing_pairs(found, name, key, trainers=4):
    """(of one alone, of four that share, or of so many among them), for an epoch: runs right after each other,
    since the machine's speed changes by the minute."""
    alone = {run["round"]: found.value(run, key) for run in found.kept.get((BESIDE, name), [])}
    return [(alone[run["round"]], trainers * found.value(run, key)) for run in found.kept.get(("share", name), [])
            if alone.get(run["round"])]


def sharing_cost(found, name, key="loader_per_million", trainers=4):
    """CPU of four trainers that share, over that of one alone: the median of the pairs."""
    ratios = [four / alone for alone, four in sharing_pairs(found, name, key, trainers)]
    return statistics.median(ratios) if ratios else None


def sharing_adds(found, name):
    """Microseconds of loader CPU a batch for each trainer beyond the first."""
    added = [(four - alone) / 3 for alone, four in sharing_pairs(found, name, "loader_per_batch_us")]
    return statistics.median(added) if added else None


def sharing(found):
    rows = [[name + note(found, "share", name), speeds(found, "share", name),
             told(found.of("share", name, "cpu_per_million"), "{:.4f}"), told(sharing_cost(found, name)),
             told(sharing_cost(found, name, "daemon_per_million")) if name.startswith("seqfeed") else "–",
             told(sharing_cost(found, name, "own_per_million", 1), "{:.2f}"), told(sharing_adds(found, name), "{:.0f}")]
            for name in found.loaders("share")]
    return table(["loader", "M tokens/s, all four", "CPU s per M tokens",
                  "loader CPU of four over that of one", "of these the daemon's",
                  "a trainer's own look, over one's", "each further trainer adds, us of loader CPU a batch"],
                 rows) + failures(found, "share")


def best(found, begins):
    """Of the loaders that begin so, the fastest."""
    return next((name for name in found.loaders("W1") if name.startswith(begins)), None)


def added(found, name, other):
    """Microseconds of CPU a batch, of all processes, above those of another."""
    mine, theirs = (found.of("W0", each, "cpu_per_batch_us") for each in (name, other))
    return None if mine is None or theirs is None else mine - theirs


def goals(found):
    """(what, wanted, [value of each of ours], how to read it)"""
    mine, made = (OURS, VIEWS, TORCH), []
    for begins, wanted in SPEED_GOALS:
        other = best(found, begins)
        values = [found.ratio("W1", "speed", name, other) if other else None for name in mine]
        made.append((f"tokens/s over {other or begins}", wanted, values, "{:.1f}"))
    # A copy of a batch is not what Python adds: who makes one is compared with who makes one in C.
    made.append(("CPU over that of the C client, which copies where Python does, handing over a batch, us", -20,
                 [added(found, name, CLIENT_COPIES if name == TORCH else CLIENT) for name in mine], "{:.1f}"))
    made.append(("the same over the C client without a copy", None,
                 [added(found, name, CLIENT) if name == TORCH else None for name in mine], "{:.1f}"))
    made.append(("tokens/s over the C client, handing over without a copy", 0.8,
                 [found.ratio("W0", "speed", name, CLIENT) if name != TORCH else None for name in mine], "{:.2f}"))
    for key, wanted in (("wait_p50_us", -50), ("wait_p99_us", -300)):
        made.append((f"5 ms trainer: {key[5:8]} of its waits, us", wanted,
                     [found.of("W5", name, key) for name in mine], "{:.0f}"))
        at_hand = found.of("W5", AT_HAND, key)
        made.append(("the same for " + AT_HAND, None, [None, at_hand, at_hand], "{:.0f}"))
    for what, key in (("loader", "loader_per_million"), ("daemon's", "daemon_per_million")):
        made.append((f"{what} CPU of four sharing trainers over one", -1.3,
                     [sharing_cost(found, name, key) for name in mine], "{:.2f}"))
    made.append(("the daemon's where each block is decoded (no cache)", -1.3,
                 [sharing_cost(found, ANEW, "daemon_per_million"), None, None], "{:.2f}"))
    # Copies are work that each trainer asked for.
    made.append(("loader CPU that each further sharing trainer adds, us a batch", -15,
                 [sharing_adds(found, name) if name != TORCH else None for name in mine], "{:.1f}"))
    return made


def goal_table(found):
    def cell(value, wanted, form):
        if value is None or wanted is None:
            return told(value, form)
        met = value < -wanted if wanted < 0 else value >= wanted
        return form.format(value) + ("" if met else ", **missed**")

    return table(["goal", "wanted", "numpy views", "torch, zero_copy", "torch"], [
        [what, "–" if wanted is None else f"< {-wanted:g}" if wanted < 0 else f"{wanted:g}",
         *(cell(value, wanted, form) for value in values)] for what, wanted, values, form in goals(found)])


def better(found):
    """Whatever another loader does better than ours of its kind."""
    lines = []
    for task, key, sign, form in (
            ("W1", "speed", 1, "{:.0f} tokens/s"), ("W1", "cpu_per_million", -1, "{:.4f} CPU s per M tokens"),
            ("W1", "first_ms", -1, "first batch after {:.0f} ms"), ("check", "mib", -1, "{:.0f} MiB"),
            ("W5", "wait_p50_us", -1, "wait p50 {:.0f} us"), ("W5", "wait_p99_us", -1, "wait p99 {:.0f} us"),
            ("W2", "speed", 1, "{:.0f} tokens/s"), ("W2", "cpu_per_million", -1, "{:.4f} CPU s per M tokens"),
            ("W3", "speed", 1, "{:.0f} tokens/s"), ("W3", "cpu_per_million", -1, "{:.4f} CPU s per M tokens"),
            ("W4", "speed", 1, "{:.0f} tokens/s"), ("W4", "cpu_per_million", -1, "{:.4f} CPU s per M tokens")):
        for name in found.loaders(task):
            ours = TORCH if found.facts["loaders"][name]["torch"] else OURS
            mine, theirs = found.of(task, ours, key), found.of(task, name, key)
            if name.startswith("seqfeed") or name == AT_HAND or mine is None or sign * theirs <= sign * mine:
                continue
            where = "" if task == "check" else f"{task}, "
            lines.append(f"- {where}{name}: {form.format(theirs)}; {ours}: {form.format(mine)}.")
    return "\n".join(lines) + "\n" if lines else "Nowhere in this run.\n"


# --- the page ------------------------------------------------------------------------------------

PAGE = """# Python, side by side

    bench/peers/compare.py --install VENV
    bench/peers/compare.py --venv VENV --data DIR --all --json FILE \\
        --markdown docs/python-benchmarks.md --plot docs/python-benchmarks.svg

That made this page: the same data, the same work, one run of {minutes:.0f} minutes on {date}.
{cpu}, {cpus} CPUs, {memory_gib} GiB, Linux {kernel}, load {load:.1f} before the run.
Python {python}, {versions}.
{busy}
![tokens per second](python-benchmarks.svg)

## What is measured

{tokens} tokens in {sequences} sequences: Zipf's law, lengths log-normal with median 180, at most 2048; one
label each. A loader makes batches of 64 shuffled sequences: int64 tokens padded to the longest, a bool mask,
int64 labels. The trainer counts the mask and sums the labels and each row's first token, the same few
microseconds for all. Every loader first runs one epoch in which every value is checked; later runs are checked
by their sums.

| task | |
|---|---|
| W0 | seqfeed alone: a batch is taken and given back, not looked at |
| W1 | one trainer, all batches |
| W2 | two trainers, each of which takes every batch: seqfeed's and TensorSocket's share, others load twice |
| W3 | two ranks, half of the batches each |
| W4 | W1 with batches of sequences of like lengths; only loaders that can, or for which it was written by hand |
| W5 | W1 with a training step of 5 ms (a sleep) after each of {steps} batches: how long `next` takes |
| share | four trainers as in W2, and right before each run one alone, with which it is compared |

- tokens/s: real tokens, without padding, from before the loader is built until its last batch, over whole epochs
  and at least {seconds:g} s; imports are left out, the start of daemon and workers is not. What a goal is
  about has its turn {rounds} times: median and range.
- CPU: user and system time of all processes, the trainer's own and the daemon's included. *Loader CPU* is without
  the time in which trainers look into batches, and without what their loop and its clocks take over batches that are
  there ({loop:.1f} us each).
- First batch: from before the loader is built, which for seqfeed includes the start of its daemon.
- Memory: the most, of all processes together, in the epoch that is checked; shared and mapped pages count once,
  and the interpreter with its imports counts.
- seqfeed runs with its defaults: `cache: auto`, `threads: auto`, 8 slots. This dataset fits into the cache, so
  it is decoded once; *no cache* decodes each epoch anew, as by hand, PyTorch, SPDL, Grain, Parquet and
  catid_dataloader do. MosaicML and LitData decompress once too, into files.
- zstd is at level 3 wherever a format compresses (catid_dataloader: 1, it has no other); *uncompressed* ones,
  Arrow and WebDataset's tar files have nothing to decode.
- Workers do not help most loaders on {cpus} CPUs; lines with workers show it. Torch has one thread.

## Goals

{goals}
A like is compared with a like by the columns: numpy with numpy views, torch with torch. `seqfeed.torch` without
`zero_copy` hands out tensors of the trainer's own, so a copy of the batch is part of each of its figures, and
what Python adds is held against a C client that copies each batch into memory of its own too.

## {W1}

{one}
## {W0}

{hand_over}
## {W4}

{buckets}
## {W2}

{two}
## {W3}

{ranks}
## Four trainers that share

{four}
## Where another loader is better

Numpy's are compared with numpy views, torch's with `seqfeed.torch`.

{better}
## What to know before quoting

- One machine with {cpus} CPUs: daemon, trainer and workers compete. More cores help loaders with workers, and
  seqfeed with `threads`.
- Shuffling differs: all sequences (Arrow, Grain, catid_dataloader, uncompressed), blocks in windows (seqfeed, by
  hand, SPDL, PyTorch), shards and a buffer (WebDataset, Parquet), chunks (LitData), blocks of its own (MosaicML).
- The formats of *by hand*, PyTorch and SPDL are written for this comparison; SPDL is an engine and runs the
  code of *by hand* in threads.
- TensorSocket wants batches of one shape, so its rows are 2048 wide, and it leaves out what does not fill its
  messages. It is made to share tensors on a GPU; there is none here.
- To give two ranks equally much, Hugging Face's sampler and MosaicML repeat sequences. seqfeed repeats batches
  and flags them; flagged ones are not counted here. LitData would leave some out and is told not to.
- After a sleep of 5 ms caches are cold: the same `next` takes several times what it takes in W0, and how much
  depends on who else uses the machine. *Three torch tensors, nothing loaded* is what it takes torch to make
  tensors over memory that is there, after the same sleep in the same run.
- Trainers that share cost the daemon more although each batch is written once: they read it into the caches
  of every CPU, from where the next one must be fetched back. And a second of CPU does less when all CPUs work:
  *a trainer's own look* is the same work on the same batches. Their own part, to make objects of each batch, cannot
  be shared at all, and is a third of what a batch costs here. Four trainers in C that only take batches use 1.2 of
  the CPU of one where blocks are decoded, 1.4 from the cache, the daemon's and their own together
  ([benchmarks.md](benchmarks.md), *CPU of all*). Why 1.3 is not to be had from Python where everything is in the
  cache, and what is asked instead: [decisions.md](decisions.md), *What sharing may cost*.
- catid_dataloader has rows of int32 tokens, no mask and nowhere for labels. Here each label is written before
  its sequence's tokens, `context_size` and `min_data_length` are such that a row holds one sequence, and int64
  tokens, mask and labels are made of its rows in numpy. *Packed rows* is what it is made for: 64 rows of 2048,
  full of sequences with a padding token between them, so 8 times the tokens a batch; its labels are left out and
  its mask has gaps. It reads past the page cache (O_DIRECT), where all others find their files.
- MosaicML's two trainers of W2 wait for each other at the start: jobs that start at the same moment would choose
  the same name for their shared memory.
{missing}"""


def page(found, settings):
    versions = ", ".join(f"{name} {number}" for name, number in found.facts["versions"].items())
    missing = "".join(f"- {name}: left out, {', '.join(modules)} is not there.\n"
                      for name, modules in found.facts["missing"].items() if modules)
    loop = statistics.median([run.get("loop_us", 0) for runs in found.kept.values() for run in runs] or [0])
    load = found.machine["load"]
    busy = "The machine was busy with other work: take orders and CPU times from this run, no speeds.\n"
    return PAGE.format(
        **found.machine, **TITLES, loop=loop, busy=busy if load > 0.5 * found.machine["cpus"] else "",
        minutes=found.minutes, python=found.facts["python"], versions=versions,
        tokens=found.corpus["tokens"], sequences=found.corpus["sequences"], **settings,
        goals=goal_table(found), one=one_trainer(found), hand_over=several(found, "W0"),
        buckets=several(found, "W4"), two=several(found, "W2"), ranks=several(found, "W3"),
        four=sharing(found), better=better(found), missing=missing)


# --- the picture ---------------------------------------------------------------------------------

LEFT, WIDTH, ROW = 330, 520, 22
COLOURS = {"W1": "#1b4f8a", "W2": "#b4462f", "W3": "#d39a2c", "W4": "#3f8f5b"}


def draw(found):
    """One line a loader, one dot a task, on a scale of powers of ten."""
    names = found.loaders("W1") + [name for name in found.loaders("W2")
                                   if ("W1", name) not in found.kept]
    most = max((found.of(task, name, "speed") for task in COLOURS for name in found.loaders(task)), default=1)
    top, low = math.log10(most * 1.2), 5.0
    across = lambda speed: LEFT + WIDTH * max(0, math.log10(speed) - low) / (top - low)
    height = ROW * (len(names) + 3)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" height="{height}" '
             'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for power in range(5, int(top) + 1):
        x = across(10 ** power)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="28" y2="{height - ROW}" stroke="#ccc"/>'
                     f'<text x="{x:.1f}" y="{height - 7}" text-anchor="middle">{10 ** power / 1e6:g} M</text>')
    for number, (task, colour) in enumerate(COLOURS.items()):
        x = LEFT + 60 * number
        parts.append(f'<circle cx="{x}" cy="14" r="4.5" fill="{colour}"/>'
                     f'<text x="{x + 9}" y="18">{task}</text>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="18" text-anchor="end">real tokens per second</text>')
    for number, name in enumerate(names):
        y = ROW * number + 42
        weight = ' font-weight="bold"' if name.startswith("seqfeed") else ""
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end"{weight}>{html.escape(name)}</text>'
                     f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#eee"/>')
        for task, colour in COLOURS.items():
            speed = found.of(task, name, "speed")
            if speed:
                parts.append(f'<circle cx="{across(speed):.1f}" cy="{y}" r="4.5" fill="{colour}" '
                             'fill-opacity="0.85"/>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def tell(found, markdown, plot, settings):
    """Write what was asked for; 1 where a loader failed that should not, or gave wrong sums."""
    kept = Found(found)
    print(one_trainer(kept) if kept.loaders("W1") else "")
    for task in ("W0", "W2", "W3", "W4"):
        if kept.loaders(task):
            print(f"{TITLES[task]}\n\n{several(kept, task)}")
    if kept.loaders("share"):
        print(f"Four trainers that share\n\n{sharing(kept)}")
    print(goal_table(kept))
    if markdown:
        markdown.write_text(page(kept, settings))
    if plot:
        plot.write_text(draw(kept))
    bad = [run for run in found["runs"] if run["loader"].startswith("seqfeed")
           and not run.get("right", "failed" not in run)]
    for run in bad:
        print(f"{run['task']}, {run['loader']}: {run.get('failed', 'wrong sums')}", file=sys.stderr)
    return 1 if bad else 0
