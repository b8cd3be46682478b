# SPDX-License-Identifier: MIT
"""Loaders that people write themselves, and seqfeed.

A loader is a class: `needs` names the modules and `format` the data that it reads; __init__ takes
the job and is measured; batches(epoch) gives (tokens int64 [rows, longest], mask bool, labels);
stop() ends what it has started. `tasks` says where it takes part."""
import json
import os
import subprocess
import time

import numpy

from corpus import Corpus

BATCH = 64
WINDOW = 64        # blocks that are shuffled together
BUCKET = 1 << 14   # sequences that are sorted by length together


# --- numpy ---------------------------------------------------------------------------------------

def padded(rows, labels):
    """Row by row is faster than one scatter through the mask."""
    lengths = list(map(len, rows))
    width = max(lengths)
    tokens = numpy.zeros((len(rows), width), numpy.int64)
    for number, row in enumerate(rows):
        tokens[number, :lengths[number]] = row
    mask = numpy.arange(width) < numpy.array(lengths)[:, None]
    return tokens, mask, numpy.asarray(labels, numpy.int64)


def by_length(order, lengths, draw):
    """Batches of numbers with like lengths, in random order."""
    made = []
    for at in range(0, len(order), BUCKET):
        part = order[at:at + BUCKET]
        part = part[numpy.argsort(lengths[part], kind="stable")]
        some = [part[first:first + BATCH] for first in range(0, len(part), BATCH)]
        made += [some[number] for number in draw.permutation(len(some))]
    return made


class Blocks:
    """Blocks of compressed sequences by number."""

    def __init__(self, path):
        import zstandard
        self.ends = numpy.load(path / "ends.npy").tolist()
        self.file = os.open(path / "data.zst", os.O_RDONLY)
        self.decompressor = zstandard.ZstdDecompressor()

    def __len__(self):
        return len(self.ends) - 1

    def __del__(self):
        os.close(self.file)

    def read(self, number, decompressor=None):
        """(list of token arrays, labels)"""
        size = self.ends[number + 1] - self.ends[number]
        raw = (decompressor or self.decompressor).decompress(
            os.pread(self.file, size, self.ends[number]))
        count = int.from_bytes(raw[:4], "little")
        ends = numpy.cumsum(numpy.frombuffer(raw, numpy.uint32, count, 4)).tolist()
        labels = numpy.frombuffer(raw, numpy.uint32, count, 4 + 4 * count)
        tokens = numpy.frombuffer(raw, numpy.uint16, -1, 4 + 8 * count)
        return [tokens[a:b] for a, b in zip([0] + ends, ends)], labels


def shuffled(blocks, seed, part=0, parts=1, window=WINDOW, bucket=False):
    """Lists of 64 shuffled sequences and their labels; of `parts` readers each takes its blocks."""
    draw = numpy.random.default_rng(seed)
    order = draw.permutation(len(blocks))[part::parts]
    rows, labels = [], []
    for at in range(0, len(order), window):
        labels = [labels]
        for number in order[at:at + window].tolist():
            more, marks = blocks.read(number)
            rows += more
            labels.append(marks)
        labels = numpy.concatenate(labels)
        mixed = draw.permutation(len(rows))
        keep = 0 if at + window >= len(order) else len(rows) % BATCH
        given, left = mixed[:len(mixed) - keep], mixed[len(mixed) - keep:]
        if bucket:
            lengths = numpy.array(list(map(len, rows)))
            batches = by_length(given, lengths, draw)
        else:
            batches = [given[first:first + BATCH] for first in range(0, len(given), BATCH)]
        for batch in batches:
            yield [rows[number] for number in batch.tolist()], labels[batch]
        rows, labels = [rows[number] for number in left.tolist()], labels[left]


class Loader:
    needs, format, server, program = (), None, None, False
    packed = False  # several sequences a row, so that rows have no label and a mask with gaps
    tasks = ("W1", "W2", "W3", "W4", "W5")

    def __init__(self, job):
        self.job = job

    def stop(self):
        pass


class ByHand(Loader):
    needs, format = ("zstandard",), "blocks"
    tasks = ("W1", "W2", "W3", "W4", "W5", "share")

    def __init__(self, job):
        super().__init__(job)
        self.blocks = Blocks(job.data / "blocks")

    def batches(self, epoch):
        job = self.job
        for rows, labels in shuffled(self.blocks, epoch, job.rank, job.world, bucket=job.bucket):
            yield padded(rows, labels)


