# SPDX-License-Identifier: MIT
"""One process of a run: a trainer, or the server of several. compare.py starts it.

    trainer.py JOB      JOB is JSON, see class Job
    trainer.py          what is installed: loaders with what they miss, versions

It imports what the loader needs, prints `ready`, waits for a line, builds the loader, trains and
prints one line of JSON. The clock starts before the loader is built and stops after the last batch.
CPU time is that of this process, all that it has started, and all that those have."""
import ctypes
import dataclasses
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import resource
import sys
import time
import typing

import numpy

import by_hand
import corpus
import packages

LOADERS = by_hand.LOADERS | packages.LOADERS
PR_SET_CHILD_SUBREAPER = 36
TICK = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Job:
    loader: str
    data: pathlib.Path
    scratch: pathlib.Path
    role: str = "trainer"     # or server
    number: int = 0           # of this trainer among `trainers`
    trainers: int = 1
    rank: int = 0
    world: int = 1
    workers: int = 0
    bucket: bool = False
    server: typing.Optional[pathlib.Path] = None  # a file that its server writes
    seconds: float = 0        # whole epochs until these have passed
    epochs: int = 0           # or so many
    batches: int = 0          # or so many batches
    step_ms: float = 0        # sleep after each batch
    touch: bool = True        # look into the batches
    check: bool = False       # look at every value
    consumer: str = ""        # the program of the C client

    @classmethod
    def parse(cls, text):
        job = cls(**json.loads(text))
        job.data, job.scratch = pathlib.Path(job.data), pathlib.Path(job.scratch)
        job.server = pathlib.Path(job.server) if job.server else None
        return job


# --- CPU time ------------------------------------------------------------------------------------

