# SPDX-License-Identifier: MIT
"""./dev bench: the daemon against a single-threaded C loop on the same data in the same run.

Every speed is measured in interleaved pairs (loop, daemon, loop, daemon, ...) and told as the median of
the pairs' ratios with their range, because machines wander within minutes. Results go to a table on
standard output, to JSON (--json FILE), to a picture (--plot FILE.svg) and into a document (--markdown FILE)."""
import argparse
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time

import harness
import plot


POLICIES = {"fixed": {"batch": "size: 64"}, "bucket": {"batch": "policy: bucket, size: 64"},
            "tokens": {"batch": "policy: tokens, tokens: 65536"},
            "pack": {"batch": "policy: pack, size: 8, length: 2048", "more": harness.SEGMENTS}}


class Bench:
    def __init__(self, arguments):
        self.build = pathlib.Path(arguments.build).resolve()
        self.data = pathlib.Path(arguments.data).resolve()
        self.pairs = arguments.pairs
        self.rows, self.skipped, self.seconds = [], [], {}
        self.data.mkdir(parents=True, exist_ok=True)

    def add(self, name, what, value, ratio=None, note=""):
        self.rows.append({"name": name, "what": what, "value": value, "ratio": ratio, "note": note})
        print(line(self.rows[-1]), flush=True)

    def skip(self, name, reason):
        self.skipped.append(f"{name}: {reason}")
        print(f"{name:<46} SKIPPED: {reason}", flush=True)

    def dataset(self, kind):
        sizes = {"small": (20_000_000,), "large": (200_000_000,), "even": (20_000_000, "--sigma", 0),
                 "short": (110_000_000, "--median", 8)}
        path = harness.make_data(self.build, self.data, kind, *sizes[kind])
        harness.warm(path)
        return path

    def pair(self, dataset, ceiling, epochs=10, copies=1, each=lambda i: (), **settings):
        """One loop, one daemon: ratio of speeds, and of CPU seconds for each token delivered."""
        loop = harness.ceiling(self.build, dataset, epochs=epochs, **ceiling)
        count = loop["batches"] // (copies if any("--world" in each(i) for i in range(copies)) else 1)
        with harness.Daemon(self.build, dataset, **settings) as daemon:
            results, cpu = daemon.consume(self.build, count, copies=copies, each=each)
        tokens = max(result["tokens"] for result in results)
        if "--world" in each(0):
            tokens = sum(result["tokens"] for result in results)
        seconds = max(result["seconds"] for result in results)
        return {"speed": tokens / seconds, "loop": loop["tokens_per_second"],
                "cpu": cpu / tokens * 1e6, "loop_cpu": loop["cpu_seconds"] / loop["tokens"] * 1e6,
                "peak": daemon.peak_kib}

    def tell(self, name, found):
        self.add(name, "tokens/s", harness.spread([pair["speed"] for pair in found]),
                 harness.spread([pair["speed"] / pair["loop"] for pair in found]))
        self.add(name, "CPU s per M tokens", harness.spread([pair["cpu"] for pair in found]),
                 harness.spread([pair["cpu"] / pair["loop_cpu"] for pair in found]))

    def pairs_of(self, name, dataset, ceiling=None, **settings):
        found = [self.pair(dataset, ceiling or {}, **settings) for _ in range(self.pairs)]
        self.tell(name, found)
        return found

    def throughput(self):
        small = self.dataset("small")
        for threads in (1, 2):
            self.pairs_of(f"int64, {threads} worker{'s' * (threads > 1)}", small, threads=threads)
        self.pairs_of("int32, 1 worker", small, {"dtype": "int32"}, dtype="int32")
        self.pairs_of("even lengths, int64, 1 worker", self.dataset("even"))
        found = self.pairs_of("cache auto, int64, 1 worker", small, cache="auto")
        self.add("cache auto", "peak memory", {"median": max(pair["peak"] for pair in found) * 1024})

    def text(self):
        text = harness.make_text(self.build, self.data)
        if not text:
            self.skip("text", "this machine has less than 2 MB of text in /usr/share and /usr/lib/python3")
            return
        harness.warm(text)
        for dtype in ("int64", "uint8"):
            self.pairs_of(f"text, {dtype}, 1 worker", text, {"dtype": dtype}, dtype=dtype)

    def fan_out(self):
        small = self.dataset("small")
        found = {1: [], 2: [], 4: []}
        for _ in range(self.pairs):
            for members, pairs in found.items():
                options = ("--group", "bench", "--members", members) if members > 1 else ()
                pairs.append(self.pair(small, {"readers": members}, copies=members, each=lambda i: options))
        for members, pairs in found.items():
            self.tell(f"{members} member{'s' * (members > 1)}", pairs)
        for members in (2, 4):
            self.add(f"{members} members", "daemon CPU over 1 member's", harness.spread(
                [more["cpu"] / one["cpu"] for more, one in zip(found[members], found[1])]))

    def sharing(self, batches=20000):
        """What members add, with the trainers' own part: where they only take batches, all CPU that is used is
        the loader's. With the cache a batch costs least, since blocks are decoded once."""
        small = self.dataset("small")
        for cache, touch in (("auto", 1), ("auto", 0), (0, 0)):
            what = f"cache {cache}" + ", not looked at" * (not touch)
            ratios = {members: ([], []) for members in (2, 4)}
            for _ in range(self.pairs):
                used = {members: self.shared(small, batches, members, touch, cache) for members in (1, 2, 4)}
                for members, (daemon, all_of_it) in ratios.items():
                    daemon.append(used[members][0] / used[1][0])
                    all_of_it.append(sum(used[members]) / sum(used[1]))
            for members, (daemon, all_of_it) in ratios.items():
                self.add(f"{members} members, {what}", "daemon CPU over 1 member's", harness.spread(daemon))
                if not touch:
                    self.add(f"{members} members, {what}", "CPU of all over 1 member's", harness.spread(all_of_it))

    def shared(self, dataset, batches, members, touch, cache):
        """CPU seconds of the daemon, and of all its trainers."""
        options = ("--group", "bench", "--members", members) if members > 1 else ()
        with harness.Daemon(self.build, dataset, cache=cache, threads="auto") as daemon:
            epoch = daemon.plan(self.build)["batches_per_epoch"]
            daemon.consume(self.build, epoch, "--touch", 0)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = daemon.consume(self.build, batches, "--touch", touch, copies=members, each=lambda i: options)[1]
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cpu, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def ranks(self):
        """Of the large dataset, whose last round that repeats a batch (tail: repeat) weighs little."""
        each = lambda i: ("--group", "bench", "--rank", i, "--world", 2, "--local-ranks", 2)
        for slots in (8, 4):
            self.pairs_of(f"2 ranks of one node, {slots} slots each", self.dataset("large"), {}, epochs=1, copies=2,
                          each=each, slots=slots)

    def policies(self, epochs=3):
        """Each policy beside `fixed`, in turns: speed and CPU for each real token, counting included."""
        small = self.dataset("small")
        found = {policy: [] for policy in POLICIES}
        for _ in range(self.pairs):
            for policy, settings in POLICIES.items():
                with harness.Daemon(self.build, small, **settings) as daemon:
                    plan = daemon.plan(self.build)
                    results, cpu = daemon.consume(self.build, epochs * plan["batches_per_epoch"])
                tokens = results[0]["tokens"]
                found[policy].append((tokens / results[0]["seconds"], cpu / tokens * 1e6, plan["padding_share"]))
        for policy, runs in found.items():
            for column, what in enumerate(("tokens/s", "CPU s per M tokens")):
                own, fixed = ([run[column] for run in found[name]] for name in (policy, "fixed"))
                self.add(f"policy {policy}, beside fixed", what, harness.spread(own),
                         harness.spread([a / b for a, b in zip(own, fixed)]))
            self.add(f"policy {policy}", "padding, %", {"median": 100 * runs[0][2]})

    def second_epoch(self):
        small = self.dataset("small")
        ratios = []
        for _ in range(self.pairs):
            with harness.Daemon(self.build, small, cache="auto") as daemon:
                epoch = harness.ceiling(self.build, small, epochs=1)["batches"]
                first = daemon.consume(self.build, epoch)[0][0]
                again = daemon.consume(self.build, epoch)[0][0]
            ratios.append(again["tokens_per_second"] / first["tokens_per_second"])
        self.add("second epoch, cache auto", "speed over the first's", harness.spread(ratios))

    def waits(self):
        with harness.Daemon(self.build, self.dataset("small")) as daemon:
            result = daemon.consume(self.build, 4000, "--sleep-us", 5000)[0][0]
        for key in ("p50", "p99", "max"):
            self.add("5 ms trainer, 4000 batches", f"wait in next, {key}, us", {"median": result[f"wait_{key}_us"]})

    def start(self):
        large = self.dataset("large")
        times = []
        for _ in range(self.pairs):
            with harness.Daemon(self.build, large, threads="auto") as daemon:
                result = daemon.consume(self.build, 1)[0][0]
                times.append((result["first_ns"] - daemon.started_ns) / 1e6)
        self.add("exec to first batch, 200 M tokens, window 64", "ms", harness.spread(times))

    def resume(self):
        """From exec of a daemon that knows nothing yet, and how much of a processor that takes: it counts
        the epoch, plans a window and decodes it; the next epoch is counted ahead meanwhile."""
        short = self.dataset("short")
        for policy, settings in POLICIES.items():
            with harness.Daemon(self.build, short, **settings) as daemon:
                cursor = daemon.last_cursor(self.build)
            times, used = [], []
            for _ in range(self.pairs):
                with harness.Daemon(self.build, short, **settings) as daemon:
                    result = daemon.consume(self.build, 1, "--cursor", cursor)[0][0]
                    used.append(daemon.cpu_seconds() * 1e3)
                    times.append((result["first_ns"] - daemon.started_ns) / 1e6)
            name = f"exec to the last batch of 10 M sequences, {policy}"
            self.add(name, "ms", harness.spread(times))
            self.add(name, "CPU, ms", harness.spread(used))

    def idle(self):
        with harness.Daemon(self.build, self.dataset("small")) as daemon:
            self.add("no trainer, 10 s", "CPU, %", {"median": used_over(daemon, 10) * 10})
            consumer = daemon.consumer(self.build, 1_000_000, "--sleep-us", 900_000)
            time.sleep(2)
            self.add("rings full, a step a second, 10 s", "CPU, %", {"median": used_over(daemon, 10) * 10})
            consumer.kill()
            consumer.wait()

    def cold(self):
        large = self.dataset("large")
        ratios = []
        for _ in range(max(3, self.pairs // 3)):
            speeds = []
            for prepare in (harness.warm, harness.cool):
                prepare(large)
                with harness.Daemon(self.build, large) as daemon:
                    speeds.append(daemon.consume(self.build, 6000)[0][0]["tokens_per_second"])
            ratios.append(speeds[1] / speeds[0])
        self.add("cold page cache", "speed over warm", harness.spread(ratios))

    def blocks(self):
        small = self.dataset("small")
        with harness.Daemon(self.build, small) as daemon:
            epoch = harness.ceiling(self.build, small, epochs=1)["batches"]
            daemon.consume(self.build, epoch)
            status = daemon.status(self.build)
        self.add("one epoch", "blocks read", {"median": status["read"]["blocks"]})


def used_over(daemon, seconds):
    before = daemon.cpu_seconds()
    time.sleep(seconds)
    return daemon.cpu_seconds() - before


def human(value, what):
    if what == "tokens/s":
        return f"{value / 1e6:.0f} M"
    if what == "peak memory":
        return f"{value / (1 << 20):.0f} MiB"
    if "CPU s" in what:
        return f"{value:.4f}"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def cells(row):
    value, ratio = row["value"], row["ratio"]
    text = human(value["median"], row["what"])
    if "min" in value:
        text += f" ({human(value['min'], row['what'])} .. {human(value['max'], row['what'])})"
    against = f"{ratio['median']:.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})" if ratio else ""
    return row["name"], row["what"], text, against


def line(row):
    return "{:<46} {:<26} {:<34} {}".format(*cells(row))


BEGIN, END = "<!-- measured: what stands up to the closing mark is written by ./dev bench --markdown -->", "<!-- /measured -->"


def markdown(bench, about):
    """The machine, the table, what was left out."""
    rows = ["| Measurement | What | Median (range) | Ratio to the loop |", "|---|---|---|---|"]
    rows += ["| " + " | ".join(cells(row)) + " |" for row in bench.rows]
    skipped = [f"Left out: {reason}." for reason in bench.skipped]
    return "\n".join([
        BEGIN, "",
        f"Measured {about['date']} at commit {about['commit']}, in {about['minutes']:.0f} minutes: {about['cpu']}, "
        f"{about['cpus']} CPUs,", f"kernel {about['kernel']}, zstd {about['zstd']}, {about['compiler']}; "
        f"{bench.pairs} interleaved pairs.", "", *rows, "", *skipped, *([""] if skipped else []), END])


def write_markdown(path, text):
    """Between the marks, where the file has them; else a new file."""
    old = path.read_text() if path.exists() else ""
    if BEGIN in old and END in old:
        text = old[:old.index(BEGIN)] + text + old[old.index(END) + len(END):]
    else:
        text += "\n"
    path.write_text(text)


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "?")
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(), "date": time.strftime("%Y-%m-%d"),
            "compiler": subprocess.run(["cc", "--version"], capture_output=True, text=True).stdout.split("\n")[0],
            "zstd": subprocess.run(["pkg-config", "--modversion", "libzstd"], capture_output=True, text=True).stdout.strip(),
            "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()}


PARTS = ["throughput", "text", "policies", "fan_out", "sharing", "ranks", "second_epoch", "waits", "start", "resume", "idle",
         "cold", "blocks"]


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", help=f"which measurements: {', '.join(PARTS)} (default: all); masks: the fill kernels alone; gpu: the CUDA backend alone")
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--data", default="build/bench-data", help="where the datasets are kept (about 400 MB)")
    parser.add_argument("--pairs", type=int, default=9, help="interleaved pairs of each measurement")
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios as SVG")
    parser.add_argument("--markdown", metavar="FILE", type=pathlib.Path,
                        help="write the table there, in place of an older one (docs/benchmarks.md)")
    arguments = parser.parse_args()
    alone = {"masks": "bench/masks", "gpu": "bench/gpu_masks"}
    if len(arguments.parts) == 1 and arguments.parts[0] in alone:
        program = alone[arguments.parts[0]]
        if subprocess.run(["ninja", "-C", arguments.build, program], check=False, stdout=sys.stderr).returncode:
            sys.exit(f"{program} does not build" + (", or meson found no CUDA (docs/gpu.md)" if "gpu" in program else ""))
        return subprocess.run([pathlib.Path(arguments.build) / program], check=False).returncode
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"no measurement is called {part}: {', '.join(PARTS)}")
    subprocess.run(["ninja", "-C", arguments.build, "seqfeed", "seqfeedd", "bench/make_data", "bench/ceiling",
                    "bench/consumer"], check=True, stdout=sys.stderr)
    bench = Bench(arguments)
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'':<46} {'':<26} {'median (range)':<34} ratio to the loop")
    begun = time.monotonic()
    for part in arguments.parts or PARTS:
        before = time.monotonic()
        getattr(bench, part)()
        bench.seconds[part] = round(time.monotonic() - before, 1)
    about["minutes"] = (time.monotonic() - begun) / 60
    print(f"{about['minutes']:.1f} minutes: " + ", ".join(f"{part} {took:.0f} s" for part, took in bench.seconds.items()))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({
            "machine": about, "pairs": bench.pairs, "seconds": bench.seconds, "skipped": bench.skipped,
            "rows": bench.rows}, indent=1))
    if arguments.plot:
        plot.draw([row for row in bench.rows if row["ratio"]], arguments.plot)
    if arguments.markdown:
        write_markdown(arguments.markdown, markdown(bench, about))


if __name__ == "__main__":
    sys.exit(main())
