# SPDX-License-Identifier: MIT
"""Loaders out of packages, each with its own format and in the manner of its documentation."""
import atexit
import contextlib
import fcntl
import struct
import time

import numpy

from by_hand import BATCH, WINDOW, Blocks, Loader, as_torch, by_length, padded, shuffled, torch_loader
from corpus import LONGEST

SHUFFLE = 8192  # sequences of a shuffle buffer


def collate(rows):
    return as_torch(padded([numpy.asarray(row["tokens"]) for row in rows],
                           [int(row["label"]) for row in rows]))


class Mosaic(Loader):
    """MDS shards; what is decompressed is kept in a folder of this run, shared by the ranks of a job."""
    needs, format, tasks = ("torch", "streaming"), "mds", ("W1", "W2", "W3", "W5")

    def __init__(self, job):
        super().__init__(job)
        import torch
        from streaming import StreamingDataLoader, StreamingDataset
        torch.set_num_threads(1)
        mine = "mds" if job.world > 1 else f"mds-{job.number}"
        with contextlib.nullcontext() if job.world > 1 else self.alone():
            data = StreamingDataset(remote=str(job.data / "mds"), local=str(job.scratch / mine),
                                    shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
        more = {"prefetch_factor": 4, "persistent_workers": True} if job.workers else {}
        self.loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=job.workers,
                                          collate_fn=collate, **more)

    @contextlib.contextmanager
    def alone(self):
        """Jobs of one machine that start at the same moment choose the same name for their shared memory,
        and all but one end with FileExistsError (mosaicml/streaming#689): one after the other."""
        with open(self.job.scratch / "mds.lock", "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def batches(self, epoch):
        return iter(self.loader)

    def stop(self):
        # A trainer leaves by os._exit(). What this package registers removes its named shared memory, which
        # every later job would look through.
        atexit._run_exitfuncs()


class Web(Loader):
    needs, format, tasks = ("torch", "webdataset"), "tar", ("W1", "W2", "W3", "W5")

    def __init__(self, job):
        super().__init__(job)
        import torch
        import webdataset
        torch.set_num_threads(1)
        shards = sorted(map(str, (job.data / "tar").glob("*.tar")))

        def decode(sample):
            return {"tokens": numpy.frombuffer(sample["u16"], numpy.uint16), "label": sample["cls"]}

        data = (webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False,
                                      nodesplitter=webdataset.split_by_node)
                .shuffle(SHUFFLE).map(decode).batched(BATCH, collation_fn=collate))
        more = {"prefetch_factor": 4, "persistent_workers": True} if job.workers else {}
        self.loader = webdataset.WebLoader(data, batch_size=None, num_workers=job.workers, **more)

    def batches(self, epoch):
        return iter(self.loader)


class Lit(Loader):
    needs, format, tasks = ("torch", "litdata"), "chunks", ("W1", "W2", "W3", "W5")

    def __init__(self, job):
        super().__init__(job)
        import torch
        from litdata import StreamingDataLoader, StreamingDataset
        torch.set_num_threads(1)
        data = StreamingDataset(str(job.data / "chunks"), cache_dir=str(job.scratch / "chunks"),
                                shuffle=True, drop_last=False)
        more = {"prefetch_factor": 4, "persistent_workers": True} if job.workers else {}
        self.loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=job.workers,
                                          collate_fn=collate, **more)

    def batches(self, epoch):
        return iter(self.loader)


class Arrow(Loader):
    """Hugging Face: Arrow files that are mapped, uncompressed, and torch's DataLoader."""
    needs, format = ("torch", "datasets"), "arrow"

    def __init__(self, job):
        super().__init__(job)
        import datasets
        from torch.utils.data import DistributedSampler
        self.sampler = None
        data = datasets.load_from_disk(job.data / "arrow").with_format("numpy")
        options = {"batch_size": BATCH, "shuffle": True}
        if job.world > 1:
            self.sampler = DistributedSampler(data, job.world, job.rank)
            options = {"batch_size": BATCH, "sampler": self.sampler}
        if job.bucket:
            lengths = numpy.diff(numpy.load(job.data / "plain" / "offsets.npy"))
            draw = numpy.random.default_rng(0)
            order = by_length(draw.permutation(len(lengths)), lengths, draw)
            options = {"batch_sampler": [batch.tolist() for batch in order]}
        self.loader = torch_loader(data, job.workers, collate_fn=collate, **options)

    def batches(self, epoch):
        if self.sampler:
            self.sampler.set_epoch(epoch)
        return iter(self.loader)


