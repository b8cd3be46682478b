#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqfeed beside other loaders: the same data, the same work, one run.

    compare.py --install VENV                     # once: the peers and seqfeed, from requirements.txt
    compare.py --venv VENV --data DIR --all --json FILE --markdown FILE.md --plot FILE.svg

Runs on any Python 3.11; loaders run in the interpreter of VENV, each trainer in a process of its own.
Without --venv this interpreter serves, and what it lacks is left out by name. docs/python-benchmarks.md,
which --markdown writes, says what the tasks are and how they are measured."""
import argparse
import dataclasses
import json
import os
import pathlib
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT_S = 240     # of one run
SAMPLE_S = 0.1    # of memory
BESIDE = report.BESIDE  # not asked for: W1 once more right before each run of four trainers, which it is compared with
# Task -> trainers, world, and what the job says beside.
# In the order in which they are run.
TASKS = {"check": (1, 1, {"check": True, "epochs": 1}), "W1": (1, 1, {}), "W0": (1, 1, {"touch": False}),
         "W5": (1, 1, {"step_ms": 5}), "share": (4, 1, {}), "W2": (2, 1, {}), "W3": (2, 2, {}),
         "W4": (1, 1, {"bucket": True}), BESIDE: (1, 1, {})}


class Failed(Exception):
    """A run that did not end well, in one line."""


class Process:
    """trainer.py in its own session; what it prints is read by a thread, so that waiting has a limit."""

    def __init__(self, python, job, environment):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [python, HERE / "trainer.py", json.dumps(job)], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=self.errors, env=environment, start_new_session=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for text in self.process.stdout:
            self.lines.put(text)
        self.lines.put(None)

    def line(self, limit_s):
        try:
            text = self.lines.get(timeout=limit_s)
        except queue.Empty:
            raise Failed(f"nothing within {limit_s} s") from None
        if text is not None:
            return text
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        raise Failed(said[-1][:200] if said else "it ended without a word")

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def memory(self):
        """Bytes of it and of all that it has started; shared pages are shared out."""
        return sum(map(_pss, family(self.process.pid)))

    def end(self):
        for pid in reversed(family(self.process.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.process.wait()
        self.process.stdin.close()
        self.errors.close()


def family(root):
    """The process and what it has started, in whatever session."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, seen = [root], 0
    while seen < len(found):
        found += children.get(found[seen], [])
        seen += 1
    return found


def _pss(pid):
    try:
        for text in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if text.startswith("Pss:"):
                return int(text.split()[1]) * 1024
    except OSError:
        pass
    return 0


