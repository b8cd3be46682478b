# SPDX-License-Identifier: MIT
"""A trainer in plain Python, written from docs/formats/protocol.md and ring.md alone. It shares no
code with the C client, and does what no proper client would when a test asks for that."""
import array
import contextlib
import errno
import mmap
import os
import socket
import struct
import time

import numpy

MAGIC = 0x46515331
RING_MAGIC = 0x31474E4952465153
HELLO, HELLO_REPLY, ATTACH, WELCOME, ERROR, WAITING, CLOSING, REQUEST, TEXT = range(1, 10)
HAS_SEED, JOIN_NEXT, HAS_CURSOR = 1, 2, 4
REPEATED, EPOCH_END, FIRST = 1, 2, 4
RUN, DRAIN, FAILED, CLOSED = range(4)
HEAD_AT, STATE_AT, ERROR_CODE_AT, WAKE_AT, ERROR_TEXT_AT = 2048, 2116, 2120, 2176, 2240

ATTACH_FORMAT = struct.Struct("<II64s128sIIIIQIIq520s")
WELCOME_FORMAT = struct.Struct("<IIQQQQQII")
NOTICE_FORMAT = struct.Struct("<IIiI512s")
RING_FORMAT = struct.Struct("<QIIQQQQIIIIII16s")
DESCRIPTOR_FORMAT = struct.Struct("<QQQQQIIQQQIIQ40s520s")
TENSOR_FORMAT = struct.Struct("<32sIIII4q4qqqQQ")
TENSORS_AT, TENSORS_MAX = 704, 24
DTYPES = {1: "bool", 2: "uint8", 3: "int32", 4: "int64", 5: "float16", 6: "uint16", 7: "float32"}


class Refused(Exception):
    """The daemon said no."""

    def __init__(self, code, text):
        super().__init__(f"{errno.errorcode.get(-code, code)}: {text}")
        self.code, self.text = code, text


def text_of(raw):
    return raw.split(b"\0", 1)[0].decode()


def attach_message(feed, group="", rank=0, world=1, local_ranks=1, members=1, seed=None, cursor=None,
                   join_next=False, deadline=60.0, flags=0, reserved=0):
    flags |= (HAS_SEED if seed is not None else 0) | (JOIN_NEXT if join_next else 0)
    flags |= HAS_CURSOR if cursor is not None else 0
    return ATTACH_FORMAT.pack(ATTACH, ATTACH_FORMAT.size, feed.encode(), group.encode(), rank, world,
                              local_ranks, members, seed or 0, flags, reserved, int(deadline * 1e9),
                              (cursor or "").encode())


class Connection:
    """The socket and its messages."""

    def __init__(self, path, timeout=20.0):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.waited = []

    def send(self, message):
        self.socket.send(message)

    def receive(self):
        """(type, bytes, descriptors) of the next message; (None, b"", []) at the end."""
        fds = array.array("i")
        try:
            data, ancillary, _, _ = self.socket.recvmsg(8192, socket.CMSG_SPACE(8 * fds.itemsize))
        except ConnectionResetError:
            return None, b"", []
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
        if not data:
            return None, b"", []
        kind, size = struct.unpack_from("<II", data)
        assert size == len(data), f"message {kind} says {size} bytes and has {len(data)}"
        return kind, data, list(fds)

    def hello(self, low=1, high=1, magic=MAGIC, reserved=0):
        self.send(struct.pack("<IIIIII", HELLO, 24, magic, low, high, reserved))
        kind, data, _ = self.receive()
        if kind == ERROR:
            self.refuse(data)
        assert kind == HELLO_REPLY, kind
        return struct.unpack_from("<I", data, 8)[0]

    @staticmethod
    def refuse(data):
        _, _, code, _, text = NOTICE_FORMAT.unpack(data)
        raise Refused(code, text_of(text))

    def welcome(self):
        """Wait for WELCOME: (fields, descriptors). What WAITING says is kept in `waited`."""
        while True:
            kind, data, fds = self.receive()
            if kind == WAITING:
                self.waited.append(text_of(NOTICE_FORMAT.unpack(data)[4]))
            elif kind in (ERROR, CLOSING):
                self.refuse(data)
            elif kind == WELCOME:
                return WELCOME_FORMAT.unpack(data), fds
            else:
                raise ConnectionError(f"the daemon ended the conversation (message {kind})")

    def close(self):
        self.socket.close()


