"""Judgement of what is accepted, and of errors that are not brainhw's: each with the reason."""

from __future__ import annotations

# Kind of argument: values that it takes, each for a reason below. Everything else must be refused.
NUMBERS = ("0.5", "1e300", "10**30", "0-d numpy 2", "Fraction")
SIGNED = (*NUMBERS, "0", "-1", "-7", "-0.5", "np.int64 -1", "0-d jax -1", "Decimal")
EMPTY = ("[]", "()", "array [0]")
WORDS = ("'False'", "'abc'", "'3'", "'a\\nb'")
# Arrays of numbers: lists and ranges are read as numpy reads them; nothing in, nothing out; flags are 0 and 1.
ELEMENTS = (
    *SIGNED, *EMPTY, "True", "False", "np.bool_", "[1, 2]", "[-1.5]", "(True, 2)", "range", "array [2, 3, 5, 7]",
    "array [4, 2, 0]", "array [0, 2, 3]",
)  # fmt: skip

ACCEPTED: dict[str, tuple[tuple[str, ...], str]] = {
    # A choice between two, or a default.
    "flag": (("True", "False"), "both are flags"),
    "flag or choice": (("True", "False", "np.bool_"), "both are flags, also those of numpy"),
    "flag or list": (("True", "False", "np.bool_"), "one flag for all layers"),
    # Numbers: an int, a Fraction or an array without axes is a number; huge is allowed where nothing is allocated.
    "positive number": (NUMBERS, "finite and above zero"),
    "window": (NUMBERS, "finite and above zero"),
    "tolerance": (NUMBERS, "a large error is met by the fewest exponentials"),
    "nonnegative number": ((*NUMBERS, "0"), "finite, zero or above"),
    "count target": ((*NUMBERS, "0"), "finite, zero or above"),
    "number": (SIGNED, "finite"),
    "optional lowest": (("None", "-1", "-0.5", "np.int64 -1", "0-d jax -1"), "a negative weight, or none"),
    "optional negative": (("None", "Decimal", "-1", "-7", "-0.5", "np.int64 -1", "0-d jax -1"), "below zero, or none"),
    "optional number": (("None", *SIGNED), "finite, or none"),
    "optional nonnegative number": (("None", "0", *NUMBERS), "zero or above, or none"),
    "optional positive number": (("None", *NUMBERS), "above zero, or none"),
    "limit": ((*NUMBERS, "inf"), "infinite means without a chip"),
    "share": (("0", "0.5", "Fraction"), "from 0 to 1"),
    "optional recordings": (("None", "0.5"), "a share that is held out, or none"),
    "own callable": (("None", "lambda"), "a function, or the default"),
    "optional callables": (("None", "{}"), "none"),
    "schedules": (("[]", "()", "array [0]", "array [0, 2, 3]"), "none"),
    "callables": (("[]", "()", "array [0]", "array [0, 2, 3]"), "none"),
    "shares": (("{}", "{'a': 1}"), "shares by name, or none"),
    "shares of chips": (("{}",), "none"),
    "optional names of classes": (("[]", "()"), "none"),
    "share between": (("0.5", "Fraction"), "above 0 and below 1"),
    "optional share": (("None", "0", "0.5", "Fraction"), "from 0 to 1, or none"),
    "optional spread": (("None", "0", *NUMBERS), "zero or above; None means no variation"),
    "spread": (("True", "False", "0", *NUMBERS), "a size, or the spec's, or none"),
    "order": (("0.5", "Fraction"), "in (0, 1]"),
    "orders": (("0.5", "Fraction"), "in (0, 1]"),
    "one order": (("0.5", "Fraction"), "in (0, 1]"),
    "optional orders": (("None", "0.5", "Fraction"), "in (0, 1], or none"),
    "optional decay": (("None", "0", "0.5", "Fraction"), "from 0 to 1; the other mode has none"),
    "optional dash": (("None", *NUMBERS), "so large a shift means no leak"),
    "optional coefficients": (("None", *NUMBERS), "positive; one coefficient for the one term"),
    "rate or callable": (("None", "10**30", *NUMBERS), "a rate, a function of the update, or the default"),
    # Whole numbers.
    "count": (("10**30", "0-d numpy 2"), "whole and above zero; huge only where nothing is allocated"),
    "whole": (("0", "10**30", "0-d numpy 2"), "whole, zero or above"),
    "optional count": (("None", "0", "10**30", "0-d numpy 2"), "whole, or the default; 0 of a level counts none"),
    "optional whole": (("None", "0"), "whole, or none"),
    "optional limit": (("None", "0-d numpy 2", "inf"), "whole, or no limit: infinite as in Rockpool"),
    "bit count": (("0-d numpy 2",), "whole, 2 to 16"),
    "bits": (("0-d numpy 2",), "whole, 2 to 16"),
    "bits or mapping": (("None", "0-d numpy 2"), "whole, or no rounding"),
    "checkpoint": (("None", "10**30", "0-d numpy 2"), "longer than the input is one segment"),
    "recording lengths": (("None", "[1, 2]", "(True, 2)"), "steps of each recording, or none; numpy reads True as 1"),
    "run data": (("None", "array [2, 3, 5, 7]"), "values are judged, or none; a run finds that the width is another"),
    "optional bar": (("None", "0-d numpy 2"), "a number of steps, or none"),
    "axis": (("0", "-1", "np.int64 -1", "0-d jax -1"), "an axis of the array"),
    "size": (("0-d numpy 2", "[1, 2]"), "a number of neurons, or a shape: the tuple form of brainstate"),
    "one size": (("0-d numpy 2",), "a number of neurons"),
    "counts": (("[1, 2]",), "whole numbers above zero"),
    "raw labels": (("['a']", "strings [3]"), "names or whole numbers"),
    "optional class names": (("None", "strings [3]"), "names, or those that occur"),
    "delays": (("[1, 2]", "range"), "whole numbers of steps"),
    "indices": ((*EMPTY, "[1, 2]", "range"), "places, or none"),
    "shape": ((*EMPTY, "0", "[1, 2]", "range"), "sizes; () is a scalar"),
    "optional neurons": (("None", "0"), "a neuron, or the first ones"),
    "whole array": (("[1, 2]", "(True, 2)"), "numpy reads True beside 2 as 1"),
    "optional rows": (("None",), "the default"),
    "place": (("0",), "a leak setting"),
    "targets": (("[1, 2]", "(True, 2)", "array [2, 3, 5, 7]"), "one for each sample; the loss judges them"),
    "batch labels": (("[1, 2]", "(True, 2)"), "one for each sample; numpy reads True beside 2 as 1"),
    "short count": (("0-d numpy 2",), "whole and above zero, not huge"),
    "optional short count": (("None", "0-d numpy 2"), "whole and above zero; or the values have steps"),
    "path of an old folder": (("a folder",), "a folder"),
    "optional place": (("None", "0", "0-d numpy 2"), "the default, or a leak setting"),
    "distinct": (("[1, 2]", "range"), "whole numbers, none twice"),
    # Quantities.
    "optional window": (("None",), "the default"),
    "optional positive mV": (("None",), "the default"),
    "optional positive ms": (("None",), "the default"),
    "optional fit": (("None",), "the default"),
    "optional settings": (("None",), "found by the time constants"),
    "optional line": (("None", "'False'", "'abc'", "'3'"), "one line of text, or the default"),
    "Hz": (("Quantity -1 Hz",), "the mean of analog input may be negative"),
    "mV": (("Quantity -1 mV",), "a membrane may be negative"),
    "mV array": (("Quantity -1 mV",), "a membrane may be negative"),
    "membrane": (("Quantity -1 mV",), "a membrane may be negative"),
    "optional mV": (("None", "Quantity -1 mV"), "a line of a figure"),
    "signed mV": (("Quantity -1 mV",), "a bias may be negative"),
    "ms array": (("Quantity -1 ms", "Quantity 0 ms"), "a parameter outside its bounds is what is penalised"),
    "optional bound": (("None", "Quantity -1 ms", "Quantity 0 ms"), "an open side; a parameter may be negative"),
    "optional ms": (("None", "Quantity 0 ms"), "the default; a lookahead of zero is none"),
    # Arrays.
    "array": ((*ELEMENTS, "inf", "-inf", "inf jax [2, 3]", "nan", "np.float64 nan", "0-d numpy nan", "nan [3]",
               "nan [4, 2, 3]"), "element by element; NaN stays NaN, and beyond the range is its end"),
    "membranes over threshold": ((*ELEMENTS, "inf", "-inf", "inf jax [2, 3]"), "element by element, without NaN"),
    "codes": (ELEMENTS, "element by element"),
    "number array": (("[1, 2]", "[-1.5]", "(True, 2)", "range"), "numpy reads True beside 2 as 1"),
    "optional array": (("None", "[1, 2]", "[-1.5]", "(True, 2)", "range"), "numpy reads True beside 2 as 1"),
    "numbers": (("range",), "as many as channels"),
    "table": (("range",), "as many as charges"),
    "unit array": (
        (*EMPTY, "array [2, 3, 5, 7]", "array [4, 2, 0]", "array [0, 2, 3]"), "from 0 to 1; nothing in, nothing out",
    ),
    "array of frames": (("array [2, 3, 5, 7]", "array [0, 2, 3]"), "any axes in front, also none of them"),
    "audio": (("ragged list", "range"), "recordings of different lengths; a sequence of numbers"),
    "spikes": (("array [2, 3, 5, 7]",), "[T, ..., N]"),
    "plain input": (("range", "array [0, 2, 3]"), "one sample of as many numbers; any axes in front"),
    "data step": (("range", "nan [3]", "inf jax [2, 3]"),
    "an example, or a compiled step, which has no numbers to see"),
    # Random keys.
    "key": (("0", "0-d numpy 2", "jax key"), "a key or a whole number"),
    "optional key": (("None", "0", "0-d numpy 2", "jax key"), "a key or a whole number"),
    "key or keys": (("0", "0-d numpy 2", "[1, 2]", "jax key", "two jax keys"), "one, or one for each chip"),
    "keys": (("two jax keys",), "one for each chip"),
    # Words. What is shown to a reader may be any text.
    "text": (("''", *WORDS), "shown as it is"),
    "optional text": (("None", "''", *WORDS), "shown as it is"),
    "optional name": (("None", *WORDS), "shown as it is"),
    "call": (WORDS, "shown as it is"),
    "line": (("'False'", "'abc'", "'3'"), "one line"),
    "word": (WORDS, "a name that nothing else fixes"),
    "identifier": (("'False'", "'abc'"), "one word"),
    "package": (("'False'", "'abc'"), "one word"),
    "words of a command": (("['a']", "strings [3]"), "a program and its arguments; the run finds that there is none"),
    "words": ((*EMPTY, "['a']", "strings [3]"), "any words, or none"),
    "record": ((*EMPTY, "['a']", "strings [3]"), "a stream looks a name up in its first step, and refuses it there"),
    "optional path to write": (("None", *WORDS, "bytes"), "a file name, or no file"),
    "stem to write": ((*WORDS, "bytes", "a folder"), "the name of two files, without an ending"),
    "path to write": ((*WORDS, "bytes"), "a file name; Python takes bytes"),
    "path of a folder to write": ((*WORDS, "bytes", "a folder"), "a folder, new or old"),
    "path of a folder": (("a folder",), "a folder; one without a program is refused"),
    "folders": ((*EMPTY, "['a']", "strings [3]"), "further folders, or none"),
    # Containers.
    "tuple of records": (("[]", "()"), "a report of nothing"),
    "mismatches": (("[]", "()"), "none"),
    "places": (("[]", "()"), "none"),
    "rules": (("{}",), "none"),
    "texts": (("{}",), "none"),
    "provenance word": (("{}",), "a mapping by field is allowed; the others keep theirs"),
    "mapping": (("{}", "{'a': 1}"), "a mapping"),
    "numbers by name": (("{}", "{'a': 1}"), "a mapping"),
    "energies by core": (("{}",), "none"),
    # Objects.
    "net": (("nn.Linear", "nn.Module"), "any module is a network; nothing is run here"),
    "weight state": (("a State",), "the state of a weight; preparing looks at its numbers"),
    "callable": (("len", "lambda", "nn.Linear", "nn.Module"), "what it returns shows when it is called"),
    "optional callable": (("None", "len", "lambda", "nn.Linear", "nn.Module"),
    "what it returns shows when it is called"),
    "optional callable or class": (("None", "int", "len", "lambda", "nn.Linear", "nn.Module"),
    "a class is a way to build"),
    "optional class": (("None", "int"), "a class"),
    "optional unit": (("None", "unit"), "a unit"),
    "optional recurrent mV": (("None", "True"), "none, or Rockpool's default"),
    **dict.fromkeys(
        (
            "optional axes", "optional chip", "optional choice", "optional class report", "optional codes",
            "optional data", "optional devices",
            "optional dtype", "optional groups", "optional lengths", "optional membranes", "optional mesh",
            "optional noise",
            "optional optimizer", "optional outcome", "optional parameter ms", "optional placement",
            "optional platforms", "optional rate",
            "optional spikes", "optional voltage unit", "optional weights",
        ),
        (("None",), "the default"),
    ),
}  # fmt: skip