class Mapped(Loader):
    """Uncompressed tokens in a file that is mapped: nothing to decode, twice the disk."""
    format = "plain"

    def __init__(self, job):
        super().__init__(job)
        self.corpus = Corpus(job.data)
        self.starts = self.corpus.offsets.tolist()

    def batches(self, epoch):
        job, starts = self.job, self.starts
        tokens, labels = self.corpus.tokens, self.corpus.labels
        draw = numpy.random.default_rng(epoch)
        order = draw.permutation(len(labels))[job.rank::job.world]
        if job.bucket:
            batches = by_length(order, self.corpus.lengths, draw)
        else:
            batches = [order[at:at + BATCH] for at in range(0, len(order), BATCH)]
        for batch in batches:
            yield padded([tokens[starts[n]:starts[n + 1]] for n in batch.tolist()], labels[batch])


# --- torch ---------------------------------------------------------------------------------------

def as_torch(batch):
    import torch
    return tuple(map(torch.from_numpy, batch))


def torch_loader(dataset, workers, **options):
    """A DataLoader that keeps its workers over the epochs."""
    import torch
    from torch.utils.data import DataLoader
    torch.set_num_threads(1)
    if workers:
        options |= {"prefetch_factor": 4, "persistent_workers": True}
    return DataLoader(dataset, num_workers=workers, **options)