class Parquet(Loader):
    """Hugging Face: streaming from compressed Parquet files with a shuffle buffer."""
    needs, format, tasks = ("torch", "datasets"), "parquet", ("W1", "W5")

    def __init__(self, job):
        super().__init__(job)
        import datasets
        # Otherwise each epoch ends with a sleep of five seconds.
        datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
        files = sorted(map(str, (job.data / "parquet").glob("*.parquet")))
        data = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        self.data = data.shuffle(seed=0, buffer_size=SHUFFLE)  # as numpy arrays it would be slower
        self.loader = torch_loader(self.data, job.workers, batch_size=BATCH, collate_fn=collate)

    def batches(self, epoch):
        self.data.set_epoch(epoch)
        return iter(self.loader)


class Spdl(Loader):
    """Threads that read and decompress the blocks of ByHand, one that shuffles, threads that pad.
    `workers` is how many decode and how many pad."""
    needs, format, tasks = ("spdl.pipeline", "zstandard"), "blocks", ("W1", "W2", "W3", "W5")

    def __init__(self, job):
        super().__init__(job)
        self.blocks = Blocks(job.data / "blocks")

    def batches(self, epoch):
        import zstandard
        from spdl.pipeline import PipelineBuilder
        job, blocks = self.job, self.blocks
        draw = numpy.random.default_rng(epoch)

        def mix(window):
            rows = [row for some, _ in window for row in some]
            labels = numpy.concatenate([marks for _, marks in window])
            order = draw.permutation(len(rows))
            return [([rows[number] for number in order[at:at + BATCH].tolist()],
                     labels[order[at:at + BATCH]]) for at in range(0, len(order), BATCH)]

        order = draw.permutation(len(blocks))[job.rank::job.world].tolist()
        pipeline = (PipelineBuilder().add_source(order)
                    .pipe(lambda number: blocks.read(number, zstandard.ZstdDecompressor()),
                          concurrency=job.workers)
                    .aggregate(WINDOW).pipe(mix).disaggregate()
                    .pipe(lambda batch: padded(*batch), concurrency=job.workers).add_sink(8)
                    .build(num_threads=job.workers + 1))
        with pipeline.auto_stop():
            yield from pipeline


class Grain(Loader):
    """Records in an order shuffled as a whole. A batch's are asked for together, which takes this source a
    twentieth of the time of one after the other, what its own batch() does. Two threads are its best here."""
    needs, format, tasks = ("grain", "array_record"), "records", ("W1", "W2", "W3", "W5")

    def __init__(self, job):
        super().__init__(job)
        import grain
        from absl import flags
        if not flags.FLAGS.is_parsed():
            flags.FLAGS(["compare"])
        self.source = grain.sources.ArrayRecordDataSource(
            str(job.data / "records" / "data.array_record"))

    def batches(self, epoch):
        import grain

        def decode(record):
            return numpy.frombuffer(record, numpy.uint16, offset=8), struct.unpack("<q", record[:8])[0]

        def read(numbers):
            return padded(*zip(*map(decode, self.source.__getitems__(numbers))))

        data = grain.MapDataset.range(len(self.source)).seed(epoch).shuffle()
        if self.job.world > 1:
            data = data[self.job.rank::self.job.world]
        data = data.batch(BATCH, batch_fn=list).map(read)
        return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=16)))


