# SPDX-License-Identifier: MIT
"""The data of the comparison: one corpus, written once in the format of every loader.

Tokens are independent draws from Zipf's law (s = 1, ids 1 .. 50256), lengths log-normal (median 180,
sigma 0.8) clipped to 1..2048, one label below 1000 a sequence. Whatever compresses uses zstd, level 3.

    corpus.py DIR TOKENS FORMAT..."""
import json
import pathlib
import shutil
import struct
import sys

import numpy

VOCABULARY, LONGEST, LABELS, LEVEL = 50257, 2048, 1000, 3
SHARD = 4 << 20  # bytes, so that each rank and worker has some of its own
BLOCK = 1 << 16  # tokens of one block of the loaders that are written by hand


class Corpus:
    """The plain arrays: tokens one after the other, where each sequence begins, labels."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        plain = self.path / "plain"
        self.tokens = numpy.load(plain / "tokens.npy", mmap_mode="r").view(numpy.ndarray)
        self.offsets = numpy.load(plain / "offsets.npy")
        self.labels = numpy.load(plain / "labels.npy")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, number):
        return self.tokens[self.offsets[number]:self.offsets[number + 1]], self.labels[number]

    @property
    def lengths(self):
        return numpy.diff(self.offsets)


def expected(path):
    return json.loads((pathlib.Path(path) / "plain" / "sums.json").read_text())


def draw(path, count):
    """About `count` tokens of whole sequences."""
    random = numpy.random.default_rng(20)
    lengths = numpy.rint(numpy.exp(random.normal(numpy.log(180), 0.8, count // 100 + 100)))
    lengths = numpy.clip(lengths, 1, LONGEST).astype(numpy.int64)
    lengths = lengths[:int(numpy.searchsorted(numpy.cumsum(lengths), count)) + 1]
    offsets = numpy.concatenate(([0], numpy.cumsum(lengths)))
    shares = numpy.cumsum(1 / numpy.arange(1, VOCABULARY))
    tokens = numpy.empty(offsets[-1], numpy.uint16)
    for at in range(0, len(tokens), 1 << 20):
        part = tokens[at:at + (1 << 20)]
        part[:] = numpy.searchsorted(shares, random.random(len(part)) * shares[-1]) + 1
    labels = random.integers(0, LABELS, len(lengths))
    first = tokens[offsets[:-1]].astype(numpy.int64)
    plain = path / "plain"
    plain.mkdir(parents=True)
    numpy.save(plain / "tokens.npy", tokens)
    numpy.save(plain / "offsets.npy", offsets)
    numpy.save(plain / "labels.npy", labels)
    (plain / "sums.json").write_text(json.dumps({
        "sequences": len(labels), "tokens": len(tokens), "labels": int(labels.sum()),
        "first": int(first.sum()), "values": int(tokens.sum(dtype=numpy.int64)),
        "pairs": int((first * labels).sum()), "areas": int((lengths * labels).sum())}))


# --- one function a format: it writes a folder ---------------------------------------------------

class _Sequences:
    """A column of sequences, as seqfeed.pack() takes one."""

    def __init__(self, corpus):
        self.corpus = corpus

    def __len__(self):
        return len(self.corpus)

    def __iter__(self):
        return (self.corpus[number][0] for number in range(len(self.corpus)))


def write_seqfeed(corpus, out):
    import seqfeed
    seqfeed.pack({"tokens": _Sequences(corpus), "label": corpus.labels}, out, token_type="u16",
                 level=LEVEL, progress=False)


def write_blocks(corpus, out):
    """zstd frames one after the other: count, lengths, labels, tokens of whole sequences."""
    import zstandard
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    ends, at, number = [0], 0, 0
    out.mkdir()
    with open(out / "data.zst", "wb") as file:
        while number < len(corpus):
            limit = corpus.offsets[number] + BLOCK
            after = max(number + 1, int(numpy.searchsorted(corpus.offsets, limit, "right")) - 1)
            lengths = corpus.lengths[number:after].astype(numpy.uint32)
            raw = numpy.uint32(len(lengths)).tobytes() + lengths.tobytes()
            raw += corpus.labels[number:after].astype(numpy.uint32).tobytes()
            raw += corpus.tokens[corpus.offsets[number]:corpus.offsets[after]].tobytes()
            at += file.write(compressor.compress(raw))
            ends.append(at)
            number = after
    numpy.save(out / "ends.npy", numpy.array(ends))


def write_mds(corpus, out):
    from streaming import MDSWriter
    with MDSWriter(out=str(out), columns={"tokens": "ndarray:uint16", "label": "int64"}, hashes=[],
                   compression=f"zstd:{LEVEL}", size_limit=SHARD) as writer:
        for number in range(len(corpus)):
            tokens, label = corpus[number]
            writer.write({"tokens": tokens, "label": label})


def write_tar(corpus, out):
    """Plain tar files: what its own writer makes. Compressed ones are read through a pipe from the
    zstd program and are no faster."""
    import webdataset
    out.mkdir()
    with webdataset.ShardWriter(str(out / "%05d.tar"), maxcount=2500, verbose=0) as writer:
        for number in range(len(corpus)):
            tokens, label = corpus[number]
            writer.write({"__key__": f"{number:09}", "u16": tokens.tobytes(), "cls": int(label)})


def write_chunks(corpus, out):
    from litdata.streaming.writer import BinaryWriter
    writer = BinaryWriter(str(out), chunk_bytes=f"{SHARD >> 20}MB", compression=f"zstd:{LEVEL}")
    for number in range(len(corpus)):
        tokens, label = corpus[number]
        writer[number] = {"tokens": numpy.array(tokens), "label": int(label)}
    writer.done()
    writer.merge()


def write_sequences(corpus, out, labelled=True):
    """A file for each CPU, one zstd frame (level 1, there is no other) of four-byte tokens a sequence. There is
    no place for labels: they go before the tokens."""
    import catid_dataloader
    out.mkdir()
    writer = catid_dataloader.DataPreparation(str(out), byte_tokens=False)
    for number in range(len(corpus)):
        tokens, label = corpus[number]
        writer.write_tokens(numpy.concatenate(([label], tokens)) if labelled else tokens)
    writer.destroy()


def write_sequences_alone(corpus, out):
    write_sequences(corpus, out, labelled=False)


def _table(corpus):
    import pyarrow
    tokens = pyarrow.ListArray.from_arrays(pyarrow.array(corpus.offsets, pyarrow.int32()),
                                           pyarrow.array(corpus.tokens))
    return pyarrow.table({"tokens": tokens, "label": corpus.labels})


def write_arrow(corpus, out):
    import datasets
    datasets.disable_progress_bars()
    datasets.Dataset(_table(corpus)).save_to_disk(out)


def write_parquet(corpus, out):
    import pyarrow.parquet
    out.mkdir()
    table, files = _table(corpus), 8
    size = -(-len(corpus) // files)
    for number in range(files):
        pyarrow.parquet.write_table(table.slice(number * size, size), out / f"{number:03}.parquet",
                                    compression="zstd", compression_level=LEVEL, row_group_size=1024)


def write_records(corpus, out):
    from array_record.python.array_record_module import ArrayRecordWriter
    out.mkdir()
    writer = ArrayRecordWriter(str(out / "data.array_record"), f"group_size:1,zstd:{LEVEL}")
    for number in range(len(corpus)):
        tokens, label = corpus[number]
        writer.write(struct.pack("<q", label) + tokens.tobytes())
    writer.close()


FORMATS = {"plain": None, "seqfeed": write_seqfeed, "blocks": write_blocks, "mds": write_mds,
           "tar": write_tar, "chunks": write_chunks, "arrow": write_arrow, "parquet": write_parquet,
           "records": write_records, "sequences": write_sequences, "sequences-alone": write_sequences_alone}


def prepare(path, count, format_):
    """Write what is not there yet; a folder appears whole or not at all."""
    path = pathlib.Path(path)
    out, making = path / format_, path / (format_ + ".making")
    if format_ == "plain":
        if not (out / "sums.json").exists():
            shutil.rmtree(out, ignore_errors=True)
            draw(path, count)
        return
    if not out.exists():
        shutil.rmtree(making, ignore_errors=True)
        FORMATS[format_](Corpus(path), making)
        making.rename(out)


if __name__ == "__main__":
    for name in sys.argv[3:]:
        prepare(sys.argv[1], int(sys.argv[2]), name)
