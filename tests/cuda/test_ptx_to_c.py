#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""ptx_to_c.py and the machine below it: what each instruction does, beside the PTX manual's words written down in
Python once more; what is refused; which faults of memory are seen. Needs a C compiler (CC) and nothing of CUDA's.
"""
import ctypes
import os
import pathlib
import random
import shlex
import subprocess
import tempfile
import unittest

import ptx_to_c

HERE = pathlib.Path(__file__).resolve().parent
CASES = 400  # threads of each kernel
PLACE = 8  # bytes of an operand in the buffers
IN, OUT = 0x2FFFFFF00, 0x3FFFFFF00
EDGES = [0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
         0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 2**63 - 1, 2**63, 2**64 - 1]


# --- the machine ----------------------------------------------------------------------------------

class Buffer(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("address", ctypes.c_uint64), ("size", ctypes.c_uint64),
                ("bytes", ctypes.c_void_p)]


class Kernel(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("run", ctypes.c_void_p), ("param_count", ctypes.c_uint32),
                ("params", ctypes.c_uint32 * 16), ("instructions", ctypes.c_uint32)]


class Module(ctypes.Structure):
    _fields_ = [("target", ctypes.c_char_p), ("refusal", ctypes.c_char_p), ("kernels", ctypes.POINTER(Kernel)),
                ("count", ctypes.c_uint32)]


class Launch(ctypes.Structure):
    _fields_ = [("grid", ctypes.c_uint32), ("block", ctypes.c_uint32), ("blocks", ctypes.c_uint32 * 2),
                ("threads", ctypes.c_uint32 * 2), ("arguments", ctypes.c_void_p * 8), ("reads", Buffer * 2),
                ("stores", Buffer)]


class Machine:
    """The kernels of a PTX text, translated and compiled."""

    def __init__(self, ptx):
        with tempfile.TemporaryDirectory() as folder:
            source, target = f"{folder}/a.ptx", f"{folder}/a.c"
            pathlib.Path(source).write_text(HEAD + ptx, encoding="utf-8")
            ptx_to_c.main(source, target)
            subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-w", "-O1", "-shared", "-fPIC", "-I",
                            HERE.parent, target, HERE / "ptx_machine.c", "-o", f"{folder}/a.so"], check=True)
            self.library = ctypes.CDLL(f"{folder}/a.so")
        self.library.ptx_kernel.restype = ctypes.POINTER(Kernel)
        self.module = Module.in_dll(self.library, "ptx_module")

    def run(self, name, data, size, arguments=None, grid=1, block=1):
        """What a kernel stores in `size` bytes, and the machine's word where it stops."""
        given, out = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(b"\xcc" * size, size)
        values = arguments or [ctypes.c_uint64(IN), ctypes.c_uint64(OUT)]
        launch = Launch(grid, block, (0, grid), (0, block))
        for i, value in enumerate(values):
            launch.arguments[i] = ctypes.addressof(value)
        launch.reads[0] = Buffer(b"the input", IN, len(data), ctypes.addressof(given))
        launch.stores = Buffer(b"the output", OUT, size, ctypes.addressof(out))
        kernel = self.library.ptx_kernel(ctypes.byref(self.module), name.encode())
        fault = ctypes.create_string_buffer(256)
        failed = self.library.ptx_launch(kernel, ctypes.byref(launch), fault)
        return out.raw, fault.value.decode() if failed else None


HEAD = ".version 9.0\n.target sm_75\n.address_size 64\n"
REGISTERS = ".reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<19>; .reg .b64 %rd<19>;"


LINE = 11  # where the body of a first entry begins


def entry(name, body, params=".param .u64 in, .param .u64 out"):
    """A kernel: %rd1 and %rd2 are its buffers, %r1 its thread in its block."""
    return (f".visible .entry {name}({params})\n.maxntid 1024, 1, 1\n{{\n{REGISTERS}\nld.param.u64 %rd1, [in];\n"
            f"ld.param.u64 %rd2, [out];\nmov.u32 %r1, %tid.x;\n{body}\nret;\n}}\n")


# --- what the manual says -------------------------------------------------------------------------

def width(kind):
    return 1 if kind == "pred" else int(kind[1:])


def read(kind, value):
    """The number that the lowest bits of a register are to an instruction of a type."""
    value &= (1 << width(kind)) - 1
    return value - (1 << width(kind)) if kind[0] == "s" and value >> (width(kind) - 1) else value


