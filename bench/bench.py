#!/usr/bin/env python3
"""Measures the release build beside named references, in one run on one machine; figures of different runs do not compare.

    bench.py [intake] [broadcast] [offers] [requests]   all of them when none is named

Runs inside tests/stack (`make bench ARGS=…`). Every figure is the median of the rounds, with the least and the most.
"""

import argparse
import os
import statistics
import subprocess
import sys

import broadcast
import intake
import offers
import requests_per_second
from service import ROOT

SUITES = {"intake": intake.run, "broadcast": broadcast.run, "offers": offers.run, "requests": requests_per_second.run}


class Table:
    """Prints what was measured, as Markdown."""

    def measure(self, title, measures, rounds):
        """Runs the measures in turn, forwards and backwards; each gives its rate. The others are divided by the first."""
        found = {name: [] for name, _ in measures}
        for number in range(rounds):
            for name, measure in measures if number % 2 == 0 else reversed(measures):
                found[name].append(measure())
                print(f"  {name}: {found[name][-1]:,.0f}", file=sys.stderr)
        references = [name for name, _ in measures if not name.startswith("Postroom")]
        rows = []
        for name, rates in found.items():
            median = statistics.median(rates)
            ratios = [f"{median / statistics.median(found[reference]):.2f}" for reference in references]
            rows.append([name, f"{median:,.0f}", f"{min(rates):,.0f}–{max(rates):,.0f}", *ratios])
        self.print(title, ["", "median", "least–most", *(f"÷ {reference}" for reference in references)], rows)

    def print(self, title, head, rows):
        lines = [head, ["---"] * len(head), *rows]
        print(f"\n**{title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help="intake, broadcast, offers, requests")
    parser.add_argument("--messages", type=int, default=20_000, help="size of the mailbox for intake")
    parser.add_argument("--mails", type=int, default=1_000, help="mails for offers")
    parser.add_argument("--recipients", type=int, default=20_000, help="size of a broadcast")
    parser.add_argument("--crowd", type=int, default=1_000_000, help="size of the largest one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="length of one run of requests")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"], choices=["sqlite", "postgres"])
    options = parser.parse_args()
    if unknown := set(options.suites) - SUITES.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    if "POSTROOM_TEST_STACK" not in os.environ:
        parser.error("needs the servers of tests/stack: make bench ARGS=…")
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", f"{ROOT}/bench/anchors/Cargo.toml",
                    "--target-dir", f"{ROOT}/target/anchors"], check=True)
    table = Table()
    for suite in options.suites or SUITES:
        SUITES[suite](table, options)


if __name__ == "__main__":
    main()