class Torch(Loader):
    """An IterableDataset over the blocks that makes whole batches: the work is the one of ByHand, so
    that the difference is torch's."""
    needs, format = ("torch", "zstandard"), "blocks"

    def __init__(self, job):
        super().__init__(job)
        from torch.utils.data import IterableDataset, get_worker_info

        class Batches(IterableDataset):
            epoch = 0

            def __iter__(self):
                info = get_worker_info()
                number, count = (info.id, info.num_workers) if info else (0, 1)
                self.epoch += 1
                blocks = Blocks(job.data / "blocks")
                for rows, labels in shuffled(blocks, self.epoch, job.rank * count + number,
                                             job.world * count, max(1, WINDOW // count), job.bucket):
                    yield as_torch(padded(rows, labels))

        self.loader = torch_loader(Batches(), job.workers, batch_size=None)

    def batches(self, epoch):
        return iter(self.loader)


class TorchMapped(Loader):
    """A map-style dataset over uncompressed tokens, pad_sequence: what tutorials show."""
    needs, format, tasks = ("torch",), "plain", ("W1",)

    def __init__(self, job):
        super().__init__(job)
        import torch
        from torch.nn.utils.rnn import pad_sequence

        def collate(rows):
            pieces = [torch.from_numpy(tokens.astype(numpy.int64)) for tokens, _ in rows]
            lengths = torch.tensor([len(piece) for piece in pieces])
            tokens = pad_sequence(pieces, batch_first=True)
            mask = torch.arange(tokens.shape[1])[None, :] < lengths[:, None]
            return tokens, mask, torch.tensor([label for _, label in rows])

        self.loader = torch_loader(Corpus(job.data), job.workers, batch_size=BATCH, shuffle=True,
                                   collate_fn=collate)

    def batches(self, epoch):
        return iter(self.loader)


class AtHand(Loader):
    """No loader: three tensors over memory that is there. What `next` costs a torch trainer at least."""
    needs, format, tasks = ("torch",), "plain", ("W5",)

    def __init__(self, job):
        super().__init__(job)
        self.batch = next(Mapped(job).batches(0))

    def batches(self, epoch):
        import torch
        while True:
            yield tuple(map(torch.from_numpy, self.batch))


# --- seqfeed -------------------------------------------------------------------------------------

def seqfeed_config(job, **more):
    batch = {"policy": "bucket", "size": BATCH} if job.bucket else {"size": BATCH}
    return {"feeds": {"train": {"dataset": job.data / "seqfeed", "batch": batch}}, **more}


class SeqfeedServer:
    """The daemon of several trainers."""
    settings: dict = {}  # beside the feed

    def __init__(self, job, place):
        import seqfeed
        self.daemon = seqfeed.Daemon(seqfeed_config(job, **self.settings))
        made = place.with_suffix(".new")
        made.write_text(self.daemon.socket)
        made.rename(place)

    def stop(self):
        self.daemon.stop()


class SeqfeedServerAnew(SeqfeedServer):
    settings = {"cache": 0}


class Seqfeed(Loader):
    """attach() and numpy views. Alone it starts its daemon as well, several share one."""
    needs, format, server = ("seqfeed",), "seqfeed", SeqfeedServer
    tasks = ("W0", "W1", "W2", "W3", "W4", "W5", "share")

    def __init__(self, job):
        super().__init__(job)
        import seqfeed
        self.daemon = None if job.server else seqfeed.Daemon(seqfeed_config(job, **self.server.settings))
        options = {"socket": self.daemon.socket if self.daemon else self._socket(), "rank": job.rank,
                   "world_size": job.world, "local_world_size": job.world}
        if job.trainers > 1:
            options |= {"group": "comparison", "members": job.trainers // job.world}
        self.feed = self._attach(options)

    def _socket(self):
        while not self.job.server.exists():
            time.sleep(0.001)
        return self.job.server.read_text()

    def _attach(self, options):
        import seqfeed
        return seqfeed.attach("train", **options)

    def given(self):
        """The feed's batches, without those that were given before to make the ranks even."""
        if self.job.world == 1:
            return self.feed
        return (batch for batch in self.feed if not batch.repeated)

    @staticmethod
    def taken(batch):
        return batch["tokens"].numpy(), batch["mask"].numpy(), batch["labels"].numpy()

    def batches(self, epoch):
        # Unlike a generator, map() holds no batch: it goes back as soon as the trainer lets go of it.
        return map(self.taken, self.given())

    def stop(self):
        self.feed.close()
        if self.daemon:
            self.daemon.stop()


class SeqfeedAnew(Seqfeed):
    """The same, but each epoch is read and decoded anew, as most others do."""
    tasks, server = ("W1", "share"), SeqfeedServerAnew


class SeqfeedTorch(Seqfeed):
    """seqfeed.torch.Loader: ordinary tensors of the trainer's own."""
    needs, zero_copy = ("seqfeed", "torch"), False

    def _attach(self, options):
        import seqfeed.torch
        import torch
        torch.set_num_threads(1)
        return seqfeed.torch.Loader("train", zero_copy=self.zero_copy, **options)

    @staticmethod
    def taken(batch):
        return batch["tokens"], batch["mask"], batch["labels"]


class SeqfeedViews(SeqfeedTorch):
    """The same with zero_copy."""
    zero_copy = True


class Client(Seqfeed):
    """The C client, for comparison: the program of bench/consumer.c does the trainer's work."""
    needs, tasks, program, copy = ("seqfeed",), ("W0", "W1", "W5"), True, False

    def _attach(self, options):
        return None

    def run(self, batches, step_ms, touch):
        ran = subprocess.run(
            [self.job.consumer, "train", "-n", str(batches), "--sleep-us", str(int(step_ms * 1000)),
             "--touch", str(int(touch)), "--copy", str(int(self.copy))], check=True, capture_output=True,
            env=os.environ | {"SEQFEED_SOCKET": self.daemon.socket})
        return json.loads(ran.stdout)

    def stop(self):
        self.daemon.stop()


class ClientCopies(Client):
    """The same, which copies each batch, as seqfeed.torch does without zero_copy."""
    tasks, copy = ("W0",), True


# Name -> class, workers and, where they are not those of the class, tasks.
LOADERS = {
    "three torch tensors, nothing loaded": (AtHand, 0),
    "seqfeed, C client": (Client, 0), "seqfeed, C client that copies": (ClientCopies, 0),
    "seqfeed, numpy views": (Seqfeed, 0),
    "seqfeed, numpy views, no cache": (SeqfeedAnew, 0),
    "seqfeed.torch, zero_copy": (SeqfeedViews, 0), "seqfeed.torch": (SeqfeedTorch, 0),
    "numpy + zstandard by hand": (ByHand, 0), "numpy by hand, uncompressed": (Mapped, 0),
    "PyTorch DataLoader, in process": (Torch, 0, ("W1", "W2", "W3", "W4", "W5", "share")),
    "PyTorch DataLoader, 1 worker": (Torch, 1), "PyTorch DataLoader, 2 workers": (Torch, 2, ("W1", "W4", "W5")),
    "PyTorch DataLoader, pad_sequence, uncompressed": (TorchMapped, 0)}
