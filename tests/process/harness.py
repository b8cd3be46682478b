# SPDX-License-Identifier: MIT
"""What the process tests share: programs, datasets, configurations, daemons and their batches."""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import numpy
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SEQFEED_BUILD", ROOT / "build")).resolve()
TOOL = BUILD / "seqfeed"
DAEMON = BUILD / "seqfeedd"

# A sanitizer makes everything slower: waits are multiplied, measurements are left out.
SANITIZED = any(name in BUILD.name for name in ("asan", "tsan"))
PATIENCE = 8 if SANITIZED else 1
REPORTS = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed")

DTYPES = {"bool": numpy.bool_, "uint8": numpy.uint8, "int32": numpy.int32, "int64": numpy.int64,
          "float16": numpy.float16, "float32": numpy.float32}

# The canonical example: three sequences that make one batch of three rows, padded to three tokens.
CANONICAL = [{"tokens": [1, 2], "label": 0}, {"tokens": [3, 4, 5], "label": 1},
             {"tokens": [6], "label": 0}]


def require_programs():
    missing = [str(path) for path in (TOOL, DAEMON) if not path.exists()]
    if missing:
        raise RuntimeError(f"not built: {', '.join(missing)} (./dev build)")


def environment(**extra):
    """The tests' environment without what would point to another daemon."""
    env = {key: value for key, value in os.environ.items()
           if key not in ("SEQFEED_SOCKET", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "LISTEN_FDS",
                          "LISTEN_PID", "WATCHDOG_USEC", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    env.update({key: str(value) for key, value in extra.items() if value is not None})
    return env


def tool(*arguments, check=True, input=None, env=None, timeout=120, cwd=None):
    """Run `seqfeed ARGUMENTS`; the result holds text. With check, anything but exit 0 fails."""
    ran = subprocess.run([str(TOOL), *map(str, arguments)], input=input, text=True, cwd=cwd,
                         capture_output=True, env=env or environment(), timeout=timeout * PATIENCE,
                         check=False)
    assert not REPORTS.search(ran.stderr), ran.stderr
    if check:
        assert ran.returncode == 0, f"seqfeed {arguments}: exit {ran.returncode}\n{ran.stderr}"
    return ran


def wait_until(condition, otherwise, timeout=10):
    deadline = time.monotonic() + timeout * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


# --- datasets and configurations -----------------------------------------------------------------

def write_jsonl(path, rows):
    path = pathlib.Path(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pack(directory, rows, *options):
    """A dataset of these rows (dictionaries); the input file lies beside it."""
    directory = pathlib.Path(directory)
    source = write_jsonl(directory.with_name(directory.name + ".jsonl"), rows)
    tool("pack", "-o", directory, *options, source)
    return directory


def random_rows(count, seed=1, longest=40, vocabulary=1000, shortest=0):
    """Rows that differ in everything, the same for a seed."""
    draw = numpy.random.default_rng(seed)
    lengths = draw.integers(shortest, longest + 1, count)
    return [{"tokens": draw.integers(0, vocabulary, length).tolist(), "label": int(draw.integers(10))}
            for length in lengths]


class PlainDumper(yaml.SafeDumper):
    """Writes a value that stands in two places twice; the settings know no anchors."""

    def ignore_aliases(self, data):
        return True


def write_config(path, feeds, **top):
    """A configuration file; `feeds` maps names to what stands under them."""
    path = pathlib.Path(path)
    feeds = {name: {key: str(value) if key == "dataset" else value for key, value in feed.items()}
             for name, feed in feeds.items()}
    path.write_text(yaml.dump({**top, "feeds": feeds}, Dumper=PlainDumper, sort_keys=False))
    return path


def one_feed(path, dataset, top=None, **feed):
    """The usual case: a feed called train."""
    return write_config(path, {"train": {"dataset": dataset, **feed}}, **(top or {}))


# --- daemons -------------------------------------------------------------------------------------

class Daemon:
    """A running seqfeedd on a socket of its own. Use it in `with`: leaving stops it and checks that
    nothing of it is left."""

    def __init__(self, config, sets=(), socket_path=None, wait=True, prefix=(), **env):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="seqfeed-"))
        self.socket = pathlib.Path(socket_path or self.folder / "s")
        self.log_path = self.folder / "log"
        self.config = config
        sets = [word for item in sets for word in ("--set", item)]
        self.command = [*prefix, str(DAEMON), "--config", str(config), "--socket", str(self.socket), *sets]
        self.env = environment(**env)
        self.process = None
        self.start(wait)

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.env)
        if wait:
            self.wait_ready()

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, timeout=20):
        deadline = time.monotonic() + timeout * PATIENCE
        while not self.listens():
            assert self.process.poll() is None, f"exit {self.process.returncode}\n{self.log}"
            assert time.monotonic() < deadline, f"no socket after {timeout} s\n{self.log}"
            time.sleep(0.01)

    def listens(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    def wait_log(self, pattern, timeout=10):
        deadline = time.monotonic() + timeout * PATIENCE
        while not re.search(pattern, self.log):
            assert time.monotonic() < deadline, f"never logged {pattern!r}:\n{self.log}"
            time.sleep(0.02)

    def kill(self):
        """As the machine would: nothing is cleaned up."""
        self.process.kill()
        self.process.wait()

    def stop(self, expect=0, timeout=10):
        """End it in order and look at what it leaves."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there {timeout} s after SIGTERM\n{self.log}") from None
        assert not REPORTS.search(self.log), self.log
        assert code == expect, f"exit {code}\n{self.log}"
        assert not self.socket.exists(), "the socket is still there"
        left = sorted(path.name for path in self.folder.iterdir() if path.name != "log")
        assert left == [], f"left behind: {left}"

    def remove(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process.returncode is None:
                self.stop()
            elif kind is not None:
                print(f"--- log of the daemon\n{self.log}")
        finally:
            self.remove()

    # what the daemon uses
    def status(self):
        return json.loads(self.tool("status", "--json").stdout)

    def resident_bytes(self):
        """RssAnon + RssShmem: memory that is the daemon's own or shared with trainers."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return sum(int(re.search(rf"{key}:\s*(\d+) kB", text).group(1)) * 1024
                   for key in ("RssAnon", "RssShmem"))

    def cpu_seconds(self):
        """Time on a processor of all threads, to the nanosecond."""
        tasks = pathlib.Path(f"/proc/{self.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def descriptors(self):
        """How many it has open; 0 where this user may not know (it is not dumpable)."""
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except PermissionError:
            return 0

    # its trainers
    def tool(self, *arguments, **options):
        return tool(*arguments, "--socket", self.socket, **options)

    def tool_start(self, *arguments):
        """The same in the background."""
        return subprocess.Popen([str(TOOL), *map(str, arguments), "--socket", str(self.socket)],
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=environment())

    def cat_arguments(self, feed="train", n=None, **options):
        words = ["cat", feed, "--json", "--socket", self.socket]
        words += ["-n", n] if n is not None else []
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", value]
        return list(map(str, words))

    def cat(self, feed="train", n=None, check=True, **options):
        """Batches of `seqfeed cat --json`, their tensors as numpy arrays."""
        ran = tool(*self.cat_arguments(feed, n, **options), check=check)
        return parse_batches(ran.stdout)

    def cat_start(self, feed="train", n=None, **options):
        """The same in the background."""
        return Cat(self.cat_arguments(feed, n, **options))


class Cat:
    """A `seqfeed cat --json` in the background. Its output is read all the time, so that it never
    waits for us, and with it the other members of its group."""

    def __init__(self, arguments):
        self.process = subprocess.Popen([str(TOOL), *arguments], text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment())
        self.lines, self.said = [], []
        self.readers = [threading.Thread(target=self.read, args=pair, daemon=True) for pair in
                        ((self.process.stdout, self.lines), (self.process.stderr, self.said))]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def read(pipe, lines):
        with pipe:
            lines.extend(pipe)

    def wait_lines(self, count):
        wait_until(lambda: len(self.lines) >= count or self.process.poll() is not None, "no batches")

    def wait(self, timeout=60):
        """The exit code, once it has ended and all of its output is here."""
        code = self.process.wait(timeout * PATIENCE)
        for reader in self.readers:
            reader.join()
        return code

    def kill(self):
        self.process.kill()
        self.wait()

    @property
    def errors(self):
        return "".join(self.said)

    @property
    def batches(self):
        """What has been printed; a line that a kill cut short does not count."""
        return parse_batches("".join(line for line in self.lines if line.endswith("\n")))

    def finish(self, expect=0, timeout=60):
        code = self.wait(timeout)
        assert not REPORTS.search(self.errors), self.errors
        assert code == expect, f"exit {code}\n{self.errors}"
        return self.batches


def cat_together(daemon, options):
    """One `cat` for each dictionary of options, all at once; their batches in the same order."""
    running = [daemon.cat_start(**each) for each in options]
    try:
        return [cat.finish() for cat in running]
    finally:
        for cat in running:
            if cat.process.poll() is None:
                cat.kill()


# --- batches -------------------------------------------------------------------------------------

def parse_value(value):
    return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.get(value, value)


def parse_tensor(tensor):
    dtype, shape = tensor["dtype"], tensor["shape"]
    data = tensor["data"]
    if dtype in ("float16", "float32", "bfloat16"):
        data = json.loads(json.dumps(data), parse_constant=parse_value)
    array = numpy.array(data, dtype=DTYPES.get(dtype, numpy.float32))
    assert array.size == numpy.prod(shape, dtype=int), (shape, array.shape)
    return array.reshape(shape)


def parse_batches(text):
    batches = [json.loads(line) for line in text.splitlines()]
    for batch in batches:
        batch["tensors"] = {name: parse_tensor(tensor) for name, tensor in batch["tensors"].items()}
    return batches


def padded(rows, side="right", pad=0, to=0, multiple_of=1):
    """tokens, mask and lengths of a batch, by numpy alone: what the daemon must publish."""
    lengths = [len(row) for row in rows]
    length = max([to, *lengths])
    length = -(-length // multiple_of) * multiple_of
    tokens = numpy.full((len(rows), length), pad, numpy.int64)
    mask = numpy.zeros((len(rows), length), numpy.bool_)
    for number, row in enumerate(rows):
        at = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        tokens[number, at] = row
        mask[number, at] = True
    return {"tokens": tokens, "mask": mask, "lengths": numpy.array(lengths, numpy.int64)}


def same_tensors(one, other):
    """Do two batches hold the same names, types, shapes and values?"""
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and numpy.array_equal(one[name], other[name])
        for name in one)


def same_batches(some, others):
    """Two runs of batches are equal in all that a trainer can see, in order."""
    assert len(some) == len(others), f"{len(some)} batches and {len(others)}"
    for one, other in zip(some, others):
        for key in ("epoch", "step", "cursor"):
            assert one[key] == other[key], f"{key}: {one[key]} and {other[key]}"
        assert same_tensors(one["tensors"], other["tensors"]), f"step {one['step']} differs"


# --- processes -----------------------------------------------------------------------------------

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Whatever a test starts stays below this process, also when its own parent dies first. (The
    environment of a daemon would tell as well, but not to everybody: it is not dumpable.)"""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def usual_signals():
    """What a background job or nohup made this process ignore, its children would ignore too."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler),
                            (signal.SIGHUP, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def descendants():
    """Pids below this process that are not zombies."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
                if fields[0] not in "ZX":
                    children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


@contextlib.contextmanager
def nothing_left_running(timeout=3):
    """Every process that the test starts, however deep, is gone at its end."""
    before = set(descendants())
    yield
    deadline = time.monotonic() + timeout * PATIENCE
    while set(descendants()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    left = sorted(set(descendants()) - before)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert left == [], f"still running: {left}"
