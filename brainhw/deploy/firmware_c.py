"""Text of the C header that computes one time step of a network."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from brainhw import _arguments
from brainhw._version import __version__
from brainhw.deploy.firmware_numbers import Charges, LayerNumbers, Numbers

__all__ = ["check_name", "header_text", "table_bytes"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


def check_name(name: Any, call: str) -> str:
    """Return ``name``, the prefix of all C names. Raise ``ValueError`` if ``name`` is not a C identifier."""
    found = _arguments.text(name, call=call, name="name", some=True)
    if not _NAME.fullmatch(found):
        raise ValueError(
            f"{call}: name must be a C identifier of at most 40 letters, digits and underscores; got "
            f"{_arguments.describe(name)}. Use a name such as 'net'."
        )
    return found


def table_bytes(numbers: Numbers) -> int:
    """Return the total size in bytes of all constant arrays of the C header."""
    tables = _Tables("net")
    for at, layer in enumerate(numbers.layers):
        _Layer(layer, at, "net", tables)
    return tables.n_bytes


def header_text(numbers: Numbers, name: str, checksum: str) -> str:
    """Return the text of the C header. ``name`` is the prefix of every C name."""
    tables = _Tables(name)
    layers = [_Layer(layer, at, name, tables) for at, layer in enumerate(numbers.layers)]
    upper, output = name.upper(), numbers.layers[numbers.output]
    state_bytes = sum(5 * layer.n for layer in numbers.layers)
    lines = [
        f"/* One step of a network for {_comment(numbers.chip)}, written by brainhw {__version__} from the bundle with",
        f"   the SHA-256 {checksum}.",
        "",
        f"   {name}_state state;            RAM: {state_bytes} bytes, and padding",
        f"   {name}_reset(&state);          before each recording",
        f"   {name}_step(&state, x);        every {numbers.dt_ms:.9g} ms, x: {numbers.n_in} values, 0 or 1 for spikes",
        f"   {name}_output(&state)[j]       1 if output neuron j spiked, 0 if not",
        "",
        "   C99 or C++11. Include it in one source file. Compile it with -ffp-contract=off and without -ffast-math:",
        "   the spikes equal those of the network only if each sum is rounded as written here. fmaf rounds a product",
        "   and a sum once. It is slow without a fused multiply-add in hardware; to trade equal spikes for speed,",
        f"   define {upper}_FMA(a, b, c) before the include. */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#include <math.h>",
        "#include <stdint.h>",
        "#include <string.h>",
        "",
        f"#ifndef {upper}_FMA",
        f"#define {upper}_FMA(a, b, c) fmaf((a), (b), (c))",
        "#endif",
        "",
        f"#define {upper}_INPUTS {numbers.n_in}",
        f"#define {upper}_OUTPUTS {output.n}",
        f"#define {upper}_DT_MS {_float(numbers.dt_ms)}",
        f"#define {upper}_STATE_BYTES {state_bytes}",
        f"#define {upper}_TABLE_BYTES {tables.n_bytes}",
        "",
        *tables.lines,
        "",
        "typedef struct {",
        *(f"    float v{at}[{layer.n}]; /* {_comment(layer.path)}: membranes, mV */" for at, layer in _each(numbers)),
        *(
            f"    uint8_t s{at}[{layer.n}]; /* {_comment(layer.path)}: spikes, 0 or 1 */"
            for at, layer in _each(numbers)
        ),
        f"}} {name}_state;",
        "",
        f"static inline void {name}_reset({name}_state *state)",
        "{",
        "    memset(state, 0, sizeof *state);",
        "}",
        "",
        f"static inline const uint8_t *{name}_output(const {name}_state *state)",
        "{",
        f"    return state->s{numbers.output};",
        "}",
        "",
        f"static inline void {name}_step({name}_state *state, const float *x)",
        "{",
        "    int i = 0, j;",
        "    float q, r = 0.0f;",
        *(line for layer in layers for line in layer.step(numbers, upper)),
        "    (void)i;",
        "    (void)r;",
        "}",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _each(numbers: Numbers) -> Iterator[tuple[int, LayerNumbers]]:
    return enumerate(numbers.layers)


class _Tables:
    """Constant arrays of the C header. Equal arrays are written only once."""

    def __init__(self, name: str) -> None:
        self.name, self.lines, self.n_bytes = name, list[str](), 0
        self._known: dict[tuple[str, bytes], str] = {}

    def add(self, values: np.ndarray, label: str, words: str) -> str:
        """Return the C name of an array with one or two axes. Add the array to the header if no equal array exists."""
        kind, key = _C_TYPES[values.dtype.name], (str(values.shape) + values.dtype.name, values.tobytes())
        if key not in self._known:
            self._known[key] = f"{self.name}_{label}"
            axes = "".join(f"[{length}]" for length in values.shape)
            rows = values if values.ndim == 2 else [values]
            body = ",\n".join(_row(row, braces=values.ndim == 2) for row in rows)
            self.lines += [f"/* {words} */", f"static const {kind} {self._known[key]}{axes} = {{", body, "};"]
            self.n_bytes += values.nbytes
        return self._known[key]

    def neurons(self, values: np.ndarray, label: str, words: str) -> str:
        """Return the C expression for the value of neuron ``j``: a literal if all neurons have the same value."""
        if (values == values[0]).all():
            return _float(values[0])
        return f"{self.add(values, label, words)}[j]"

    def charges(self, charges: Charges, label: str, path: str) -> str:
        """Return the C expression for the charge of the connection from ``i`` to ``j``."""
        # One row per neuron, so that the sum over its inputs reads consecutive memory.
        place = "[j]" if charges.values.ndim == 1 else "[j][i]"
        table, n = charges.table, charges.values.size
        # With 9 bits or more, the table of charges and the codes can need more memory than one charge per connection.
        if table is None or (len(table) > 256 and table.nbytes + 2 * n > charges.values.nbytes):
            words = f"{path}: charge of each connection, fC, one row per neuron"
            return self.add(np.ascontiguousarray(charges.values.T), f"q{label}", words) + place
        name = self.add(table, f"q{label}", f"charge of each code from {charges.lowest} on, fC")
        kind = np.int8 if max(-charges.lowest, charges.lowest + len(table)) <= 128 else np.int16
        codes = np.ascontiguousarray(charges.codes.T).astype(kind)
        where = self.add(codes, f"w{label}", f"{path}: codes of the weights, one row per neuron")
        return f"{name}[{where}{place} + {-charges.lowest}]"


_C_TYPES = {"int8": "int8_t", "int16": "int16_t", "float32": "float"}


class _Layer:
    """The C code of one layer."""

    def __init__(self, layer: LayerNumbers, at: int, name: str, tables: _Tables) -> None:
        path = _comment(layer.path)
        self.layer, self.at = layer, at
        self.charge = tables.charges(layer.charges, str(at), path)
        self.recurrent = None
        if layer.recurrent is not None:
            self.recurrent = tables.charges(layer.recurrent, f"r{at}", f"{path}, recurrent")
        self.leak = tables.neurons(layer.leak, f"leak{at}", f"{path}: decay factor of a step")
        self.V_th = tables.neurons(layer.V_th, f"vth{at}", f"{path}: thresholds, mV")

    def step(self, numbers: Numbers, upper: str) -> list[str]:
        layer, v, s = self.layer, f"state->v{self.at}[j]", f"state->s{self.at}"
        n_in = numbers.n_in if layer.source is None else numbers.layers[layer.source].n
        lines = ["", f"    /* {_comment(layer.path)} */", f"    for (j = 0; j < {layer.n}; j++) {{"]
        if layer.one_to_one:
            lines.append(f"        q = x[j] * {self.charge};")
        else:
            given = "x[i] != 0.0f" if layer.source is None else f"state->s{layer.source}[i]"
            add = f"q = {upper}_FMA(x[i], {self.charge}, q)" if layer.source is None else f"q += {self.charge}"
            lines += ["        q = 0.0f;", *_loop(n_in, given, add)]
        if self.recurrent is not None:
            lines += ["        r = 0.0f;", *_loop(layer.n, f"{s}[i]", f"r += {self.recurrent}"), "        q += r;"]
        lines += [
            f"        q = {upper}_FMA({v}, {self.leak}, q * {_float(numbers.per_C)} * 1000.0f);",
            f"        {v} = q > 0.0f ? q : 0.0f;",
            "    }",
            # The new spikes are written in a separate loop, because the loop above reads the spikes of the previous
            # step.
            f"    for (j = 0; j < {layer.n}; j++) {{",
            f"        {s}[j] = (uint8_t)({v} >= {self.V_th});",
            f"        if ({s}[j]) {{",
            f"            {v} = {f'{v} - {self.V_th}' if numbers.subtracts else '0.0f'};",
            "        }",
            "    }",
        ]
        return lines


def _loop(n: int, given: str, add: str) -> list[str]:
    return [
        f"        for (i = 0; i < {n}; i++) {{",
        f"            if ({given}) {{",
        f"                {add};",
        "            }",
        "        }",
    ]


def _row(values: Iterable[Any], *, braces: bool) -> str:
    text = ", ".join(_float(value) if isinstance(value, np.floating) else str(value) for value in values)
    return textwrap.fill(f"{{{text}}}" if braces else text, 110, initial_indent="    ", subsequent_indent="    ")


def _float(value: Any) -> str:
    # Nine decimal digits are enough to identify any float32. Hexadecimal floats would be exact too, but C++11 lacks
    # them.
    text = f"{float(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _comment(text: str) -> str:
    """Return at most 80 characters of ``text`` for a C comment, without comment delimiters or non-ASCII characters."""
    plain = "".join(one if one.isascii() and one.isprintable() else "?" for one in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "?")[:80]
