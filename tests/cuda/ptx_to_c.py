#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""ptx_to_c.py PTX C: the kernels of a PTX file as C functions, in a PtxModule `ptx_module` (ptx_machine.h).

Each instruction becomes one line of C that does what the PTX manual says of it; an access to memory takes its
text along. What is not known here is refused with its line, and nothing is left out: the module then has no
kernels but the refusal, so that the build goes on and the test says what is missing.
"""
import pathlib
import re
import sys

TYPES = {"pred": ("bool", 1)}
for bits in (8, 16, 32, 64):
    TYPES |= {f"b{bits}": (f"uint{bits}_t", bits), f"u{bits}": (f"uint{bits}_t", bits),
              f"s{bits}": (f"int{bits}_t", bits)}
SPECIAL = {"%tid.x": "thread->tid", "%ctaid.x": "thread->ctaid", "%ntid.x": "thread->ntid",
           "%nctaid.x": "thread->nctaid"}

# Kinds of types in an opcode. T is the type that stands there, W is twice as wide.
KINDS = {"any": "[bsu](?:16|32|64)", "word": "[bsu](?:32|64)", "unsigned": "[bu](?:16|32|64)",
         "signed": "s(?:16|32|64)", "half": "[su](?:16|32)", "number": "[su](?:16|32|64)", "pred": "pred"}
COMPARISONS = [("eq", "any", "=="), ("ne", "any", "!="), ("lt", "number", "<"), ("le", "number", "<="),
               ("gt", "number", ">"), ("ge", "number", ">=")]
# Opcode, type of the result, types of the sources, what it is in C. Sums and products wrap: their lower bits are
# right whatever the upper bits of the sources are.
FORMS = [
    ("add.<any>", "T", "T T", "(uint64_t){0} + (uint64_t){1}"),
    ("sub.<any>", "T", "T T", "(uint64_t){0} - (uint64_t){1}"),
    ("neg.<signed>", "T", "T", "0 - (uint64_t){0}"),
    ("mul.lo.<any>", "T", "T T", "(uint64_t){0} * (uint64_t){1}"),
    ("mad.lo.<any>", "T", "T T T", "(uint64_t){0} * (uint64_t){1} + (uint64_t){2}"),
    ("mul.wide.<half>", "W", "T T", "({W}){0} * ({W}){1}"),
    ("mul.hi.<unsigned>", "T", "T T", "(unsigned __int128){0} * {1} >> {bits}"),
    ("mul.hi.<signed>", "T", "T T", "(__int128){0} * {1} >> {bits}"),
    ("div.<unsigned>", "T", "T T", "{0} / ({T})ptx_divisor(thread, {where}, {1})"),
    ("rem.<unsigned>", "T", "T T", "{0} % ({T})ptx_divisor(thread, {where}, {1})"),
    ("min.<number>", "T", "T T", "{0} < {1} ? {0} : {1}"),
    ("max.<number>", "T", "T T", "{0} > {1} ? {0} : {1}"),
    ("and.<any>", "T", "T T", "{0} & {1}"),
    ("or.<any>", "T", "T T", "{0} | {1}"),
    ("xor.<any>", "T", "T T", "{0} ^ {1}"),
    ("not.<any>", "T", "T", "~{0}"),
    ("and.<pred>", "T", "T T", "{0} & {1}"),
    ("or.<pred>", "T", "T T", "{0} | {1}"),
    ("xor.<pred>", "T", "T T", "{0} ^ {1}"),
    ("not.<pred>", "T", "T", "!{0}"),
    ("shl.<unsigned>", "T", "T u32", "ptx_shl({0}, {1}, {bits})"),
    ("shr.<unsigned>", "T", "T u32", "ptx_shr({0}, {1}, {bits})"),
    ("shr.<signed>", "T", "T u32", "ptx_shr_signed({0}, {1}, {bits})"),
    ("shf.l.wrap.b32", "b32", "b32 b32 u32", "ptx_shf({1}, {0}, {2} & 31) >> 32"),
    ("shf.l.clamp.b32", "b32", "b32 b32 u32", "ptx_shf({1}, {0}, ptx_least({2}, 32)) >> 32"),
    ("shf.r.wrap.b32", "b32", "b32 b32 u32", "ptx_shf({1}, {0}, 0) >> ({2} & 31)"),
    ("shf.r.clamp.b32", "b32", "b32 b32 u32", "ptx_shf({1}, {0}, 0) >> ptx_least({2}, 32)"),
    ("bfi.<word>", "T", "T T u32 u32", "ptx_bfi({0}, {1}, {2}, {3}, {bits})"),
    ("prmt.b32", "b32", "b32 b32 b32", "ptx_prmt({0}, {1}, {2})"),
    ("clz.<word>", "u32", "T", "ptx_clz({0}, {bits})"),
    ("popc.<word>", "u32", "T", "__builtin_popcountll({0})"),
    ("selp.<any>", "T", "T T pred", "{2} ? {0} : {1}"),
    ("mov.<any>", "T", "T", "{0}"),
    ("mov.<pred>", "T", "T", "{0}"),
    ("cvta.to.global.u64", "u64", "u64", "{0}"),
] + [(f"setp.{name}.<{kind}>", "pred", "T T", f"{{0}} {sign} {{1}}") for name, kind, sign in COMPARISONS]

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
HEAD = re.compile(r"\s*(?:\.version\s+[\d.]+|\.target\s+(?P<target>sm_\d+)|\.address_size\s+64|"
                  r"(?:\.visible\s+)?\.entry\s+(?P<entry>[\w$]+)\s*\((?P<params>[^)]*)\)"
                  r"(?:\s*\.(?:maxntid|minnctapersm)\s+\d+(?:,\s*\d+)*)*\s*(?P<open>\{))\s*")
PARAM = re.compile(r"\.param\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>[bsu]\d+)\s+"
                   r"(?:\.ptr\s+(?:\.global\s+)?(?:\.align\s+\d+\s+)?)?(?P<name>[\w$]+)(?:\[(?P<count>\d+)\])?")
STATEMENT = re.compile(r"(?P<label>[\w$]+):(?!:)\s*|(?P<open>\{)\s*|(?P<close>\})\s*|"
                       r"(?P<body>[^;{}]+(?:\{[^{};]*\}[^;{}]*)*);\s*")
HINT = re.compile(r'\.pragma "(nounroll|used_bytes_mask \d+)"')
GUARD = re.compile(r"@(?P<not>!?)(?P<register>[%\w$]+)\s+")
REGISTERS = re.compile(r"(?P<name>[%\w$]+?)(?:<(?P<count>\d+)>)?")
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]\s]+")
INTEGER = re.compile(r"(-?(?:0[xX][0-9a-fA-F]+|0|[1-9]\d*))U?")
ADDRESS = re.compile(r"\[\s*(?P<base>[%\w$]+)\s*(?:\+\s*(?P<offset>-?\d+)\s*)?\]")
TYPE = r"[bsu](?:8|16|32|64)"
CONVERT = re.compile(rf"cvt\.(?P<to>{TYPE})\.(?P<from>{TYPE})")
PACK = re.compile(r"mov\.(?P<type>b32|b64)")
ACCESS = re.compile(rf"(?P<what>ld\.param|ld\.global|ld\.global\.nc|st\.global|st\.global\.cs)"
                    rf"(?:\.v(?P<count>[24]))?\.(?P<type>{TYPE})")


class Refusal(Exception):
    """What is not known here."""


def c_name(name):
    return re.sub(r"[%$]", "", name)


def constant(text, width):
    """An integer, cut to a width as the manual says, or None where the text is none."""
    match = INTEGER.fullmatch(text)
    return f"UINT64_C({hex(int(match[1], 0) & ((1 << width) - 1))})" if match else None


def compiled(opcode):
    kinds = "|".join(KINDS)
    return re.compile(re.sub(f"<({kinds})>", lambda kind: f"(?P<T>{KINDS[kind[1]]})", opcode.replace(".", r"\.")))


PATTERNS = [(compiled(opcode), *form) for opcode, *form in FORMS]


class Kernel:
    """One entry: its parameters, the registers in scope, and its C so far."""

    def __init__(self, name, params):
        self.name = name
        self.params = {}  # name: offset, size
        self.scopes = [{}]
        self.lines = []
        self.instructions = 0
        self.where = ""  # of the statement: its line and text
        end = 0
        for text in filter(None, map(str.strip, params.split(","))):
            match = PARAM.fullmatch(text)
            if not match:
                raise Refusal(f"the parameter {text}")
            size = TYPES[match["type"]][1] // 8
            align = int(match["align"] or size)
            offset = (end + align - 1) // align * align
            end = offset + size * int(match["count"] or 1)
            self.params[match["name"]] = (offset, end - offset)

    def register(self, name, kind, wider=False):
        """A register in C, of the width that the instruction's type asks for."""
        held = next((scope[name] for scope in reversed(self.scopes) if name in scope), None)
        if held is None:
            raise Refusal(f"the operand {name}")
        width, asked = TYPES[held][1], TYPES[kind][1]
        if width != asked and not (wider and width > asked > 1):
            raise Refusal(f"a register of .{held} for .{kind}")
        return c_name(name)

    def value(self, text, kind, wider=False):
        """A source in C, of the type `kind`."""
        if text in SPECIAL and kind in ("u32", "b32"):
            return SPECIAL[text]
        if text in self.params and TYPES[kind][1] == 64:
            return f"UINT64_C({self.params[text][0]})"
        return f"({TYPES[kind][0]}){constant(text, TYPES[kind][1]) or self.register(text, kind, wider)}"

    def put(self, target, kind, value, wider=False):
        """A value of the type `kind` to a register; a wider one takes it with its sign or zeros."""
        return f"{self.register(target, kind, wider)} = ({TYPES[kind][0]})({value});"

    def address(self, text):
        match = ADDRESS.fullmatch(text)
        if not match:
            raise Refusal(f"the address {text}")
        return f"{self.value(match['base'], 'b64')} + {constant(match['offset'] or '0', 64)}"

    def form(self, match, kinds, expression, operands):
        """One of FORMS."""
        result, *sources = kinds
        own = match.groupdict().get("T")
        kind, width = TYPES[own or "b32"]
        wide = f"{own[0]}{width * 2}" if result == "W" else own
        known = {"T": own, "W": wide}
        values = [self.value(text, known.get(source, source)) for text, source in zip(operands[1:], sources)]
        return self.put(operands[0], known.get(result, result), expression.format(
            *values, T=kind, W=TYPES[wide or "b32"][0], bits=width, where=self.quoted()))

    def pack(self, kind, target, source):
        """A register from several, or several from one."""
        names = elements(source if source.startswith("{") else target)
        width = TYPES[kind][1] // len(names)
        if source.startswith("{"):
            values = [f"(uint64_t){self.value(name, f'b{width}')} << {width * i}" for i, name in enumerate(names)]
            return self.put(target, kind, " | ".join(values))
        puts = [self.put(name, f"b{width}", f"whole >> {width * i}") for i, name in enumerate(names) if name != "_"]
        return f"const uint64_t whole = {self.value(source, kind)}; {' '.join(puts)}"

    def access(self, match, operands):
        is_store = match["what"].startswith("st")
        place, values = operands if is_store else reversed(operands)
        names, kind, size = elements(values), match["type"], TYPES[match["type"]][1] // 8
        if len(names) != int(match["count"] or 1):
            raise Refusal(f"the vector {values}")
        what = "store" if is_store else "param" if match["what"] == "ld.param" else "load"
        at = f"ptx_{what}(thread, {self.quoted()}, {self.address(place)}, {size * len(names)})"
        if is_store:
            puts = [f"ptx_put(at, {size * i}, {size}, {self.value(name, kind, wider=True)});"
                    for i, name in enumerate(names)]
            return f"uint8_t *at = {at}; {' '.join(puts)}"
        puts = [self.put(name, kind, f"({TYPES[kind][0]})ptx_get(at, {size * i}, {size})", wider=True)
                for i, name in enumerate(names)]
        return f"const uint8_t *at = {at}; {' '.join(puts)}"

    def quoted(self):
        return '"' + self.where.replace('"', "'") + '"'

    def translated(self, opcode, operands):
        """What an instruction is in C."""
        if opcode in ("bra", "bra.uni") and len(operands) == 1:
            return f"goto {c_name(operands[0])};"
        if opcode == "ret" and not operands:
            return "return;"
        if len(operands) == 2:
            if match := ACCESS.fullmatch(opcode):
                return self.access(match, operands)
            if match := CONVERT.fullmatch(opcode):
                return self.put(operands[0], match["to"], self.value(operands[1], match["from"], True), True)
            if "{" in "".join(operands) and (match := PACK.fullmatch(opcode)):
                return self.pack(match["type"], *operands)
        for pattern, result, sources, expression in PATTERNS:
            kinds = [result, *sources.split()]
            if len(operands) == len(kinds) and (match := pattern.fullmatch(opcode)):
                return self.form(match, kinds, expression, operands)
        raise Refusal(f"the instruction {opcode}")

    def instruct(self, text):
        guard = GUARD.match(text)
        condition = ""
        if guard:
            text = text[guard.end():]
            condition = f"if ({guard['not']}{self.register(guard['register'], 'pred')}) "
        opcode, _, rest = text.partition(" ")
        operands = OPERAND.findall(rest)
        if OPERAND.sub("", rest).replace(" ", "") != "," * (len(operands) - 1):
            raise Refusal(f"the operands {rest}")
        self.lines.append(f"{condition}{{ {self.translated(opcode, operands)} }}")
        self.instructions += 1

    def declare(self, kind, names):
        """Registers. They hold what the machine poisons them with until something is put there."""
        for text in names.split(","):
            match = REGISTERS.fullmatch(text.strip())
            if not match or kind not in ("pred", "b16", "b32", "b64"):
                raise Refusal(f"the registers {text}")
            every = [match["name"]] if match["count"] is None else \
                [f"{match['name']}{i}" for i in range(int(match["count"]))]
            self.scopes[-1] |= {name: kind for name in every}
            poison = "thread->poison & 1" if kind == "pred" else "thread->poison"
            self.lines += [f"{TYPES[kind][0]} {c_name(name)} = {poison};" for name in every]

    def add(self, statement):
        text = " ".join((statement["body"] or "").split())
        if statement["label"]:
            self.lines.append(f"{c_name(statement['label'])}:;")
        elif statement["open"]:
            self.scopes.append({})
            self.lines.append("{")
        elif statement["close"]:
            self.scopes.pop()
            self.lines.append("}")
        elif text.startswith(".reg ."):
            self.declare(*text.removeprefix(".reg .").split(" ", 1))
        elif not text.startswith("."):
            self.instruct(text)
        elif not HINT.fullmatch(text):
            raise Refusal("the directive")

    def read(self, text, at):
        """The body, which begins at `at`. Returns where it ends."""
        line, counted = text.count("\n", 0, at) + 1, at
        while self.scopes:
            statement = STATEMENT.match(text, at)
            line, counted = line + text.count("\n", counted, at), at
            said = statement[0] if statement else text[at:].partition("\n")[0]
            self.where = f"{line}: {' '.join(said.split())}"
            try:
                if not statement:
                    raise Refusal("the statement")
                self.add(statement)
            except Refusal as what:
                raise Refusal(f"{self.where} -- {what} is not known") from None
            at = statement.end()
        return at


