"""Write ``tests/slow.txt``, the list of tests that take long, from the durations of one or several runs.

    python -m pytest -n auto -m "slow or not slow" --junitxml=durations.xml    # with an empty folder .jax_cache
    python tools/slow_tests.py durations.xml [FILE ...]

The first test that uses a network compiles it. If that test becomes slow, another test of the file has to compile the
network. A second run, of the fast tests only, shows this; of several durations, the longest counts. Tests that the
reports do not contain keep their place in the list.

The fast tests are what a contributor runs after each change. A test with one case is slow if it takes more than a
second. Of a test with several cases, those that take more than 0.3 seconds are slow, but the quickest cases that
contain every value of each option stay fast. So the fast tests reach every function of the tests except the long ones.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "slow.txt"
LONGEST_TEST_S, LONGEST_CASE_S = 1.0, 0.3
# CONTRIBUTING.md asks for the first two after each change of a public function. One new import makes the picture of the
# third out of date.
ALWAYS_FAST = (
    "tests/docs/test_doctests.py",
    "tests/regressions/test_nonsense.py::test_every_public_callable_has_a_valid_call_with_all_of_its_arguments",
    "tests/house/test_house_picture.py",
)


def durations(report: Path) -> dict[str, float]:
    """Return the seconds of each test of a JUnit report, by the id that pytest gives it."""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        *folders, last = case.attrib["classname"].split(".")
        path, classes = Path(*folders, last), ""
        while path.name and not (ROOT / path.with_suffix(".py")).is_file():
            path, classes = path.parent, f"::{path.name}{classes}"
        if not path.name:
            raise ValueError(f"{report}: the test {case.attrib['classname']} is not in this repository.")
        found[f"{path.with_suffix('.py').as_posix()}{classes}::{case.attrib['name']}"] = float(case.attrib["time"])
    return found


def slow_tests(seconds: dict[str, float]) -> list[str]:
    """Return the ids of the slow tests."""
    tests: dict[str, list[str]] = defaultdict(list)
    for name in sorted(seconds, key=lambda name: seconds[name]):
        if not name.startswith(ALWAYS_FAST):
            tests[name.partition("[")[0]].append(name)
    slow = []
    for function, cases in tests.items():
        if cases == [function]:
            slow += [function] if seconds[function] > LONGEST_TEST_S else []
            continue
        seen: set[tuple[int, str]] = set()
        for case in cases:
            options = set(enumerate(case.partition("[")[2].removesuffix("]").split("-")))
            # With one option, every case would be the only one with its value.
            adds = not options <= seen if len(options) > 1 else not seen
            if seconds[case] > LONGEST_CASE_S and (not adds or seconds[case] > LONGEST_TEST_S):
                slow.append(case)
            else:
                seen |= options
    return sorted(slow)


def updated(old: list[str], seconds: dict[str, float]) -> list[str]:
    """Return the list for new durations. Tests that did not run keep their line while their file exists."""
    kept = [name for name in old if name not in seconds and (ROOT / name.partition("::")[0]).is_file()]
    return sorted({*kept, *slow_tests(seconds)})


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", metavar="FILE", type=Path, nargs="+", help="JUnit report of pytest")
    longest: dict[str, float] = {}
    for report in parser.parse_args().reports:
        try:
            measured = durations(report)
        except (OSError, ElementTree.ParseError) as error:
            parser.error(f"{report} is not a JUnit report: {error}")
        for test, one in measured.items():
            longest[test] = max(one, longest.get(test, 0.0))
    lines = updated(LIST.read_text().splitlines(), longest)
    LIST.write_text("".join(f"{name}\n" for name in lines))
    print(f"{LIST}: {len(lines)} slow tests, {len(longest)} tests were measured")


if __name__ == "__main__":
    main()