def bfi(bits):
    def insert(a, b, place, count):
        for i in range(count):
            if place + i < bits:
                b = b & ~(1 << place + i) | (a >> i & 1) << place + i
        return b
    return insert


def prmt(a, b, picks):
    given = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    chosen = [(given[picks >> 4 * i & 7], picks >> 4 * i & 8) for i in range(4)]
    return int.from_bytes(bytes(byte // 128 * 255 if sign else byte for byte, sign in chosen), "little")


def shf(left, wrap):
    def shift(a, b, c):
        n = c & 31 if wrap else min(c, 32)
        return b << n | a >> 32 - n if left else b << 32 - n | a >> n
    return shift


def operations():
    """Opcode, type of its result, types of its sources, the result from its sources as numbers."""
    words = [f"{kind}{bits}" for kind in "bsu" for bits in (16, 32, 64)]
    for kind in words:
        bits = width(kind)
        yield f"mov.{kind}", kind, [kind], lambda a: a
        yield f"selp.{kind}", kind, [kind, kind, "pred"], lambda a, b, p: a if p else b
        yield f"setp.eq.{kind}", "pred", [kind] * 2, lambda a, b: a == b
        yield f"setp.ne.{kind}", "pred", [kind] * 2, lambda a, b: a != b
        if kind[0] == "b":
            yield f"and.{kind}", kind, [kind] * 2, lambda a, b: a & b
            yield f"or.{kind}", kind, [kind] * 2, lambda a, b: a | b
            yield f"xor.{kind}", kind, [kind] * 2, lambda a, b: a ^ b
            yield f"not.{kind}", kind, [kind], lambda a: ~a
            yield f"shl.{kind}", kind, [kind, "u32"], lambda a, n, bits=bits: a << n if n < bits else 0
            yield f"shr.{kind}", kind, [kind, "u32"], lambda a, n: a >> min(n, 64)
            continue
        yield f"add.{kind}", kind, [kind] * 2, lambda a, b: a + b
        yield f"sub.{kind}", kind, [kind] * 2, lambda a, b: a - b
        yield f"mul.lo.{kind}", kind, [kind] * 2, lambda a, b: a * b
        yield f"mul.hi.{kind}", kind, [kind] * 2, lambda a, b, bits=bits: a * b >> bits
        yield f"mad.lo.{kind}", kind, [kind] * 3, lambda a, b, c: a * b + c
        yield f"min.{kind}", kind, [kind] * 2, min
        yield f"max.{kind}", kind, [kind] * 2, max
        yield f"shr.{kind}", kind, [kind, "u32"], lambda a, n: a >> min(n, 64)
        yield f"setp.lt.{kind}", "pred", [kind] * 2, lambda a, b: a < b
        yield f"setp.le.{kind}", "pred", [kind] * 2, lambda a, b: a <= b
        yield f"setp.gt.{kind}", "pred", [kind] * 2, lambda a, b: a > b
        yield f"setp.ge.{kind}", "pred", [kind] * 2, lambda a, b: a >= b
        if bits < 64:
            yield f"mul.wide.{kind}", f"{kind[0]}{2 * bits}", [kind] * 2, lambda a, b: a * b
        if kind[0] == "s":
            yield f"neg.{kind}", kind, [kind], lambda a: -a
        else:
            yield f"div.{kind}", kind, [kind] * 2, lambda a, b: a // b
            yield f"rem.{kind}", kind, [kind] * 2, lambda a, b: a % b
    for kind in ("b32", "b64"):
        yield f"clz.{kind}", "u32", [kind], lambda a, bits=width(kind): bits - a.bit_length()
        yield f"popc.{kind}", "u32", [kind], lambda a: bin(a).count("1")
        yield f"bfi.{kind}", kind, [kind, kind, "u32", "u32"], bfi(width(kind))
    for side in "lr":
        for mode in ("wrap", "clamp"):
            yield f"shf.{side}.{mode}.b32", "b32", ["b32", "b32", "u32"], shf(side == "l", mode == "wrap")
    yield "prmt.b32", "b32", ["b32"] * 3, prmt
    yield "mov.pred", "pred", ["pred"], lambda a: a
    yield "not.pred", "pred", ["pred"], lambda a: 1 - a
    yield "and.pred", "pred", ["pred"] * 2, lambda a, b: a and b
    yield "or.pred", "pred", ["pred"] * 2, lambda a, b: a or b
    yield "xor.pred", "pred", ["pred"] * 2, lambda a, b: a != b
    yield "cvta.to.global.u64", "u64", ["u64"], lambda a: a


# --- kernels --------------------------------------------------------------------------------------

def register(kind, number):
    return {1: "%p", 8: "%rs", 16: "%rs", 32: "%r", 64: "%rd"}[width(kind)] + str(number)


# %rd3 and %rd4: the thread's operands and its result.
PLACES = (f"mul.wide.u32 %rd3, %r1, {4 * PLACE}; add.s64 %rd3, %rd1, %rd3;\n"
          f"mul.wide.u32 %rd4, %r1, {PLACE}; add.s64 %rd4, %rd2, %rd4;\n")


def operation_kernel(name, opcode, result, sources, constant=None):
    """The result of each thread's operands, the last of which may be a constant."""
    lines, names = [], []
    for i, kind in enumerate(sources):
        names.append(register(kind, 5 + i))
        if kind == "pred":
            lines += [f"ld.global.nc.u32 %r4, [%rd3+{PLACE * i}];", "and.b32 %r4, %r4, 1;",
                      f"setp.ne.s32 {names[i]}, %r4, 0;"]
        else:
            lines.append(f"ld.global.nc.u{width(kind)} {names[i]}, [%rd3+{PLACE * i}];")
    if constant is not None:
        names[-1] = constant
    lines.append(f"{opcode} {', '.join([register(result, 0), *names])};")
    if result == "pred":
        lines.append("selp.b32 %r0, 1, 0, %p0;")
    stored = "u32" if result == "pred" else f"u{width(result)}"
    lines.append(f"st.global.{stored} [%rd4], {register(stored, 0)};")
    return entry(name, PLACES + "\n".join(lines))


def draw_number(generator, kind, opcode, place):
    if place == 1 and opcode[:3] in ("div", "rem"):
        return generator.choice([1, 3, 7, 16, 255, 65535, generator.getrandbits(width(kind)) | 1])
    if place >= 2 and opcode.startswith("bfi"):
        return generator.choice([generator.randrange(70), generator.randrange(256)])
    return generator.choice([generator.choice(EDGES), generator.getrandbits(64), generator.randrange(70),
                             generator.getrandbits(generator.randrange(1, 65))])


def constants(generator, opcode, kinds):
    """Texts that may stand for the last source: none, an unsigned one and a signed one."""
    if "pred" in kinds and opcode != "mov.pred" or opcode.startswith("cvta"):
        return [None]
    bits = width(kinds[-1])
    value = draw_number(generator, kinds[-1], opcode, len(kinds) - 1) % 2**bits
    return [None, hex(value) + "U", str(read(f"s{bits}", value))]


class Operations(unittest.TestCase):
    """All arithmetic, with registers and with constants."""

    def check(self, machine, name, operation, constant):
        opcode, result, kinds, expected = operation
        generator = random.Random(name)
        cases = []
        for _ in range(CASES):
            case = [draw_number(generator, kind, opcode, i) % 2**64 for i, kind in enumerate(kinds)]
            cases.append(case if constant is None else case[:-1] + [int(constant.strip("U"), 0) % 2**64])
        data = b"".join((case + [0] * 4)[i].to_bytes(PLACE, "little") for case in cases for i in range(4))
        out, fault = machine.run(name, data, CASES * PLACE, block=CASES)
        self.assertIsNone(fault)
        size = 4 if result == "pred" else width(result) // 8
        for i, case in enumerate(cases):
            numbers = [read(kind, value) for kind, value in zip(kinds, case)]
            wanted = expected(*numbers) % 2**width(result)
            self.assertEqual(out[i * PLACE:][:PLACE], wanted.to_bytes(size, "little") + b"\xcc" * (PLACE - size),
                             f"{opcode} of {numbers}, wanted {wanted:#x}")

    def test_operations(self):
        every, ptx, generator = {}, "", random.Random(1)
        for operation in operations():
            opcode, result, kinds, _ = operation
            for number, constant in enumerate(constants(generator, opcode, kinds)):
                name = f"{opcode.replace('.', '_')}_{number}_"
                every[name] = (operation, constant)
                ptx += operation_kernel(name, opcode, result, kinds, constant)
        machine = Machine(ptx)
        self.assertIsNone(machine.module.refusal)
        for name, (operation, constant) in every.items():
            with self.subTest(name):
                self.check(machine, name, operation, constant)

    def test_no_form_is_left_out(self):
        opcodes = [opcode for opcode, *_ in operations()]
        for pattern, *_ in ptx_to_c.PATTERNS:
            self.assertTrue(any(map(pattern.fullmatch, opcodes)), pattern.pattern)


class Statements(unittest.TestCase):
    """What is not arithmetic."""

    def stored(self, body, data=bytes(64), size=64, **launch):
        machine = Machine(entry("k", body))
        self.assertIsNone(machine.module.refusal)
        out, fault = machine.run("k", data, size, **launch)
        self.assertIsNone(fault)
        return out

    def test_conversions(self):
        kinds = [f"{sign}{bits}" for sign in "su" for bits in (8, 16, 32, 64)]
        value = 0x8182_8384_F5F6_F7F8
        body, wanted, at = "ld.global.nc.u64 %rd5, [%rd1];\n", b"", 0
        for source in kinds:
            for target in kinds:
                body += f"cvt.{target}.{source} %rd0, %rd5; st.global.u64 [%rd2+{at}], %rd0;\n"
                wanted += (read(target, read(source, value)) % 2**64).to_bytes(8, "little")
                at += 8
        self.assertEqual(self.stored(body, value.to_bytes(8, "little"), at), wanted)

    def test_loads_and_stores_of_each_width(self):
        data = bytes(range(0xF0, 0x100)) * 2
        body, wanted = "", b""
        for kind in [f"{sign}{bits}" for sign in "sub" for bits in (8, 16, 32, 64)]:
            size = width(kind) // 8
            loaded = read(kind, int.from_bytes(data[:size], "little"))
            body += (f"ld.global.nc.{kind} %rd0, [%rd1+16]; st.global.u64 [%rd2+{len(wanted)}], %rd0;\n"
                     f"st.global.{kind} [%rd2+{len(wanted) + 8}], %rd0;\n")
            wanted += (loaded % 2**64).to_bytes(8, "little") + data[:size] + b"\xcc" * (8 - size)
        self.assertEqual(self.stored(body, data, len(wanted)), wanted)

    def test_vectors(self):
        data = bytes(range(32))
        out = self.stored("ld.global.nc.v4.u32 {%r5,%r6,%r7,%r8}, [%rd1+16];\n"
                          "st.global.cs.v4.u32 [%rd2+16], {%r8, %r7, %r6, %r5};\n"
                          "ld.global.v2.u8 {%rs1, %rs2}, [%rd1+2]; st.global.v2.u8 [%rd2+-0], {%rs2,%rs1};\n"
                          "ld.global.nc.v2.u64 {%rd5,%rd6}, [%rd1]; st.global.v2.b64 [%rd2+32], {%rd6,%rd5};", data)
        swapped = data[28:32] + data[24:28] + data[20:24] + data[16:20]
        self.assertEqual(out, b"\x03\x02" + b"\xcc" * 14 + swapped + data[8:16] + data[:8] + b"\xcc" * 16)

    def test_packing(self):
        out = self.stored("ld.global.nc.u64 %rd5, [%rd1]; mov.b64 {%r5, %r6}, %rd5; mov.b64 %rd6, {%r6, %r5};\n"
                          "{ .reg .b32 half; mov.b64 {_, half}, %rd5; st.global.u32 [%rd2+8], half; }\n"
                          "{ .reg .b32 half; mov.b64 {half, _}, %rd5; st.global.u32 [%rd2+12], half; }\n"
                          "mov.b32 {%rs1, %rs2}, %r5; mov.b32 %r7, {%rs2, %rs1}; st.global.u32 [%rd2+16], %r7;\n"
                          "st.global.u64 [%rd2], %rd6;", bytes(range(8)), 20)
        self.assertEqual(list(out), [4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 2, 3, 0, 1])

    def test_branches_guards_and_places_in_the_grid(self):
        # The sum of 0 .. thread in the grid, by a loop; odd ones are negated.
        body = ("mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mad.lo.s32 %r2, %r2, %r3, %r1; mov.u32 %r4, 0;\n"
                "mov.u32 %r5, %r2;\n$L_1:\nsetp.eq.s32 %p1, %r5, 0;\n@%p1 bra $L_2;\nadd.s32 %r4, %r4, %r5;\n"
                "add.s32 %r5, %r5, -1;\nbra.uni $L_1;\n$L_2: and.b32 %r6, %r2, 1; setp.ne.s32 %p2, %r6, 0;\n"
                "@%p2 neg.s32 %r4, %r4;\n@!%p2 add.s32 %r4, %r4, 1000;\nmul.wide.u32 %rd3, %r2, 4;\n"
                "add.s64 %rd3, %rd2, %rd3; st.global.u32 [%rd3], %r4;\n"
                "mov.u32 %r7, %nctaid.x; setp.ne.s32 %p3, %r7, 3; @!%p3 ret; st.global.u8 [%rd2], 1;")
        sums = [sum(range(i + 1)) for i in range(30)]
        wanted = b"".join((-n if i % 2 else n + 1000).to_bytes(4, "little", signed=True) for i, n in enumerate(sums))
        self.assertEqual(self.stored(body, size=120, grid=3, block=10), wanted)

    def test_parameters_lie_as_the_manual_says(self):
        params = (".param .u8 a, .param .align 4 .b8 b[12],\n.param .u16 c, .param .u64 .ptr .align 1 in,\n"
                  ".param .u64 out")
        ptx = entry("k", "ld.param.u8 %r2, [a]; ld.param.u32 %r3, [b+8]; ld.param.u16 %rs1, [c];\n"
                    "mov.b64 %rd5, b; add.s64 %rd5, %rd5, 4; ld.param.u32 %r4, [%rd5+-4];\n"
                    "st.global.v4.u32 [%rd2], {%r2, %r3, %r4, %r1}; st.global.u16 [%rd2+16], %rs1;", params)
        text = b"abcdefghijkl"
        given = [ctypes.c_uint8(7), ctypes.create_string_buffer(text, 12), ctypes.c_uint16(0x1234),
                 ctypes.c_uint64(IN), ctypes.c_uint64(OUT)]
        machine = Machine(ptx)
        kernel = machine.module.kernels[0]
        self.assertEqual(list(kernel.params)[:10], [0, 1, 4, 12, 16, 2, 24, 8, 32, 8])
        out, fault = machine.run("k", b"", 18, given)
        self.assertIsNone(fault)
        self.assertEqual(out, bytes([7, 0, 0, 0]) + text[8:] + text[:4] + bytes(4) + b"\x34\x12")

    def test_a_register_holds_nothing_that_one_could_rely_on(self):
        out = self.stored(PLACES + "selp.b32 %r9, %r8, %r8, %p8; st.global.u32 [%rd4], %r9; cvt.u32.u16 %r9, %rs8;\n"
                          "selp.b32 %r9, 1, 0, %p7; st.global.u32 [%rd4+4], %r9;", size=64, block=8)
        words = [out[i:i + 4] for i in range(0, 64, 4)]
        self.assertEqual(len(set(words[::2])), 8)
        self.assertNotIn(bytes(4), words[::2])
        self.assertEqual(len(set(words[1::2])), 2)


class Faults(unittest.TestCase):
    """What stops a launch."""

    def check(self, body, said):
        _, fault = Machine(entry("k", body)).run("k", bytes(64), 64, block=2)
        self.assertIn(said, fault or "nothing")
        self.assertIn(": ", fault)

    def test_alignment(self):
        for body in ("ld.global.u32 %r2, [%rd1+2];", "ld.global.nc.v2.u32 {%r2,%r3}, [%rd1+4];",
                     "st.global.cs.v4.u32 [%rd2+8], {%r1,%r1,%r1,%r1};", "ld.param.u64 %rd3, [in+4];"):
            self.check(body, f"not aligned (PTX line {LINE}: {body}")

    def test_reads_outside(self):
        for body in ("ld.global.nc.u8 %r2, [%rd1+64];", "ld.global.u8 %r2, [%rd1+-1];",
                     "ld.global.nc.u8 %r2, [%rd2+64];", "mov.b64 %rd3, in; ld.global.u64 %rd4, [%rd3];",
                     "and.b64 %rd3, %rd1, 4294967295; ld.global.u8 %r2, [%rd3];"):
            self.check(body, "outside of all buffers")
        self.check("ld.param.u64 %rd3, [out+8];", "outside of the parameters")

    def test_stores_outside(self):
        for body in ("st.global.u8 [%rd2+64], 0;", "st.global.u32 [%rd2+-4], %r1;", "st.global.u8 [%rd1], 0;"):
            self.check(body, "a store outside of the output")

    def test_reads_of_what_is_stored(self):
        for kind in ("ld.global", "ld.global.nc"):
            self.check(f"{kind}.u8 %r2, [%rd2+63];", "a read of what the launch stores to: the output")

    def test_two_stores_to_a_byte(self):
        self.check("setp.ne.s32 %p1, %r1, 0; @!%p1 st.global.u64 [%rd2], %rd1; @%p1 st.global.u8 [%rd2+7], 0;",
                   "thread 1: a second store to a byte of the output")

    def test_division_by_0(self):
        self.check("div.u32 %r2, 4, %r1;", "a division by 0")


class Refusals(unittest.TestCase):
    """What is not known, with its line."""

    def check(self, ptx, said):
        with self.assertRaises(ptx_to_c.Refusal) as raised:
            ptx_to_c.read_module(HEAD + ptx)
        self.assertIn(said, str(raised.exception))

    def test_instructions(self):
        for text in ("bar.sync 0;", "atom.global.add.u32 %r1, [%rd1], 1;", "red.global.add.u32 [%rd1], 1;",
                     "membar.gl;", "ld.shared.u32 %r1, [%rd1];", "ld.local.u32 %r1, [%rd1];",
                     "ld.u32 %r1, [%rd1];", "ld.const.u8 %r1, [%rd1];", "ld.volatile.global.u32 %r1, [%rd1];",
                     "st.shared.u32 [%rd1], %r1;", "add.cc.u32 %r1, %r1, %r1;", "add.sat.s32 %r1, %r1, %r1;",
                     "add.f32 %r1, %r1, %r1;", "cvt.sat.u8.u32 %r1, %r1;", "cvt.rn.f32.u32 %r1, %r1;",
                     "prmt.b32.f4e %r1, %r1, %r1, 1;", "setp.lt.and.u32 %p1, %r1, 1, %p2;",
                     "setp.eq.s32 %p1|%p2, %r1, 1;", "div.s32 %r1, %r1, 3;",
                     "shfl.sync.idx.b32 %r1, %r1, 0, 31, -1;", "call.uni nothing;", "exit;",
                     "brx.idx %r1, table;", "setp.lt.b32 %p1, %r1, 1;", "shf.l.b32 %r1, %r1, %r1, 1;",
                     "nanosleep.u32 1;"):
            self.check(entry("k", text), f"{LINE}: {text} -- ")

    def test_operands(self):
        for text in ("add.s32 %r1, %r1;", "add.s32 %r1, %rd1, 1;", "add.s64 %r1, %rd1, 1;",
                     "mov.u32 %r1, %laneid;", "add.s32 %r1, %r99, 1;", "mov.u32 %r1, table;",
                     "add.s32 %r1, 1, 010;", "ld.global.v2.u32 {%r1}, [%rd1];", "ld.global.u32 %r1, [%r1];",
                     "ld.global.u64 %r1, [%rd1];", "ld.global.u32 %r1, [table];", "selp.b32 %r1, 1, 0, %r2;",
                     "@%r1 ret;", "mov.b64 %r1, in;", "add.s32 %r1 %r1, 1;"):
            self.check(entry("k", text), f"{LINE}: {text} -- ")

    def test_declarations(self):
        for text in (".shared .align 4 .b8 room[64];", ".local .align 8 .b8 depot[16];", ".reg .f32 %f<2>;",
                     ".reg .b128 %q;", '.pragma "frequency 1";', ".loc 1 2 3;"):
            self.check(entry("k", text), f"{LINE}: {text} -- ")
        for text in (".global .align 4 .u32 table[2] = {1, 2};", ".const .u32 one = 1;",
                     ".extern .shared .b8 room[];", ".func helper() { ret; }",
                     ".entry k(.param .f32 x) { ret; }", ".entry k() .reqntid 32 { ret; }"):
            self.check(text, text.split()[0] if "param" not in text else "the parameter .param .f32 x")

    def test_a_refusal_is_what_the_module_says(self):
        module = Machine(entry("k", "bar.sync 0;")).module
        self.assertEqual(module.refusal.decode(),
                         f"a.ptx:{LINE}: bar.sync 0; -- the instruction bar.sync is not known")
        self.assertEqual(module.count, 0)


if __name__ == "__main__":
    unittest.main()