class Catid(Loader):
    """catid's dataloader, in C++. What it calls the least length keeps a second sequence out of a row: then
    batches are those of all others, with the label before the tokens, since its format has no place for it."""
    needs, format, tasks = ("catid_dataloader",), "sequences", ("W1", "W2", "W3", "W5")
    width, least = LONGEST + 1, LONGEST

    def __init__(self, job):
        super().__init__(job)
        import catid_dataloader
        self.loader = catid_dataloader.DataLoader(str(job.data / self.format))
        self.settings = catid_dataloader.EpochConfig(
            local_rank=job.rank, local_rank_count=job.world, padding_token=0, micro_batch_size=BATCH,
            context_size=self.width, min_data_length=self.least)

    @staticmethod
    def made(batch):
        tokens = batch[:, 1:].astype(numpy.int64)
        return tokens, tokens != 0, batch[:, 0].astype(numpy.int64)  # no token is 0

    def batches(self, epoch):
        self.settings.seed0 = epoch
        self.loader.begin_epoch(self.settings)
        while (batch := self.loader.get_micro_batch()[0]) is not None:
            yield self.made(batch)

    def stop(self):
        self.loader.destroy()


class CatidPacked(Catid):
    """As it is meant to be used: rows full of sequences, with a padding token between them. There is nowhere
    to put labels."""
    format, tasks, packed, width, least = "sequences-alone", ("W1",), True, LONGEST, 1

    @staticmethod
    def made(batch):
        tokens = batch.astype(numpy.int64)
        return tokens, tokens != 0, numpy.zeros(len(batch), numpy.int64)


class TensorSocketServer:
    """One process with a torch DataLoader whose batches all trainers get. Its pool needs batches of
    one shape, so all are as wide as the longest sequence may be."""

    def __init__(self, job, place):
        import threading

        from tensorsocket import TensorProducer
        from torch.utils.data import IterableDataset
        blocks = Blocks(job.data / "blocks")

        class Batches(IterableDataset):
            epoch = 0

            def __len__(self):
                return len(numpy.load(job.data / "plain" / "labels.npy")) // BATCH

            def __iter__(self):
                self.epoch += 1
                for rows, labels in shuffled(blocks, self.epoch):
                    if len(rows) == BATCH:
                        yield as_torch(self.widened(*padded(rows, labels)))

            @staticmethod
            def widened(tokens, mask, labels):
                more = ((0, 0), (0, LONGEST - tokens.shape[1]))
                return numpy.pad(tokens, more), numpy.pad(mask, more), labels

        def produce():
            producer = TensorProducer(torch_loader(Batches(), job.workers, batch_size=None),
                                      producer_batch_size=2)
            for _ in range(job.epochs or 1):
                for _ in producer:
                    pass
            time.sleep(60)  # trainers drain what lies in this process

        threading.Thread(target=produce, daemon=True).start()

    def stop(self):
        pass


class TensorSocket(Loader):
    needs, format, server = ("torch", "tensorsocket", "zstandard"), "blocks", TensorSocketServer
    tasks = ("W2", "share")

    def __init__(self, job):
        super().__init__(job)
        import torch
        from tensorsocket import TensorConsumer
        torch.set_num_threads(1)
        self.consumer = TensorConsumer(batch_size=BATCH)

    def batches(self, epoch):
        return iter(self.consumer)


# Their second line is there to see whether workers help: one task is enough.
LOADERS = {
    "SPDL, 2 threads": (Spdl, 2), "LitData": (Lit, 0), "LitData, 2 workers": (Lit, 2, ("W1",)),
    "Hugging Face, Arrow": (Arrow, 0), "Hugging Face, Arrow, 2 workers": (Arrow, 2, ("W1",)),
    "Hugging Face, streaming Parquet": (Parquet, 0),
    "WebDataset": (Web, 0), "WebDataset, 2 workers": (Web, 2, ("W1",)),
    "MosaicML Streaming": (Mosaic, 0), "MosaicML Streaming, 2 workers": (Mosaic, 2, ("W1",)),
    "Grain": (Grain, 0), "TensorSocket": (TensorSocket, 0), "catid_dataloader": (Catid, 0),
    "catid_dataloader, packed rows, no labels": (CatidPacked, 0)}
