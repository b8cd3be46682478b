# SPDX-License-Identifier: MIT
"""What the measurements share: a daemon on a private socket, its CPU time and memory, consumers, the
ceiling, and statistics of interleaved pairs."""
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

CONFIG = """memory: {memory}
cache: {cache}
threads: {threads}
direct: {direct}
feeds:
  train:
    dataset: {dataset}
    order: {{window: {window}, seed: 1}}
    batch: {{{batch}}}
    ring: {{slots: {slots}}}
    tensors:
      tokens: {{from: tokens, dtype: {dtype}}}
      mask: {{mask: lengths, dtype: bool}}
      labels: {{from: label, dtype: int64}}
      lengths: {{from: lengths, dtype: int64}}
{more}
"""
DEFAULTS = {"memory": "1GiB", "cache": "0", "threads": 1, "direct": "false", "window": 64, "batch": "size: 64",
            "slots": 8, "dtype": "int64", "more": ""}
# What packed rows must have beside a mask.
SEGMENTS = "      segments: {make: segments, dtype: int32}"


class Daemon:
    """seqfeedd with a configuration made from DEFAULTS and keywords, on a socket of its own."""

    def __init__(self, build, dataset, **settings):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="seqfeed-bench-"))
        config = self.directory / "c.yaml"
        config.write_text(CONFIG.format(dataset=dataset, **(DEFAULTS | settings)))
        self.socket = self.directory / "socket"
        self.peak_kib = 0
        self.log = open(self.directory / "log", "wb")
        self.started_ns = time.monotonic_ns()
        self.process = subprocess.Popen([build / "seqfeedd", "--config", config, "--socket", self.socket],
                                        stderr=self.log)
        while not self.socket.exists():
            if self.process.poll() is not None:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.0005)
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()

    def _sample(self):
        while self.process.poll() is None:
            self.peak_kib = max(self.peak_kib, self.resident_kib())
            time.sleep(0.05)

    def resident_kib(self):
        """RssAnon + RssShmem: what the daemon itself has filled; program text does not count."""
        try:
            lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))

    def cpu_seconds(self):
        """CPU time of all its threads, those that have ended included, to the nanosecond."""
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def status(self, build):
        out = subprocess.run([build / "seqfeed", "status", "--json", "--socket", self.socket],
                             check=True, capture_output=True).stdout
        return json.loads(out)

    def plan(self, build):
        out = subprocess.run([build / "seqfeed", "plan", self.directory / "c.yaml", "--json"], check=True,
                             capture_output=True).stdout
        return json.loads(out)["feeds"]["train"]

    def last_cursor(self, build):
        """The cursor of the last batch of epoch 0."""
        index = self.plan(build)["batches_per_epoch"] - 1
        line = subprocess.run([build / "seqfeed", "cat", "train", "-n", "1", "--json", "--socket", self.socket],
                              check=True, capture_output=True).stdout
        head = json.loads(line)["cursor"].rsplit(";epoch=", 1)[0] + f";epoch=0;index={index}"
        return f"{head};crc={crc32c(head.encode()):08x}"

    def consumer(self, build, count, *options):
        return subprocess.Popen([build / "bench/consumer", "train", "-n", str(count), *map(str, options)],
                                stdout=subprocess.PIPE, env=os.environ | {"SEQFEED_SOCKET": str(self.socket)})

    def consume(self, build, count, *options, copies=1, each=lambda i: ()):
        """Run consumers side by side; their results, and the daemon's CPU seconds meanwhile."""
        before = self.cpu_seconds()
        running = [self.consumer(build, count, *options, *each(i)) for i in range(copies)]
        results = [json.loads(process.communicate()[0]) for process in running]
        return results, self.cpu_seconds() - before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)
        self.log.close()
        shutil.rmtree(self.directory)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def ceiling(build, dataset, **options):
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    out = subprocess.run([build / "bench/ceiling", dataset, *arguments], check=True, capture_output=True).stdout
    return json.loads(out)


def spread(values):
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def make_data(build, directory, name, tokens, *options):
    """The dataset of that name, made once."""
    path = directory / name
    if not (path / "dataset.json").exists():
        subprocess.run([build / "bench/make_data", path, str(tokens), *map(str, options)], check=True)
    return path


TEXT_BYTES, PARAGRAPH_BYTES = 20_000_000, 2048
TEXT_SOURCES = (("/usr/share/common-licenses", "*"), ("/usr/share/perl", "**/*.p[molh]*"), ("/usr/share/doc", "**/copyright"),
                ("/usr/share/doc", "**/*.txt"), ("/usr/lib/python3", "**/*.py"))


def text_files():
    """Text that a Debian has, in the same order each time, each file once."""
    seen = set()
    for folder, pattern in TEXT_SOURCES:
        for path in sorted(pathlib.Path(folder).glob(pattern)):
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def cut_paragraphs(text):
    """The same text with an empty line after at most PARAGRAPH_BYTES."""
    for paragraph in text.split(b"\n\n"):
        for at in range(0, len(paragraph), PARAGRAPH_BYTES):
            yield paragraph[at:at + PARAGRAPH_BYTES].strip(b"\n")


def make_text(build, directory, least=2_000_000):
    """A dataset of this machine's own text, a byte a token, a paragraph a sequence; None where there is too little."""
    path = directory / "text"
    if (path / "dataset.json").exists():
        return path
    with tempfile.TemporaryDirectory(prefix="seqfeed-text-") as folder:
        files, size = [], 0
        for source in text_files():
            files.append(pathlib.Path(folder) / f"{len(files):05}.txt")
            files[-1].write_bytes(b"\n\n".join(cut_paragraphs(source.read_bytes())) + b"\n")
            size += files[-1].stat().st_size
            if size >= TEXT_BYTES:
                break
        if size < least:
            return None
        subprocess.run([build / "seqfeed", "pack", "--text", "--text-by", "paragraph", "--label", "file", "-o", path,
                        *files], check=True, stdout=subprocess.DEVNULL)
    return path


def warm(path):
    for shard in path.glob("*.zst"):
        shard.read_bytes()


def cool(path):
    """Drop the dataset from the page cache of this machine."""
    for shard in path.glob("*.zst"):
        with open(shard, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
