#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One Python trainer, fed by seqfeed and by what people write themselves; same data, same work, one run.

compare.py --build DIR [--tokens N] [--rounds N] [--seconds S] [--json FILE]

Every loader makes batches of 64 shuffled sequences, int64 tokens padded to the longest, a bool mask and
labels; the trainer sums mask and labels and the first token of each row. The peers read zstd blocks of
64 Ki tokens with a shuffle window of 64 blocks. Rounds are interleaved, because machines wander. CPU
time is that of all processes, the daemon's included. Each loader runs in a process of its own:
compare.py --one NAME --data DIR."""
import argparse
import json
import os
import pathlib
import platform
import random
import resource
import statistics
import subprocess
import sys
import time

import numpy

BATCH, BLOCK, WINDOW = 64, 1 << 16, 64


# --- the peers' data -----------------------------------------------------------------------------

def write_blocks(dataset, path):
    """The same sequences as plain zstd frames: counts, lengths, labels, tokens."""
    import seqfeed
    import zstandard
    compressor = zstandard.ZstdCompressor(level=9)
    path.mkdir(exist_ok=True)
    held, tokens, number = [], 0, 0

    def flush():
        nonlocal held, tokens, number
        lengths = numpy.array([len(row["tokens"]) for row in held], numpy.uint32)
        labels = numpy.array([row["label"] for row in held], numpy.int64)
        values = numpy.concatenate([row["tokens"] for row in held]).astype(numpy.uint16)
        raw = numpy.uint32(len(held)).tobytes() + lengths.tobytes() + labels.tobytes() + values.tobytes()
        (path / f"{number:06}.zst").write_bytes(compressor.compress(raw))
        held, tokens, number = [], 0, number + 1

    for row in seqfeed.Dataset(dataset):
        held.append(row)
        tokens += len(row["tokens"])
        if tokens >= BLOCK:
            flush()
    if held:
        flush()


def read_block(decompressor, path):
    raw = decompressor.decompress(path.read_bytes())
    count = int(numpy.frombuffer(raw, numpy.uint32, 1)[0])
    lengths = numpy.frombuffer(raw, numpy.uint32, count, 4)
    labels = numpy.frombuffer(raw, numpy.int64, count, 4 + 4 * count)
    values = numpy.frombuffer(raw, numpy.uint16, -1, 4 + 12 * count)
    return list(zip(numpy.split(values, numpy.cumsum(lengths[:-1])), labels.tolist()))


def windows(path, seed, part=0, parts=1):
    """Lists of 64 shuffled (tokens, label); a worker takes each `parts`-th block."""
    import zstandard
    decompressor = zstandard.ZstdDecompressor()
    names = sorted(path.glob("*.zst"))
    draw = random.Random(seed)
    draw.shuffle(names)
    names = names[part::parts]
    rest, size = [], max(1, WINDOW // parts)
    for first in range(0, len(names), size):
        rows = rest
        for name in names[first:first + size]:
            rows += read_block(decompressor, name)
        draw.shuffle(rows)
        whole = len(rows) // BATCH * BATCH
        for at in range(0, whole, BATCH):
            yield rows[at:at + BATCH]
        rest = rows[whole:]
    if rest:
        yield rest


def padded(rows):
    """The fastest that numpy alone does: one flat scatter through the mask."""
    lengths = numpy.array([len(tokens) for tokens, _ in rows])
    mask = numpy.arange(lengths.max()) < lengths[:, None]
    tokens = numpy.zeros(mask.shape, numpy.int64)
    tokens[mask] = numpy.concatenate([tokens for tokens, _ in rows])
    return tokens, mask, numpy.array([label for _, label in rows])


# --- the loaders: name -> batches of one epoch ---------------------------------------------------

def by_hand(data, epoch):
    for rows in windows(data / "blocks", epoch):
        yield padded(rows)


def torch_loader(workers):
    def batches(data, epoch):
        import torch
        from torch.utils.data import DataLoader, IterableDataset, get_worker_info
        torch.set_num_threads(1)

        class Rows(IterableDataset):
            def __iter__(self):
                info = get_worker_info()
                part, parts = (info.id, info.num_workers) if info else (0, 1)
                for rows in windows(data / "blocks", epoch, part, parts):
                    pieces = [torch.from_numpy(tokens.astype(numpy.int64)) for tokens, _ in rows]
                    lengths = torch.tensor([len(piece) for piece in pieces])
                    tokens = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
                    mask = torch.arange(tokens.shape[1])[None, :] < lengths[:, None]
                    yield tokens, mask, torch.tensor([label for _, label in rows])

        more = {"prefetch_factor": 4} if workers else {}
        yield from DataLoader(Rows(), batch_size=None, num_workers=workers, **more)
    return batches


class Seqfeed:
    """Kept over the epochs, as a trainer would."""

    def __init__(self, how):
        self.how, self.feed, self.daemon = how, None, None

    def start(self, data):
        import seqfeed
        feeds = {"train": {"dataset": data / "seqfeed", "batch": {"size": BATCH}}}
        self.daemon = seqfeed.Daemon({"feeds": feeds})
        if self.how == "numpy":
            self.feed = seqfeed.attach("train", socket=self.daemon.socket)
        else:
            import seqfeed.torch
            import torch
            torch.set_num_threads(1)
            self.feed = seqfeed.torch.Loader("train", socket=self.daemon.socket,
                                             zero_copy=self.how == "zero_copy")

    def __call__(self, data, epoch):
        if self.feed is None:
            self.start(data)
        for batch in self.feed:
            if self.how == "numpy":
                yield tuple(batch[name].numpy() for name in ("tokens", "mask", "labels"))
            else:
                yield batch["tokens"], batch["mask"], batch["labels"]
            del batch

    def stop(self):
        self.feed.close()
        self.daemon.stop()


LOADERS = {"seqfeed, numpy views": lambda: Seqfeed("numpy"),
           "seqfeed.torch, zero_copy": lambda: Seqfeed("zero_copy"),
           "seqfeed.torch": lambda: Seqfeed("copy"),
           "numpy + zstandard by hand": lambda: by_hand,
           "torch DataLoader, in process": lambda: torch_loader(0),
           "torch DataLoader, 1 worker": lambda: torch_loader(1),
           "torch DataLoader, 2 workers": lambda: torch_loader(2)}


# --- measuring -----------------------------------------------------------------------------------

def cpu_seconds():
    return sum(used.ru_utime + used.ru_stime for used in
               map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def run_one(name, data, seconds):
    loader = LOADERS[name]()
    if "torch" in name:
        import torch  # noqa: F401  its import is nobody's fault
    cpu, begun = cpu_seconds(), time.perf_counter()
    tokens = check = epochs = 0
    while time.perf_counter() - begun < seconds:
        for batch, mask, labels in loader(data, epochs):
            tokens += int(mask.sum())
            check += int(labels.sum()) + int(batch[:, 0].sum())
            del batch, mask, labels
        epochs += 1
    taken = time.perf_counter() - begun
    if isinstance(loader, Seqfeed):
        loader.stop()  # so that its CPU time is counted
    return {"tokens_per_second": tokens / taken, "cpu_per_million": (cpu_seconds() - cpu) / tokens * 1e6,
            "epochs": epochs, "tokens": tokens // epochs, "check": check / epochs}


def run_all(arguments, data):
    found = {name: [] for name in LOADERS}
    for _ in range(arguments.rounds):
        for name in LOADERS:
            ran = subprocess.run([sys.executable, __file__, "--one", name, "--data", str(data),
                                  "--seconds", str(arguments.seconds), "--build", arguments.build],
                                 capture_output=True, text=True, check=False)
            if ran.returncode:
                print(f"{name}: left out: {ran.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found[name].append(json.loads(ran.stdout))
    return {name: runs for name, runs in found.items() if runs}


def report(found):
    if len({(run["tokens"], run["check"]) for runs in found.values() for run in runs}) != 1:
        print("the loaders did not deliver the same sequences", file=sys.stderr)
        return 1
    speed = {name: statistics.median(run["tokens_per_second"] for run in runs)
             for name, runs in found.items()}
    best = next(iter(speed.values()))
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, Python "
          f"{platform.python_version()}, {time.strftime('%Y-%m-%d')}\n")
    print("| loader | M real tokens/s | slower than the first | CPU s per M tokens |\n|---|---|---|---|")
    for name, runs in found.items():
        cpu = statistics.median(run["cpu_per_million"] for run in runs)
        print(f"| {name} | {speed[name] / 1e6:.1f} | {best / speed[name]:.1f} x | {cpu:.4f} |")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--data", default=".cache/bench-peers")
    parser.add_argument("--json")
    parser.add_argument("--one", choices=LOADERS)
    arguments = parser.parse_args()
    build = pathlib.Path(arguments.build).resolve()
    sys.path.insert(0, str(build / "bindings" / "python"))
    data = pathlib.Path(arguments.data).resolve()
    if arguments.one:
        print(json.dumps(run_one(arguments.one, data, arguments.seconds)))
        return 0
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "seqfeed" / "dataset.json").exists():
        subprocess.run([build / "bench/make_data", data / "seqfeed", str(arguments.tokens)], check=True)
    if not (data / "blocks").exists():
        write_blocks(data / "seqfeed", data / "blocks")
    found = run_all(arguments, data)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(found, indent=1))
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