@dataclasses.dataclass
class Comparison:
    python: str
    data: pathlib.Path
    consumer: str
    seconds: float
    steps: int
    facts: dict
    expected: dict
    until: float = float("inf")  # of time.monotonic()
    runs: list = dataclasses.field(default_factory=list)
    speed: dict = dataclasses.field(default_factory=dict)  # tokens/s of a loader, as far as known

    # --- one run ---

    def jobs(self, name, task, scratch):
        trainers, world, more = TASKS[task]
        known = self.facts["loaders"][name]
        job = {"loader": name, "data": str(self.data), "scratch": str(scratch), "trainers": trainers,
               "world": world, "workers": known["workers"], "consumer": self.consumer} | more
        if trainers > 1:
            wanted = self.speed.get(name, 1e6) * self.seconds * world
            job["epochs"] = max(1, int(wanted / self.expected["tokens"]))
        elif task == "W5":
            job["batches"] = self.steps
        elif not more.get("epochs"):
            job["seconds"] = self.seconds
        alone = trainers == 1 and name != "TensorSocket"
        if known["server"] and not alone:
            job["server"] = str(scratch / "server")
        made = [job | {"number": number, "rank": number if world > 1 else 0}
                for number in range(trainers)]
        return made + ([job | {"role": "server"}] if "server" in job else [])

    @staticmethod
    def environment(job, port):
        # LitData reads GLOBAL_RANK where torch.distributed does not run, the others read RANK.
        rank, world = job.get("rank", 0), job["world"]
        local = {"RANK": rank, "GLOBAL_RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world,
                 "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                 "OMP_NUM_THREADS": 1, "HF_HUB_OFFLINE": 1, "HF_DATASETS_OFFLINE": 1, "PYTHONWARNINGS": "ignore",
                 "HF_DATASETS_DISABLE_PROGRESS_BARS": 1, "HF_HOME": job["scratch"], "TMPDIR": job["scratch"]}
        return os.environ | {name: str(value) for name, value in local.items()}

    def run(self, name, task):
        """What a run measured, with its trainers taken together."""
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="compare-"))
        processes = []
        try:
            port = 20000 + os.getpid() % 20000
            jobs = self.jobs(name, task, scratch)
            for job in jobs:
                processes.append(Process(self.python, job, self.environment(job, port)))
            for process in processes:
                process.line(LIMIT_S)
            for process in reversed(processes):
                process.go()
            peak = self.watch(processes) if task == "check" else 0
            count = TASKS[task][0]
            told = [json.loads(process.line(LIMIT_S)) for process in processes[:count]]
            servers = []
            for process in processes[count:]:
                process.go()
                servers.append(json.loads(process.line(LIMIT_S)))
            return self.together(name, task, told, servers, peak)
        finally:
            for process in processes:
                process.end()
            shutil.rmtree(scratch, ignore_errors=True)

    @staticmethod
    def watch(processes):
        """The most memory until the first has told its result."""
        peak, until = 0, time.monotonic() + LIMIT_S
        while processes[0].lines.empty() and time.monotonic() < until:
            peak = max(peak, sum(process.memory() for process in processes))
            time.sleep(SAMPLE_S)
        return peak

    def together(self, name, task, told, servers, peak):
        trainers, world, more = TASKS[task]
        epochs = max(one["epochs"] for one in told)
        tokens = sum(one["sums"]["tokens"] for one in told)
        if not more.get("touch", True):
            tokens = epochs * self.expected["tokens"]
        run = {"loader": name, "task": task, "epochs": epochs, "tokens": tokens, "peak": peak,
               "seconds": max(one["begun"] + one["seconds"] for one in told) - min(one["begun"] for one in told),
               "batches": sum(one["batches"] for one in told),
               "first_ms": max(one["first_ms"] for one in told),
               "wait_p50_us": max(one["wait_p50_us"] for one in told),
               "wait_p99_us": max(one["wait_p99_us"] for one in told),
               "cpu": sum(one["cpu"] for one in told + servers),
               "own_cpu": sum(one["own_cpu"] for one in told),
               "loop_us": max(one.get("loop_us", 0) for one in told),
               "trainer_cpu": sum(one["self_cpu"] for one in told),
               "cells": sum(one["sums"]["cells"] for one in told)}
        run["speed"] = tokens / run["seconds"]
        if more.get("touch", True) and task != "W5":
            wanted = self.expected["tokens"] * epochs * trainers // world
            run["missing"] = wanted - tokens
            run["right"] = run["missing"] == 0 and all(
                sum(one["sums"][key] for one in told) == value * epochs * trainers // world
                for key, value in self.expected.items() if key in told[0]["sums"])
        return run

    # --- all of them ---

    def try_run(self, name, task, number):
        try:
            if time.monotonic() > self.until:
                raise Failed("not run, the time was over")
            run = self.run(name, task)
        except Failed as failure:
            run = {"loader": name, "task": task, "failed": str(failure)}
        self.runs.append(run | {"round": number})
        if "speed" in run and task in ("check", "W1", BESIDE):
            self.speed[name] = run["speed"]
        print(said(run), file=sys.stderr, flush=True)
        return run

    def loaders(self, task):
        return [name for name, known in self.facts["loaders"].items()
                if (task in known["tasks"] or task == "check" and name != report.AT_HAND)
                and not self.facts["missing"][name]]

    def rounds(self, task, count):
        """In turn, since machines wander; several times what the goals are about."""
        goals = report.IN_GOALS if task in ("W0", "W1") else ("seqfeed", report.AT_HAND)
        for number in range(count):
            for name in self.loaders(task):
                if number == 0 or name.startswith(goals):
                    if task == "share" and "W1" in self.facts["loaders"][name]["tasks"]:
                        self.try_run(name, BESIDE, number)
                    self.try_run(name, task, number)


