# SPDX-License-Identifier: MIT
"""All that a GPU is needed for, in one go: checks and figures of the CUDA backend as one Markdown page.

Every step is passed, failed, or left out with its reason; where there is no GPU all are left out, and the
page says so. Exit 0 unless one failed. docs/gpu.md says what the steps are about."""
import argparse
import hashlib
import itertools
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

SKIPPED = 77
TOOLS = {"memcheck": 50, "racecheck": 20, "initcheck": 50, "synccheck": 50}  # rounds of test_gpu
TAIL = 60  # lines of output that the page keeps of a check

PADDED = """
    batch: {size: 16, last: pad}
    pad: {multiple_of: 16}
    tensors:
      tokens: {from: tokens, dtype: int64}
      next: {make: labels, shift: next}
      mask: {mask: {all: [lengths, causal]}, shape: dense}
"""
PACKED = """
    batch: {policy: pack, size: 4, length: 256}
    tensors:
      tokens: {from: tokens, dtype: int64}
      segments: {make: segments}
      positions: {make: position_ids}
      next: {make: labels, shift: next}
      sums: {make: cu_seqlens}
      mask: {mask: {all: [segments, causal]}, shape: dense}
      blocks: {make: block_lists, block: 64}
"""


class LeftOut(Exception):
    """Why a step is not done."""


class Failed(Exception):
    """What went wrong, with what was printed."""