def descendants(root):
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = pathlib.Path("/proc", name, "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(name))
    found, seen = [root], 0
    while seen < len(found):
        found += children.get(found[seen], [])
        seen += 1
    return found[1:]


def cpu_seconds():
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    for process in descendants(os.getpid()):
        try:
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / TICK
    return total


# --- what a trainer does with a batch ------------------------------------------------------------

class Sums(dict):
    """Of all batches: what must come out right."""

    def __init__(self, packed):
        super().__init__(tokens=0, labels=0, first=0, cells=0, sequences=0)
        self.packed = packed

    @staticmethod
    def arrays(batch):
        return [value if isinstance(value, numpy.ndarray) else value.numpy() for value in batch]

    def touch(self, batch):
        """The mask, the labels and the first token of each row, in the cheapest way there is, so that
        it is the loaders that differ."""
        tokens, mask, labels = self.arrays(batch)
        self["tokens"] += int(numpy.count_nonzero(mask))
        self["labels"] += int(labels.sum())
        self["first"] += int(tokens[:, 0].sum())
        self["cells"] += mask.size
        self["sequences"] += len(labels)

    def check(self, batch):
        """Every value; sums of products tell whether tokens, lengths and labels belong together."""
        tokens, mask, labels = self.arrays(batch)
        lengths = mask.sum(1)
        assert (tokens.dtype, mask.dtype, labels.dtype) == (numpy.int64, numpy.bool_, numpy.int64)
        assert self.packed or (mask == (numpy.arange(mask.shape[1]) < lengths[:, None])).all(), "no mask of lengths"
        assert not tokens[~mask].any(), "padding is not 0"
        for name, value in (("values", tokens.sum()), ("pairs", (tokens[:, 0] * labels).sum()),
                            ("areas", (lengths * labels).sum())):
            self[name] = self.get(name, 0) + int(value)
        self.touch(batch)


class Run:
    """The loop of a trainer and what it notes meanwhile."""

    def __init__(self, job, loader, begun):
        self.job, self.loader, self.begun = job, loader, begun
        self.sums, self.waits, self.own = Sums(loader.packed), [], 0.0
        self.first, self.epochs = None, 0

    def enough(self):
        job = self.job
        if job.batches and len(self.waits) >= job.batches:
            return True
        if job.epochs and self.epochs >= job.epochs:
            return True
        return bool(job.seconds) and self.epochs > 0 and time.perf_counter() - self.begun >= job.seconds

    def look(self):
        job, sums = self.job, self.sums
        return sums.check if job.check else sums.touch if job.touch else None

    def epoch(self):
        job, waits, look = self.job, self.waits, self.look()
        clock, mine = time.perf_counter, time.thread_time
        iterator = iter(self.loader.batches(self.epochs))
        while not (job.batches and len(waits) >= job.batches):
            before = clock()
            batch = next(iterator, None)
            after = clock()
            if batch is None:
                break
            waits.append(after - before)
            if self.first is None:
                self.first = after
            if look:
                used = mine()
                look(batch)
                self.own += mine() - used
            del batch
            if job.step_ms:
                time.sleep(job.step_ms / 1e3)
        del iterator
        self.epochs += 1

    def result(self, ended):
        # The first batch is start-up, measured by itself.
        waits = sorted(self.waits[1:]) or [0.0]
        return {"seconds": ended - self.begun, "first_ms": ((self.first or ended) - self.begun) * 1e3,
                "batches": len(self.waits), "epochs": self.epochs, "own_cpu": self.own, "sums": self.sums,
                "wait_p50_us": waits[len(waits) // 2] * 1e6,
                "wait_p99_us": waits[len(waits) * 99 // 100] * 1e6}


class Bare(Run):
    """The loop over batches that are there and are not looked at: what it takes itself, with its clocks."""
    BATCHES, packed = 4000, False

    def __init__(self, job):
        super().__init__(dataclasses.replace(job, step_ms=0, batches=0), self, 0)

    def look(self):
        return super().look() and id

    def batches(self, epoch):
        return iter([self] * self.BATCHES)

    @classmethod
    def cost(cls, job):
        """CPU seconds a batch, beside what is noted as the trainer's own."""
        bare, used = cls(job), time.process_time()
        bare.epoch()
        return (time.process_time() - used - bare.own) / cls.BATCHES


def train(job, loader, begun, loop_cost):
    run = Run(job, loader, begun)
    while not run.enough():
        run.epoch()
    ended = time.perf_counter()
    run.own += len(run.waits) * loop_cost
    return run.result(ended) | {"loop_us": loop_cost * 1e6}


def train_in_c(job, loader, begun, _):
    """The same by the program of the C client; perf_counter() and it share a clock."""
    known = corpus.expected(job.data)
    in_epoch = -(-known["sequences"] // by_hand.BATCH)
    epochs = max(1, job.epochs or int(job.seconds * 200e6 / known["tokens"]))
    told = loader.run(job.batches or epochs * in_epoch, job.step_ms, job.touch)
    ended = time.perf_counter()
    sums = {"tokens": told["tokens"], "cells": 0} | ({"labels": told["labels"]} if job.touch else {})
    return {"seconds": ended - begun, "first_ms": (told["first_ns"] / 1e9 - begun) * 1e3, "own_cpu": 0.0,
            "batches": told["batches"], "epochs": 0 if job.batches else epochs, "sums": sums,
            "wait_p50_us": told["wait_p50_us"], "wait_p99_us": told["wait_p99_us"]}


def facts():
    missing = {name: [module for module in entry[0].needs
                      if importlib.util.find_spec(module.split(".")[0]) is None]
               for name, entry in LOADERS.items()}
    modules = {module.split(".")[0] for entry in LOADERS.values() for module in entry[0].needs}
    packages_of = importlib.metadata.packages_distributions()
    names = {name for module in modules | {"numpy", "pyarrow"} for name in packages_of.get(module, [])}
    return {"python": platform.python_version(), "missing": missing,
            "versions": {name: importlib.metadata.version(name) for name in sorted(names)},
            "loaders": {name: {"format": kind.format, "workers": workers, "server": bool(kind.server),
                               "torch": "torch" in kind.needs, "tasks": list(more[0] if more else kind.tasks)}
                        for name, (kind, workers, *more) in LOADERS.items()}}


def main():
    if len(sys.argv) < 2:
        print(json.dumps(facts()))
        return
    job = Job.parse(sys.argv[1])
    # What libraries print is not for whoever reads our lines.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    kind = LOADERS[job.loader][0]
    for name in kind.needs:
        importlib.import_module(name)
    print("ready", file=out, flush=True)
    sys.stdin.readline()
    loop_cost = Bare.cost(job)
    gc.collect()
    used = resource.getrusage(resource.RUSAGE_SELF)
    at_first = used.ru_utime + used.ru_stime
    cpu, begun = cpu_seconds(), time.perf_counter()
    if job.role == "server":
        server = kind.server(job, job.server)
        sys.stdin.readline()
        result = {"cpu": cpu_seconds() - cpu}
        server.stop()
    else:
        loader = kind(job)
        result = (train_in_c if kind.program else train)(job, loader, begun, loop_cost)
        used = resource.getrusage(resource.RUSAGE_SELF)
        result |= {"begun": begun, "cpu": cpu_seconds() - cpu,
                   "self_cpu": used.ru_utime + used.ru_stime - at_first}
        loader.stop()
    print(json.dumps(result), file=out, flush=True)
    out.close()
    os._exit(0)  # some libraries leave threads behind that never end


if __name__ == "__main__":
    main()
