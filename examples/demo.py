#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""From text files to two fed trainers in one go: what ./dev demo shows.

demo.py [--build DIR] [--seconds S]

Uses the programs as anybody would; everything it makes lies in a temporary folder that goes with it,
also after Ctrl-C.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CORPUS = pathlib.Path("/usr/share/common-licenses")
CONFIG = """\
memory: 256MiB
feeds:
  text:
    dataset: corpus
    batch: {size: 8}
    length: {max: 512, overflow: truncate_right}
"""
GROUP = ["--group", "demo", "--members", "2"]
BAR = 20


class Demo:
    def __init__(self, build, folder):
        self.tool, self.daemon = build / "seqfeed", build / "seqfeedd"
        self.folder = folder
        self.socket = folder / "socket"
        self.running = []
        self.colour = sys.stdout.isatty()

    # --- talking ---------------------------------------------------------------------------------

    def dim(self, text):
        return f"\033[2m{text}\033[0m" if self.colour else text

    def title(self, text):
        print(f"\n\033[1m{text}\033[0m" if self.colour else f"\n{text}", flush=True)

    def say(self, *words):
        print(f"  {self.dim('$')} {' '.join(map(str, words))}", flush=True)

    # --- processes -------------------------------------------------------------------------------

    def run(self, *words):
        ran = subprocess.run([self.tool, *words], cwd=self.folder, capture_output=True, text=True,
                             check=False)
        if ran.returncode:
            sys.exit(f"demo: seqfeed {words[0]} failed:\n{ran.stderr}")
        return ran.stdout

    def start(self, *words, output=subprocess.PIPE):
        process = subprocess.Popen(words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.PIPE if output == subprocess.PIPE else output,
                                   text=True)
        self.running.append(process)
        return process

    def stop(self):
        """End what was started, the newest first, and wait until it is gone."""
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
            try:
                process.communicate(timeout=12)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        self.running.clear()

    # --- the steps -------------------------------------------------------------------------------

    def pack(self):
        files = sorted({path.resolve() for path in CORPUS.iterdir() if path.is_file()})
        if not files:
            sys.exit(f"demo: there is no text in {CORPUS}")
        self.title(f"1. Pack {len(files)} texts of {CORPUS}: a paragraph is a sequence, a byte a token")
        self.say("seqfeed pack --text --text-by paragraph --label file -o corpus", CORPUS / "*")
        self.run("pack", "--text", "--text-by", "paragraph", "--label", "file", "-o", "corpus",
                 *map(str, files))
        facts = json.loads(self.run("inspect", "--json", "corpus"))
        lengths = facts["lengths"]
        print(f"  {facts['sequences']} sequences, {facts['tokens']} tokens in {facts['bytes']} bytes; "
              f"lengths {lengths['min']} to {lengths['max']}, median {lengths['median']}")
        return [path.name for path in files]

    def serve(self):
        self.title("2. Start a private daemon")
        (self.folder / "demo.yaml").write_text(CONFIG)
        print("\n".join(f"  {self.dim('|')} {line}" for line in CONFIG.splitlines()))
        self.say("seqfeedd --config demo.yaml --socket socket &")
        started = time.monotonic()
        log = self.folder / "log"
        with open(log, "wb") as output:
            daemon = self.start(self.daemon, "--config", "demo.yaml", "--socket", self.socket,
                                output=output)
        while not self.socket.exists():
            if daemon.poll() is not None or time.monotonic() - started > 30:
                sys.exit(f"demo: the daemon did not start:\n{log.read_text()}")
            time.sleep(0.002)
        print(f"  ready after {(time.monotonic() - started) * 1000:.0f} ms; it says:")
        for line in log.read_text().splitlines():
            if "fetch:" in line or "masks:" in line:
                print(f"  {self.dim('|')} {line}")

    def first_batch(self, names):
        self.title("3. Two trainers share one copy of every batch: a group of two members")
        words = ["cat", "text", "--json", "-n", "1", *GROUP]
        self.say("seqfeed", *words, "&   (twice)")
        trainers = [self.start(self.tool, *words, "--socket", self.socket) for _ in range(2)]
        outputs = []
        for trainer in trainers:
            out, said = trainer.communicate(timeout=60)
            if trainer.returncode:
                sys.exit(f"demo: a trainer failed:\n{said}")
            outputs.append(out)
        if outputs[0] != outputs[1]:
            sys.exit("demo: the two trainers saw different batches")
        show_batch(json.loads(outputs[0]), names, self.dim)
        print("  Both trainers printed exactly this.")

    def throughput(self, seconds):
        self.title(f"4. The same two, reading as fast as they can, for {seconds} seconds")
        words = ["bench", "text", "-n", "1000000000", *GROUP]
        self.say("seqfeed", *words, "&   (twice)")
        trainers = [self.start(self.tool, *words, "--socket", self.socket) for _ in range(2)]
        deadline = time.monotonic() + seconds
        before = None
        while time.monotonic() < deadline:
            time.sleep(0.5)
            for trainer in trainers:
                if trainer.poll() is not None:
                    sys.exit(f"demo: a trainer ended early:\n{trainer.communicate()[1]}")
            now = self.published()
            if before:
                self.show_rate(before, now)
            before = now
        if self.colour:
            print()

    def published(self):
        """(time, batches, tokens) that the daemon has published so far."""
        streams = json.loads(self.run("status", "--json", "--socket", str(self.socket)))["streams"]
        return (time.monotonic(), sum(stream["batches"] for stream in streams),
                sum(stream["tokens"] for stream in streams))

    def show_rate(self, before, now):
        elapsed = now[0] - before[0]
        text = (f"  {(now[2] - before[2]) / elapsed / 1e6:7.1f} M tokens/s  "
                f"{(now[1] - before[1]) / elapsed:9.0f} batches/s  to each of 2 trainers")
        print(f"\r{text}\033[K" if self.colour else text, end="" if self.colour else "\n", flush=True)