def find_program(name):
    """In PATH, or where the toolkit is."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")


def output_of(*command):
    """What a program prints in a line or more; nothing where it is missing or fails."""
    program = find_program(command[0])
    ran = program and subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran and ran.returncode == 0 else ""


def last_lines(text, count=TAIL):
    lines = text.strip().splitlines()
    cut = [f"({len(lines) - count} lines before)"] if len(lines) > count else []
    return "\n".join(cut + lines[-count:])


def end(daemon):
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


class Report:
    def __init__(self, options):
        self.build, self.options = options.build.resolve(), options
        self.steps = []  # title, command, state, seconds, text

    def step(self, title, command, function):
        """Do it, and note how it ended. What it was is told at once: the machine may not wait for the end."""
        begun = time.monotonic()
        try:
            state, text = "passed", function()
        except LeftOut as reason:
            state, text = "left out", str(reason)
        except (Failed, OSError, LookupError, ValueError, subprocess.SubprocessError) as reason:
            state, text = "failed", str(reason)
        self.steps.append((title, command, state, time.monotonic() - begun, text))
        print(f"{state:<8}  {title}" + (f": {text.splitlines()[0]}" if state != "passed" and text else ""),
              flush=True)
        self.write()

    def run(self, *command, keep=TAIL):
        """A program that exits 77 where there is no GPU. What it printed."""
        seconds = self.options.seconds
        if not pathlib.Path(command[0]).exists():
            raise LeftOut(f"{pathlib.Path(command[0]).name} is not built: meson found no CUDA (docs/gpu.md)")
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", start_new_session=True) as program:
            try:
                said, _ = program.communicate(timeout=seconds)
            except BaseException as late:
                os.killpg(program.pid, signal.SIGKILL)  # also what it has started itself
                said, _ = program.communicate()
                if not isinstance(late, subprocess.TimeoutExpired):
                    raise
                raise Failed(f"not done after {seconds} s (--seconds)\n{last_lines(said)}".strip()) from None
        if program.returncode == SKIPPED:
            raise LeftOut(last_lines(said, 1).removeprefix("skipped: "))
        if program.returncode != 0:
            raise Failed(f"exit {program.returncode}\n{last_lines(said)}")
        return last_lines(said, keep)

    # --- the steps

    def need_gpu(self):
        """LeftOut where there is none: test_gpu knows, and why."""
        test = self.build / "tests/cuda/test_gpu"
        self.run(test, 0)
        return test

    def sanitizer(self, name, rounds):
        test, program = self.need_gpu(), find_program("compute-sanitizer")
        if not program:
            raise LeftOut("compute-sanitizer is not installed")
        return self.run(program, "--tool", name, "--error-exitcode", 1, test, rounds)

    def figures(self):
        self.need_gpu()
        made = subprocess.run(["ninja", "-C", str(self.build), "bench/gpu_masks"], capture_output=True, text=True,
                              check=False)
        if made.returncode:
            raise Failed(f"it does not build\n{last_lines(made.stdout)}")
        return self.run(self.build / "bench/gpu_masks", keep=1000)

    def make_dataset(self, folder):
        dice = random.Random(7)
        rows = ({"tokens": [dice.randrange(50000) for _ in range(dice.randint(0, 120))]} for _ in range(4000))
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.must([self.build / "seqfeed", "pack", "-o", folder / "data", folder / "rows.jsonl"])

    @staticmethod
    def must(command):
        ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Failed(f"{pathlib.Path(command[0]).name}: exit {ran.returncode}\n{last_lines(ran.stderr)}")
        return ran.stdout

    def daemon(self, folder, feed, backend):
        """A daemon that serves, its socket; or LeftOut with its own words."""
        config, place = folder / f"{backend}.yaml", folder / f"{backend}.socket"
        config.write_text(f"feeds:\n  train:\n    dataset: {folder / 'data'}\n    backend: {backend}{feed}")
        log = folder / f"{backend}.log"
        with open(log, "wb") as to:
            daemon = subprocess.Popen([str(self.build / "seqfeedd"), "--config", str(config), "--socket", str(place)],
                                      stdout=to, stderr=to, stdin=subprocess.DEVNULL)
        while not place.exists():
            if daemon.poll() is not None:
                said = last_lines(log.read_text(errors="replace"), 1)
                raise (LeftOut if "cuda cannot be used" in said else Failed)(said)
            time.sleep(0.01)
        return daemon, place

    def digest(self, folder, feed, backend):
        """The SHA-256 of the first batches, and how many batches a device wrote."""
        daemon, place = self.daemon(folder, feed, backend)
        command = [str(self.build / "seqfeed"), "cat", "train", "-n", "1000000", "--json", "--socket", str(place)]
        sum_of_all, lines = hashlib.sha256(), 0
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE) as cat:
                late = threading.Timer(self.options.seconds, cat.kill)
                late.start()
                try:
                    for line in itertools.islice(cat.stdout, self.options.batches):
                        sum_of_all.update(line)
                        lines += 1
                    status = json.loads(self.must([self.build / "seqfeed", "status", "--json", "--socket", place]))
                finally:
                    late.cancel()
                    cat.kill()
        finally:
            end(daemon)
        if lines < self.options.batches:
            raise Failed(f"only {lines} batches came with backend: {backend}\n"
                         f"{last_lines((folder / f'{backend}.log').read_text(errors='replace'))}")
        return sum_of_all.hexdigest(), sum(stream["masks"]["device_batches"] for stream in status["streams"])

    def batches(self, feed):
        with tempfile.TemporaryDirectory(prefix="seqfeed-gpu-") as name:
            folder = pathlib.Path(name)
            self.make_dataset(folder)
            there, written = self.digest(folder, feed, "cuda")
            here, _ = self.digest(folder, feed, "cpu")
        if there != here:
            raise Failed(f"the batches differ: {there} on the GPU, {here} on the CPU")
        if written == 0:
            raise Failed("the daemon took a GPU, and it wrote no batch: its log says why")
        return f"{self.options.batches} batches, {there} on both; the GPU had written {written} by then"

    # --- the page

    def machine(self):
        gpu = output_of("nvidia-smi", "--query-gpu=name,driver_version,memory.total,pcie.link.gen.max,pcie.link.width.max",
                        "--format=csv,noheader")
        compiler = output_of("nvcc", "--version").splitlines()
        model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if "model name" in line]
        return {"date": time.strftime("%Y-%m-%d %H:%M"), "GPU, driver, memory, PCIe": gpu or "none that nvidia-smi tells",
                "nvcc": compiler[-1] if compiler else "none",
                "CPU": f"{model[0] if model else platform.machine()}, {len(os.sched_getaffinity(0))} CPUs",
                "kernel": platform.release(),
                "version": " ".join(output_of(str(self.build / "seqfeedd"), "--version").split()),
                "commit": output_of("git", "describe", "--always", "--dirty") or "unknown"}

    def count(self, state):
        return sum(step[2] == state for step in self.steps)

    def sentence(self):
        return ", ".join(f"{self.count(state)} {state}" for state in ("passed", "failed", "left out"))

    def write(self):
        lines = ["# The CUDA backend on this machine", "", *(f"- {key}: {value}" for key, value in self.about.items()),
                 "", f"{self.sentence()}.", "", "| Step | Result | Seconds |", "|---|---|---|"]
        lines += [f"| {title} | {state} | {seconds:.0f} |" for title, _, state, seconds, _ in self.steps]
        for title, command, state, _, text in self.steps:
            lines += ["", f"## {title}: {state}", "", f"`{command}`", "", "```", text, "```"]
        self.options.output.write_text("\n".join(lines) + "\n")

    def all(self):
        self.about = self.machine()
        test, rounds = self.build / "tests/cuda/test_gpu", self.options.rounds
        self.step("Random feeds against the CPU", f"test_gpu {rounds}", lambda: self.run(test, rounds))
        for name, feed in {"padded": PADDED, "packed": PACKED}.items():
            self.step(f"The daemon's batches, {name}", "seqfeed cat, backend: cuda and cpu",
                      lambda feed=feed: self.batches(feed))
        self.step("Figures", "gpu_masks", self.figures)
        for name, some in TOOLS.items():
            self.step(f"compute-sanitizer, {name}", f"compute-sanitizer --tool {name} test_gpu {some}",
                      lambda name=name, some=some: self.sanitizer(name, some))
        return 1 if self.count("failed") else 0


def main():
    parser = argparse.ArgumentParser(prog="./dev gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/gpu.md"),
                        help="the page (default: build/gpu.md)")
    parser.add_argument("--rounds", type=int, default=1500, help="of test_gpu, four lanes each (default: 1500)")
    parser.add_argument("--batches", type=int, default=400, help="of the daemon, for each feed (default: 400)")
    parser.add_argument("--seconds", type=int, default=120, help="that a program may take (default: 120)")
    options = parser.parse_args()
    report = Report(options)
    code = report.all()
    print(f"{report.sentence()}; {options.output}")
    return code


if __name__ == "__main__":
    sys.exit(main())