# Warned of and not refused: the warning names call and argument.
WARNED = {
    "optional coefficients": "beside one order they have no meaning, and are ignored as the warning says",
}

# An error of the caller's own code comes through as it is: kind of argument, value, and why.
OWN_ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "rate or callable": (("1e300",), "the weights are not finite after a step, a FloatingPointError"),
    "graph": (("a folder",), "a path names the file and what it is"),
    "net": (("nn.Linear", "nn.Module"), "the network's own step fails"),
    "callable": (("len", "nn.Linear", "nn.Module"), "the function's own error"),
    "optional callable": (("nn.Module",), "the initializer's own error"),
    "own callable": (("len", "lambda", "nn.Linear", "nn.Module"), "the function's own error"),
    "targets": (("inf jax [2, 3]",), "the loss is not finite, a FloatingPointError as in JAX; it names y"),
}

# Refused, but a net that was handed in has been prepared anew: issue 17, part 3, owns what a failed step leaves.
# call, argument, value. This list may only shrink.
CHANGED = {
    ("rollout", "xs", "array [2, 3, 5, 7]"),
    ("rollout", "xs", "complex [4, 2, 3]"),
    ("rollout", "record", "['a']"),
    ("rollout", "record", "strings [3]"),
    ("rollout", "xs", "array [4, 2, 0]"),
}