def said(run):
    if "failed" in run:
        return f"{run['task']:6}{run['loader']:48} failed: {run['failed']}"
    wrong = "" if run.get("right", True) else f"  {run['missing']} tokens missing"
    return (f"{run['task']:6}{run['loader']:48}{run['speed'] / 1e6:8.2f} M tokens/s "
            f"{run['cpu'] / run['tokens'] * 1e6:8.4f} CPU s/M, waits {run['wait_p50_us']:.0f} and "
            f"{run['wait_p99_us']:.0f} us{wrong}")


# --- what is there -------------------------------------------------------------------------------

def install(venv):
    """What is there stays; seqfeed is made anew from these sources."""
    if not (venv / "bin/python").exists():  # another Python would spoil it
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin/python", "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
    if subprocess.run([*pip, "-r", HERE / "requirements-built.txt"], check=False).returncode:
        print("catid_dataloader was not built and will be left out; Debian has what it needs in "
              "build-essential and cmake", file=sys.stderr)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", ROOT], check=True)


def find_consumer(build):
    """The program of the C client, built anew where it can be: an old one would be of other sources."""
    program = build / "bench" / "consumer"
    if (build / "build.ninja").exists():
        subprocess.run(["ninja", "-C", build, "bench/consumer"], check=False, capture_output=True)
    return str(program) if program.exists() else ""


def look(python, chosen, consumer):
    told = subprocess.run([python, HERE / "trainer.py"], check=True, capture_output=True, text=True).stdout
    facts = json.loads(told)
    if not consumer:
        for name in (report.CLIENT, report.CLIENT_COPIES):
            facts["missing"][name] = ["bench/consumer"]
    if chosen:
        facts["loaders"] = {name: known for name, known in facts["loaders"].items()
                            if any(word.lower() in name.lower() for word in chosen)}
    for name in facts["loaders"]:
        if facts["missing"][name]:
            print(f"{name}: left out, no {', '.join(facts['missing'][name])}", file=sys.stderr)
    return facts


def prepare(python, data, tokens, facts):
    formats = ["plain"] + sorted({known["format"] for name, known in facts["loaders"].items()
                                  if not facts["missing"][name]} - {"plain"})
    for name in formats:
        subprocess.run([python, HERE / "corpus.py", data, str(tokens), name], check=True,
                       stdout=subprocess.DEVNULL)
    return json.loads((data / "plain" / "sums.json").read_text())


def machine():
    model = next((text.split(":", 1)[1].strip() for text in open("/proc/cpuinfo")
                  if text.startswith("model name")), platform.machine())
    return {"cpu": model, "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
            "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", metavar="VENV", type=pathlib.Path)
    parser.add_argument("--venv", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / ".cache" / "bench-peers")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="for the C client")
    parser.add_argument("--all", action="store_true", help="every task")
    parser.add_argument("--tasks", default="check,W1", help=",".join(task for task in TASKS if task != BESIDE))
    parser.add_argument("--loaders", help="words of their names, with commas; default: all that are there")
    parser.add_argument("--tokens", type=int, default=6_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a run, at least one epoch")
    parser.add_argument("--steps", type=int, default=400, help="batches of W5")
    parser.add_argument("--minutes", type=float, default=60, help="after which no run is begun")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--markdown", type=pathlib.Path)
    parser.add_argument("--plot", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.install:
        install(arguments.install.resolve())
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started ends too
    python = str(arguments.venv.resolve() / "bin/python") if arguments.venv else sys.executable
    tasks = [task for task in TASKS if task != BESIDE] if arguments.all else arguments.tasks.split(",")
    before, begun = machine(), time.monotonic()
    consumer = find_consumer(arguments.build.resolve())
    facts = look(python, arguments.loaders and arguments.loaders.split(","), consumer)
    data = arguments.data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(python, data, consumer, arguments.seconds, arguments.steps, facts,
                            prepare(python, data, arguments.tokens, facts), begun + 60 * arguments.minutes)
    for task in tasks:
        comparison.rounds(task, arguments.rounds if task in ("W0", "W1", "W5", "share") else 1)
    found = {"machine": before, "minutes": (time.monotonic() - begun) / 60, "facts": facts,
             "corpus": comparison.expected, "runs": comparison.runs}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    settings = {name: getattr(arguments, name) for name in ("seconds", "steps", "rounds")}
    return report.tell(found, arguments.markdown, arguments.plot, settings)


if __name__ == "__main__":
    sys.exit(main())
