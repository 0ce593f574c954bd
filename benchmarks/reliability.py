"""Print the tables of docs/reliability.md from fuzz.csv (`make fuzz`) and faults.csv (benchmarks/faults.py)."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from _common import RESULTS, markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: %(default)s)")
    folder = parser.parse_args().results

    fuzz = pd.read_csv(folder / "fuzz.csv")
    fuzz = fuzz[fuzz["run"] == fuzz["run"].iloc[-1]]
    rows = []
    for target, part in fuzz.groupby("target", sort=False):
        errors = [f"{row.outcome} {row.cases:,}" for row in part.itertuples() if row.outcome != "worked"]
        worked = part.loc[part["outcome"] == "worked", "cases"].sum()
        rows.append(
            [
                target,
                f"{part['cases'].sum():,}",
                f"{worked:,}",
                ", ".join(errors) or "-",
                f"{part['slowest_s'].max():.2f}",
                part["largest_mib"].max(),
            ]
        )
    print(f"Run of {fuzz['run'].iloc[0]}\n")
    print(markdown(["what read it", "cases", "worked", "refused with", "slowest (s)", "memory (MiB)"], rows), "\n")

    faults = pd.read_csv(folder / "faults.csv")
    faults = faults[faults["run"] == faults["run"].iloc[-1]]
    rows = [
        [fault, f"{part['ok'].sum()} of {len(part)}", "; ".join(f"{n} × {what}" for what, n in counts.items())]
        for fault, part in faults.groupby("fault", sort=False)
        for counts in [part["outcome"].value_counts()]
    ]
    print(f"Run of {faults['run'].iloc[0]}\n")
    print(markdown(["fault", "as promised", "what was found"], rows))


if __name__ == "__main__":
    main()