def elements(text):
    return text.strip("{}").replace(" ", "").split(",")


def read_module(text):
    """The target and the kernels of a PTX file."""
    text = COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text)
    target, kernels, at = "", [], 0
    while at < len(text):
        head = HEAD.match(text, at)
        if not head:
            line = text.count("\n", 0, at) + 1
            raise Refusal(f"{line}: {text[at:].strip().partition(chr(10))[0]} -- it is not known")
        target = head["target"] or target
        at = head.end()
        if head["open"]:
            kernels.append(Kernel(head["entry"], head["params"]))
            at = kernels[-1].read(text, at)
    return target, kernels


def module_lines(target, kernels):
    yield '#include "cuda/ptx_machine.h"'
    for number, kernel in enumerate(kernels):
        yield f"\nstatic void kernel_{number}(PtxThread *thread) {{"
        yield from kernel.lines
    yield "\nstatic const PtxKernel kernels[] = {"
    for number, kernel in enumerate(kernels):
        params = ", ".join(f"{{{offset}, {size}}}" for offset, size in kernel.params.values())
        yield f'{{"{kernel.name}", kernel_{number}, {len(kernel.params)}, {{{params}}}, {kernel.instructions}}},'
    yield f'}};\nconst PtxModule ptx_module = {{"{target}", NULL, kernels, {len(kernels)}}};'


def main(source, target):
    try:
        lines = list(module_lines(*read_module(pathlib.Path(source).read_text(encoding="utf-8"))))
    except Refusal as what:
        said = f"{pathlib.Path(source).name}:{what}"
        print(said, file=sys.stderr)
        said = said.replace("\\", "/").replace('"', "'")
        lines = ['#include "cuda/ptx_machine.h"', f'const PtxModule ptx_module = {{.refusal = "{said}"}};']
    pathlib.Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
