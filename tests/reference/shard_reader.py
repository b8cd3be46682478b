#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An independent reader of datasets, written from docs/formats/shard.md alone.

    import shard_reader
    dataset = shard_reader.read_dataset("corpus")
    dataset.columns[0].name, dataset.sequences, dataset.tokens
    dataset[7]["tokens"], dataset[7]["label"]      # numpy arrays; a number column gives width values
    dataset.blocks[0].sequences, .tokens, .lengths

As a script it prints each sequence as a line of JSON. It checks what the document says can be
checked; XXH3-128 needs libxxhash and is left out where that library is missing. It is meant to be
read and compared with, not to be fast.
"""
import ctypes
import ctypes.util
import json
import os
import re
import struct
import sys

import numpy as np
import zstandard

HEADER_BYTES = 4096
MAGIC = bytes.fromhex("895351460d0a1a0a")
KINDS = ["tokens", "token", "sequence", "ragged"]
TYPES = {1: ("u8", 1), 2: ("u16", 2), 3: ("u24", 3), 4: ("u32", 4), 5: ("i32", 4), 6: ("i64", 8),
         7: ("f16", 2), 8: ("bf16", 2), 9: ("f32", 4)}
NUMPY = {"u8": "<u1", "u16": "<u2", "u32": "<u4", "i32": "<i4", "i64": "<i8", "f16": "<f2",
         "f32": "<f4"}
NOTHING = 0x51D8E999


class Damaged(Exception):
    """The bytes are not what the document allows."""


def need(condition, what):
    if not condition:
        raise Damaged(what)


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def _load_xxhash():
    name = ctypes.util.find_library("xxhash")
    if not name:
        return None
    function = ctypes.CDLL(name).XXH3_128bits
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    function.restype = _Hash128
    return function


_XXH3 = _load_xxhash()


def xxh3_128(data):
    """Sixteen canonical bytes, or None without libxxhash."""
    if _XXH3 is None:
        return None
    data = bytes(data)
    digest = _XXH3(data, len(data))
    return struct.pack(">QQ", digest.high, digest.low)


def align(value, to=64):
    return (value + to - 1) // to * to


class Column:
    def __init__(self, record, first):
        self.record = record
        name, kind, code, reserved_0, self.width, reserved_1 = struct.unpack("<24sBBHI16s", record)
        self.name = name.split(b"\0")[0].decode("ascii")
        need(name == self.name.encode().ljust(24, b"\0") and len(self.name) < 24, "column name")
        need(kind < 4 and (kind == 0) == first, "column kind")
        need(code in TYPES and 1 <= self.width <= 65536, "column type or width")
        need(reserved_0 == 0 and not any(reserved_1), "column reserved bytes")
        if first:
            need(self.name == "tokens", "primary column name")
        else:
            need(re.fullmatch("[a-z][a-z0-9_]*", self.name) and
                 self.name not in ("tokens", "lengths"), "column name")
        self.kind = KINDS[kind]
        self.type, size = TYPES[code]
        self.value_bytes = size * self.width

    def decode(self, data):
        """Values [n, width], or [n] when the width is 1; u24 as uint32, bf16 as float32."""
        if self.type == "u24":
            parts = np.frombuffer(data, "<u1").reshape(-1, 3).astype(np.uint32)
            values = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
        elif self.type == "bf16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, NUMPY[self.type])
        return values if self.width == 1 else values.reshape(-1, self.width)

    def as_json(self):
        return {"name": self.name, "kind": self.kind, "type": self.type, "width": self.width}


class Block:
    """One decoded block: lengths, and for each column its values (ragged ones with counts)."""

    def __init__(self, raw, columns, number, first_sequence):
        header = 64 + 8 * (1 + len(columns))
        end = align(header)
        need(len(raw) >= end, "block shorter than its header")
        (magic, header_bytes, raw_bytes, self.sequences, first, self.tokens, block, sections,
         reserved, crc) = struct.unpack_from("<4sIIIQIII24sI", raw)
        need(magic == b"SQBK" and header_bytes == end and sections == 1 + len(columns),
             "block header")
        need(crc == crc32c(raw[:60] + bytes(4) + raw[64:end]), "block header checksum")
        need(raw_bytes == len(raw) and not any(reserved), "block header fields")
        need(first == first_sequence and block == number and self.sequences > 0, "block number")
        need(not any(raw[header:end]), "padding")
        self.raw, self.number = raw, number
        self._at = end
        self._section = 0
        self.lengths = np.frombuffer(self._take(4 * self.sequences), "<u4")
        need(int(self.lengths.sum(dtype=np.uint64)) == self.tokens, "lengths do not add up")
        self.starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        self.values, self.counts = {}, {}
        for column in columns:
            self._take_column(column)
        need(self._at == len(raw), "bytes behind the last section")

    def _take(self, size):
        offset, stored = struct.unpack_from("<II", self.raw, 64 + 8 * self._section)
        need(offset == self._at and stored == size, "section table")
        end = offset + size
        self._at = align(end)
        self._section += 1
        need(self._at <= len(self.raw) and not any(self.raw[end:self._at]), "padding")
        return self.raw[offset:end]

    def _take_column(self, column):
        if column.kind != "ragged":
            count = self.sequences if column.kind == "sequence" else self.tokens
            self.values[column.name] = column.decode(self._take(count * column.value_bytes))
            return
        counts = np.frombuffer(self.raw, "<u4", self.sequences, self._at)
        total, start = int(counts.sum(dtype=np.uint64)), align(4 * self.sequences, 8)
        data = self._take(start + total * column.value_bytes)
        need(not any(data[4 * self.sequences:start]), "padding")
        self.counts[column.name] = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.values[column.name] = column.decode(data[start:])

    def row(self, columns, i):
        row = {}
        for column in columns:
            values = self.values[column.name]
            if column.kind == "sequence":
                row[column.name] = values[i]
            else:
                starts = self.counts[column.name] if column.kind == "ragged" else self.starts
                row[column.name] = values[starts[i]:starts[i + 1]]
        return row


def read_header(data):
    need(len(data) >= HEADER_BYTES, "file cut off in its header")
    need(struct.unpack_from("<II", data) == (0x184D2A57, 4088), "header frame")
    payload = data[8:HEADER_BYTES]
    (magic, major, _minor, incompatible, _read_only, _compatible, target, count, has_pad,
     reserved_0, pad, reserved_1) = struct.unpack_from("<8sHHIIIIIIIq64s", payload)
    need(magic == MAGIC, "magic")
    need(struct.unpack_from("<I", payload, 4084)[0] == crc32c(payload[:4084]), "header checksum")
    need(major == 1 and incompatible == 0, "newer format")
    need(4096 <= target <= 1 << 24 and 1 <= count <= 64, "header fields")
    need(has_pad in (0, 1) and (has_pad or pad == 0), "pad id")
    need(reserved_0 == 0 and not any(reserved_1) and not any(payload[3184:4084]), "reserved bytes")
    need(not any(payload[112 + 48 * count:3184]), "unused column records")
    columns = [Column(payload[112 + 48 * c:160 + 48 * c], c == 0) for c in range(count)]
    need(len({column.name for column in columns}) == count, "column names")
    return columns, pad if has_pad else None


class Shard:
    """One shard with all its blocks."""

    def __init__(self, data):
        self.columns, self.pad_id = read_header(data)
        self._read_tail(data)
        self._read_blocks(data)

    def _read_tail(self, data):
        need(len(data) >= HEADER_BYTES + 8 + 3 * 12 + 9, "file cut off")
        frames, descriptor, magic = struct.unpack_from("<IBI", data, len(data) - 9)
        need(magic == 0x8F92EAB1 and descriptor == 0x80 and 3 <= frames <= (1 << 24) + 2, "footer")
        size = 8 + 12 * frames + 9
        need(size <= len(data) - HEADER_BYTES, "seek table larger than the file")
        table = data[len(data) - size:]
        need(struct.unpack_from("<II", table) == (0x184D2A5E, size - 8), "seek table frame")
        entries = [struct.unpack_from("<III", table, 8 + 12 * f) for f in range(frames)]
        index_at = len(data) - size - entries[-1][0]
        need(index_at >= HEADER_BYTES, "seek table entry of the index")
        self._read_index(data[index_at:len(data) - size], frames - 2, len(data), crc32c(table))
        self.frame_checksums = [checksum for _, _, checksum in entries[1:-1]]
        need(entries[0] == (HEADER_BYTES, 0, NOTHING), "seek table entry of the header")
        need(entries[-1][1:] == (0, NOTHING), "seek table entry of the index")
        need([(c, r) for c, r, _ in entries[1:-1]] == [(e[0], e[1]) for e in self.entries],
             "seek table entries")
        need(HEADER_BYTES + sum(e[0] for e in self.entries) == index_at, "index offset")

    def _read_index(self, frame, count, file_bytes, seek_crc):
        head = frame[8:264]
        need(len(head) == 256, "index cut off")
        (magic, head_bytes, blocks, self.sequences, self.tokens, self.raw_bytes, size, raw_max,
         packed_max, self.length_min, self.length_max, self.level, _version, self.content,
         lengths_at, lengths_bytes, columns, arrays_crc, table_crc, reserved, crc) = struct.unpack(
             "<8sIIQQQQIIIIiI16sQQIII136sI", head)
        need(struct.unpack_from("<II", frame) == (0x184D2A58, len(frame) - 8), "index frame")
        need(magic == b"SQINDEX\0" and crc == crc32c(head[:252]), "index checksum")
        need(head_bytes == 256 and blocks == count and columns == len(self.columns) and
             size == file_bytes and not any(reserved), "index fields")
        arrays = 32 * blocks + 16 * columns
        need(lengths_at == 256 + arrays and len(frame) == 8 + lengths_at + lengths_bytes,
             "index size")
        need(arrays_crc == crc32c(frame[264:264 + arrays]) and table_crc == seek_crc, "checksums")
        self.entries = [struct.unpack_from("<IIIIIIIB3s", frame, 264 + 32 * b)
                        for b in range(blocks)]
        self.column_entries = [struct.unpack_from("<QII", frame, 264 + 32 * blocks + 16 * c)
                               for c in range(columns)]
        self.packed = frame[8 + lengths_at:]
        entry = list(zip(*self.entries))
        need(self.raw_bytes == sum(entry[1]) and raw_max == max(entry[1]) and
             packed_max == max(entry[0]) and self.sequences == sum(entry[2]) and
             self.tokens == sum(entry[3]) and self.length_max == max(entry[6]), "index sums")
        need(not any(any(e[8]) for e in self.entries) and
             not any(e[2] for e in self.column_entries), "reserved bytes")

    def _read_blocks(self, data):
        self.blocks = []
        at, packed_at, first = HEADER_BYTES, 0, 0
        contents = []
        for b, entry in enumerate(self.entries):
            size, raw_bytes, sequences, tokens, crc, lengths_crc, longest, width, _ = entry
            frame = data[at:at + size]
            need(crc32c(frame) == crc, f"checksum of block {b}")
            need(raw_bytes <= 1 << 26, f"size of block {b}")
            need(frame[:4] == b"\x28\xb5\x2f\xfd" and frame[4] & 0x3F == 0x24, f"frame of block {b}")
            need(struct.unpack("<I", frame[-4:])[0] == self.frame_checksums[b],
                 f"seek table checksum of block {b}")
            parameters = zstandard.get_frame_parameters(frame)
            need(parameters.content_size == raw_bytes, f"content size of block {b}")
            raw = zstandard.ZstdDecompressor().decompress(frame, max_output_size=raw_bytes)
            block = Block(raw, self.columns, b, first)
            need((block.sequences, block.tokens) == (sequences, tokens), f"counts of block {b}")
            packed = self.packed[packed_at:packed_at + width * sequences]
            need(width == (1 if longest < 256 else 2 if longest < 65536 else 4), "length width")
            need(crc32c(packed) == lengths_crc and int(block.lengths.max()) == longest and
                 np.array_equal(np.frombuffer(packed, f"<u{width}"), block.lengths),
                 f"lengths of block {b}")
            contents.append(raw)
            self.blocks.append(block)
            at, packed_at, first = at + size, packed_at + len(packed), first + sequences
        need(packed_at == len(self.packed), "lengths behind the last")
        need(self.length_min == min(int(b.lengths.min()) for b in self.blocks), "shortest length")
        need(xxh3_128(b"".join(contents)) in (None, self.content), "content hash")
        for column, (values, count_max, _) in zip(self.columns, self.column_entries):
            ragged = column.kind == "ragged"
            counts = [np.diff(b.counts[column.name]) for b in self.blocks] if ragged else []
            have = sum(len(b.values[column.name]) for b in self.blocks)
            need(values == have and count_max == max([int(c.max()) for c in counts], default=0),
                 f"column {column.name}")


class Dataset:
    def __init__(self, manifest, shards):
        self.manifest, self.shards = manifest, shards
        self.id, self.pad_id = manifest["id"], manifest["pad_id"]
        self.label_names = manifest.get("label_names", [])
        self.columns = shards[0].columns
        self.blocks = [block for shard in shards for block in shard.blocks]
        self.sequences, self.tokens = manifest["sequences"], manifest["tokens"]
        self._ends = np.cumsum([block.sequences for block in self.blocks])

    def __len__(self):
        return self.sequences

    def __getitem__(self, i):
        """Sequence i as a dictionary: column name -> values."""
        if not 0 <= i < self.sequences:
            raise IndexError(i)
        b = int(np.searchsorted(self._ends, i, side="right"))
        block = self.blocks[b]
        return block.row(self.columns, i - (int(self._ends[b]) - block.sequences))

    @property
    def lengths(self):
        return np.concatenate([block.lengths for block in self.blocks])


def dataset_id(shards):
    columns = shards[0].columns
    data = b"SQF-ID\x01\x00" + struct.pack("<Q", len(columns))
    data += b"".join(column.record for column in columns)
    for shard in shards:
        data += shard.content
        data += struct.pack("<QQQ", shard.sequences, shard.tokens, len(shard.blocks))
        data += b"".join(struct.pack("<II", b.sequences, b.tokens) for b in shard.blocks)
    return xxh3_128(data)


def read_manifest(data):
    tail = b'  "checksum": "crc32c:%08x"\n}\n' % crc32c(data[:-34])
    need(data[-34:] == tail, "dataset.json checksum")
    manifest = json.loads(data)
    need(manifest["format"] == "seqfeed-dataset" and manifest["version"] == 1, "dataset.json")
    paths = [shard["path"] for shard in manifest["shards"]]
    need(len(set(paths)) == len(paths) and
         all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", path) for path in paths), "shard paths")
    return manifest


def read_shard(path):
    with open(path, "rb") as file:
        return Shard(file.read())


def read_dataset(directory):
    """Read and check a whole dataset."""
    with open(os.path.join(directory, "dataset.json"), "rb") as file:
        manifest = read_manifest(file.read())
    shards = []
    for entry in manifest["shards"]:
        path = os.path.join(directory, entry["path"])
        shard = read_shard(path)
        said = (os.path.getsize(path), shard.sequences, shard.tokens, len(shard.blocks),
                shard.length_max, shard.content.hex())
        need(said == tuple(entry[key] for key in ("bytes", "sequences", "tokens", "blocks",
                                                  "length_max", "content")), entry["path"])
        need([c.as_json() for c in shard.columns] == manifest["columns"] and
             shard.pad_id == manifest["pad_id"], "columns or pad id of " + entry["path"])
        shards.append(shard)
    for key, index in (("sequences", "sequences"), ("tokens", "tokens")):
        need(manifest[key] == sum(getattr(shard, index) for shard in shards), key)
    digest = dataset_id(shards)
    need(digest is None or digest.hex() == manifest["id"], "dataset id")
    return Dataset(manifest, shards)


def main():
    if len(sys.argv) != 2:
        print("usage: shard_reader.py DATASET", file=sys.stderr)
        return 2
    dataset = read_dataset(sys.argv[1])
    for i in range(len(dataset)):
        row = {name: values.tolist() for name, values in dataset[i].items()}
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