class Batch:
    def __init__(self, number, fields, tensors):
        (_, self.epoch, self.index, self.tokens, self.slots, self.rows, self.flags, self.epoch_length,
         self.next_epoch, self.next_index, _, self.sequences, self.squares, _, cursor) = fields
        self.number = number
        self.cursor = text_of(cursor)
        self.tensors = tensors


class Trainer:
    """One attachment: Trainer(socket_path, "train", rank=0, ...)."""

    def __init__(self, path, feed, **options):
        self.connection = Connection(path)
        self.connection.hello()
        self.connection.send(attach_message(feed, **options))
        fields, fds = self.connection.welcome()
        (_, _, self.ring_bytes, self.first, self.start_epoch, self.start_index, self.epoch_length,
         self.member, _) = fields
        assert len(fds) == 2, fds
        self.data_fd, self.ack_fd = fds
        self.data = mmap.mmap(self.data_fd, self.ring_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        self.ack = mmap.mmap(self.ack_fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # One aligned store or load of eight bytes each, as the format asks for.
        self.words = numpy.frombuffer(self.data, numpy.uint64)
        self.ack_words = numpy.frombuffer(self.ack, numpy.uint64)
        (magic, self.version, _, ring_bytes, self.descriptors_at, self.slots_at, self.slot_bytes,
         self.descriptor_bytes, self.slot_count, self.rank, self.world, self.daemon_pid, _,
         self.instance) = RING_FORMAT.unpack_from(self.data)
        assert magic == RING_MAGIC and ring_bytes == self.ring_bytes
        self.taken = self.released = self.first

    @property
    def head(self):
        return int(self.words[HEAD_AT // 8])

    @property
    def state(self):
        return struct.unpack_from("<I", self.data, STATE_AT)[0]

    @property
    def error(self):
        return (struct.unpack_from("<i", self.data, ERROR_CODE_AT)[0],
                text_of(self.data[ERROR_TEXT_AT:ERROR_TEXT_AT + 512]))

    def tensor(self, at, slot):
        record = TENSOR_FORMAT.unpack_from(self.data, at)
        name, dtype, ndim, shape, offset = record[0], record[1], record[2], record[5:9], record[15]
        size = record[16]
        kind = numpy.dtype(DTYPES[dtype])
        assert offset % 256 == 0 and offset + size <= self.slot_bytes
        view = numpy.frombuffer(self.data, kind, size // kind.itemsize, slot + offset)
        return text_of(name), view.reshape(shape[:ndim])

    def next(self, timeout=20.0):
        """The next batch, leased until release()."""
        deadline = time.monotonic() + timeout
        while self.head <= self.taken:
            if self.state != RUN:
                raise Refused(*self.error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"no batch {self.taken} within {timeout} s")
            time.sleep(0.0005)
        number = self.taken
        at = self.descriptors_at + number % self.slot_count * self.descriptor_bytes
        fields = DESCRIPTOR_FORMAT.unpack_from(self.data, at)
        assert fields[0] == number, f"slot holds batch {fields[0]}, not {number}"
        slot = self.slots_at + number % self.slot_count * self.slot_bytes
        tensors = dict(self.tensor(at + TENSORS_AT + i * TENSOR_FORMAT.size, slot)
                       for i in range(fields[10]))
        self.taken += 1
        return Batch(number, fields, tensors)

    def release(self, upto=None):
        """Give back all batches below `upto` (default: all that were taken)."""
        before, self.released = self.released, self.taken if upto is None else upto
        self.ack_words[0] = self.released
        wake_at = int(self.words[WAKE_AT // 8])
        waker = int(self.words[WAKE_AT // 8 + 1]) & 0xFFFFFFFF
        if before < wake_at <= self.released and waker in (0, self.member + 1):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have died
                self.connection.send(b"\1")

    def close(self):
        self.connection.close()
        self.words = self.ack_words = None
        for mapping in (self.data, self.ack):
            try:
                mapping.close()
            except BufferError:
                pass  # a test still looks at a tensor; the mapping goes with it
        os.close(self.data_fd)
        os.close(self.ack_fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