def show_batch(batch, names, dim):
    tensors = batch["tensors"]
    tokens, mask = tensors["tokens"]["data"], tensors["mask"]["data"]
    labels, lengths = tensors["labels"]["data"], tensors["lengths"]["data"]
    shape = " x ".join(map(str, tensors["tokens"]["shape"]))
    print(f"\n  first batch: tokens int64 {shape}, mask bool {shape}, labels, lengths")
    print(f"  {'label':<14} {'length':>6}  {'mask':<{BAR}}  tokens, as text (first numbers: "
          f"{' '.join(map(str, tokens[0][:6]))} ...)")
    width = max(30, shutil.get_terminal_size((100, 24)).columns - BAR - 28)
    for row, kept, label, length in zip(tokens, mask, labels, lengths):
        full = round(BAR * sum(kept) / max(len(kept), 1))
        name = f"{label} {names[label]}" if label < len(names) else str(label)
        text = " ".join(bytes(row[:length]).decode("utf-8", "replace").split())
        text = text if len(text) <= width else text[:width - 1] + "…"
        print(f"  {name[:14]:<14} {length:>6}  {'█' * full}{dim('░' * (BAR - full))}  {text}")
    print(f"  epoch {batch['epoch']}, step {batch['step']}, and where to resume after it:")
    print(f"  {dim(batch['cursor'])}")


def what_next(took):
    print(f"""
Done in {took:.0f} s; nothing of it is left. To go on:
  build/seqfeed pack -o corpus rows.jsonl              your own data: {{"tokens": [...], "label": 0}}
  build/seqfeed inspect corpus                         what is in it, and a configuration to start from
  build/seqfeed run train.yaml -- ./trainer            a daemon for the time of one command
  examples/, docs/architecture.md, ./dev test""", flush=True)


def main():
    parser = argparse.ArgumentParser(description="pack text, feed two trainers, show what they get")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    started = time.monotonic()
    os.environ.pop("SEQFEED_SOCKET", None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="seqfeed-demo-"))
    demo = Demo(options.build.resolve(), folder)
    try:
        names = demo.pack()
        demo.serve()
        demo.first_batch(names)
        demo.throughput(options.seconds)
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            demo.stop()
        shutil.rmtree(folder, ignore_errors=True)
    what_next(time.monotonic() - started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
