#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Make the golden shards: make_golden.py PATH-OF-SEQFEED

good/NAME      datasets that every later version must open
refused/*.zst  shards that every version must refuse, each with one lie and checksums that fit it;
               refused/words.json has what the sentence must say

The files are kept, not remade: they stand for what users have on their disks. Run this only to add
to them, after a change of the format that docs/formats/shard.md tells.
"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reference"))
from shard_reader import crc32c  # noqa: E402

THREE = [{"tokens": [1, 2], "label": 0}, {"tokens": [3, 4, 5], "label": 1},
         {"tokens": [6], "label": 0}]


def column_rows():
    for i in range(150):
        length = i * 7 % 40
        yield {"tokens": [(i * 1000 + t * 13) % 100000 for t in range(length)], "label": i % 5 - 2,
               "weight": [t / 8 for t in range(length)], "box": [i, i + 1, i + 2, i + 3],
               "spans": [[t, t + 1] for t in range(i % 4)]}


def pack(tool, name, rows, *options):
    source = HERE / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    directory = HERE / "good" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(exist_ok=True)
    subprocess.run([tool, "pack", "-o", directory, *options, source], check=True)
    source.unlink()
    return directory


class Image:
    """The bytes of a shard, with its parts to change."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.frames = struct.unpack_from("<I", data, len(data) - 9)[0]
        self.table = len(data) - (8 + 12 * self.frames + 9)
        self.index = self.table - struct.unpack_from("<I", data, self.table + 12 * self.frames - 4)[0]
        self.head = self.index + 8
        self.arrays = self.head + 256
        self.lengths = self.head + struct.unpack_from("<Q", data, self.head + 88)[0]

    def put(self, at, form, *values):
        struct.pack_into("<" + form, self.data, at, *values)
        return self

    def add(self, at, form, more):
        return self.put(at, form, struct.unpack_from("<" + form, self.data, at)[0] + more)

    def mended(self):
        """With every checksum outside the blocks renewed."""
        self.put(8 + 4084, "I", crc32c(self.data[8:8 + 4084]))
        self.put(self.head + 108, "I", crc32c(self.data[self.arrays:self.lengths]))
        self.put(self.head + 112, "I", crc32c(self.data[self.table:]))
        self.put(self.head + 252, "I", crc32c(self.data[self.head:self.head + 252]))
        return bytes(self.data)


def lies(good):
    """name, bytes, what the refusal says."""
    size = len(good)
    block = Image(good).arrays
    yield "newer-major", Image(good).put(8 + 8, "H", 2).mended(), "newer"
    yield "unknown-feature", Image(good).put(8 + 12, "I", 1 << 31).mended(), "newer"
    yield "reserved-byte", Image(good).put(8 + 50, "B", 1).mended(), "reserved"
    yield "unknown-type", Image(good).put(8 + 112 + 25, "B", 10).mended(), "type"
    yield "no-columns", Image(good).put(8 + 28, "I", 0).mended(), "columns"
    yield "huge-block", Image(good).put(block + 4, "I", 1 << 31).mended(), "block 0"
    yield "more-sequences-than-bytes", Image(good).put(block + 8, "I", 1 << 31).mended(), "block 0"
    yield "tokens-do-not-add-up", Image(good).add(block + 12, "I", 1).mended(), "add up"
    yield "seek-table-disagrees", Image(good).add(Image(good).table + 8 + 16, "I", 64).mended(), \
        "seek table"
    yield "too-many-frames", Image(good).put(size - 9, "I", 0xFFFFFFFF).mended(), "seek table"
    yield "index-checksum", bytes(Image(good).add(Image(good).head + 16, "Q", 1).data), "checksum"
    yield "cut-off", good[:-5], "cut off"
    yield "empty", b"", "cut off"
    yield "plain-zstd", bytes.fromhex("28b52ffd2405290000") + b"hello" + bytes(5000), "not a shard"
    flipped = bytearray(good)
    flipped[4096 + 40] ^= 4
    yield "flipped-bit-in-block", bytes(flipped), "checksum"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tool = sys.argv[1]
    three = pack(tool, "three", THREE)
    pack(tool, "columns", column_rows(), "--block", "4KiB", "--shard", "6KiB", "--pad-id", "0",
         "--column", "weight:token:f16", "--column", "box:sequence:u8:4", "--column",
         "spans:ragged:u16:2")
    refused = HERE / "refused"
    shutil.rmtree(refused, ignore_errors=True)
    refused.mkdir()
    words = {}
    for name, data, said in lies((three / "shard-00000.zst").read_bytes()):
        (refused / f"{name}.zst").write_bytes(data)
        words[f"{name}.zst"] = said
    (refused / "words.json").write_text(json.dumps(words, indent=2) + "\n")


if __name__ == "__main__":
    main()
