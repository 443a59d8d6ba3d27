"""``make rehearsal``: play the scenarios, each in a process of its own, and print the table.

Exit codes: 0 everything ended as it must, the comparisons with mail lost too; 1 something did not; 2 it cannot be played here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import namespace
from tests.lab.namespace import Unavailable
from tests.rehearsal import scenarios
from tests.rehearsal.scenarios import ALL, SCENARIOS, SHORT, Result

#: Seconds that one scenario may take.
MOST = 1500
_CHECKOUT = Path(__file__).parents[2]
_HEAD = ("scenario", "years", "renewals", "looks of the judge", "without a match", "mail waits", "switches", "verdict")


def main() -> int:
    """Play; returns the exit code."""
    args = _arguments()
    if args.one:
        return _one(args.one, args.json)
    names = args.names or (SHORT if args.short else ALL)
    try:
        with ThreadPoolExecutor(args.jobs) as pool:
            results = list(pool.map(_tell, names))
    except Unavailable as exc:
        print(exc, file=sys.stderr)
        return 2
    text = table(results)
    print(f"\n{text}")
    if args.rst:
        Path(args.rst).write_text(text)
    if args.stories:
        Path(args.stories).write_text("\n".join(map(story, results)))
    return 0 if all(result.good for result in results) else 1


def apart(name: str) -> Result:
    """Play one in a process of its own, outside of this one's lab if it is in one.

    :raises Unavailable: it cannot be played here.
    """
    with tempfile.TemporaryDirectory() as directory:
        path, log = f"{directory}/result", f"{directory}/log"
        # nsenter(1) leaves the directory that it was started in.
        there = [*namespace.outside(), "sh", "-c", 'cd "$0" && exec "$@"', str(_CHECKOUT)]
        argv = [*there, sys.executable, "-m", "tests.rehearsal", "--one", name, "--json", path]
        with open(log, "wb") as out:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
            try:
                process.wait(MOST)
            except subprocess.TimeoutExpired:
                # Its reaper ends the rest.
                process.kill()
                process.wait(10)
        if not os.path.exists(path):
            raise Unavailable(f"{name} has no result: {Path(log).read_text(errors='replace')[-3000:]}")
        return Result(**json.loads(Path(path).read_text()))


def table(results: Sequence[Result]) -> str:
    """The results as a simple table of reStructuredText."""
    rows = [_HEAD, *map(_row, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule, ""])


def story(result: Result) -> str:
    """What happened in one, and what the judge saw."""
    failures = result.failures[:3] + (["...", *result.failures[-1:]] if len(result.failures) > 4 else result.failures[3:])
    found = [f"looks: {result.looks}, mail waits: {result.waits}, {result.seconds:.0f} s", *failures]
    error = [f"ERROR: {result.error}"] if result.error else []
    return "\n".join([result.title, *(f"  {line}" for line in [*result.story, *found, *error])]) + "\n"


def _row(result: Result) -> tuple[str, ...]:
    verdict = result.verdict.partition(":")[0] if not result.error else "not as it should be"
    return (
        result.title,
        f"{result.years:.1f}",
        str(result.renewals),
        str(sum(result.looks.values())),
        str(len(result.failures)),
        str(sum(result.waits.values())),
        str(result.switches),
        f"{verdict}, as it must" if result.fails and result.good else verdict,
    )


def _tell(name: str) -> Result:
    """Play one, and say what came of it."""
    result = apart(name)
    print(story(result), flush=True)
    return result


def _one(name: str, path: str) -> int:
    try:
        result = scenarios.play(name)
    except Unavailable as exc:
        print(exc, file=sys.stderr)
        return 2
    Path(path).write_text(json.dumps(scenarios.as_dict(result)))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description="Play years of renewals with DANE.")
    parser.add_argument("names", nargs="*", choices=[*SCENARIOS, []], metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="less than 90 seconds")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at a time (default: 2)")
    parser.add_argument("--rst", metavar="FILE", help="write the table there too")
    parser.add_argument("--stories", metavar="FILE", help="write what happened there")
    parser.add_argument("--one", choices=list(SCENARIOS), help=argparse.SUPPRESS)
    parser.add_argument("--json", default=os.devnull, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
