"""Write the tables, sentences and figures of README and docs that are made of benchmarks/results.

    python benchmarks/tables.py            # after new results
    python benchmarks/tables.py --check    # changes nothing, fails where a document says something else

A document holds ``<!-- table: NAME -->`` and ``<!-- end of table: NAME -->``; what stands between them is replaced.
Which weights and versions the rows are of is decided by the data: those of the newest weights that have all rows of a
table. Rows whose settings are not in results/settings.csv, where the benchmarks write them down, are named and left
out.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from _common import ROOT, make_parser
from _documents import replace_between
from _tables import answers, figures, folds, gains, methods, others, speed, trust
from _tables.rows import ResultFiles

MARKER = re.compile(r"<!-- (table: ([\w -]+)) -->")
TABLES: dict[str, Callable[[ResultFiles], str]] = {
    "answers": answers.table,
    "readme": answers.readme,
    "readme accuracy": folds.short,
    "readme speed": speed.table,
    "folds": folds.says,
    "folds phonons": lambda files: folds.table(files, "matbench_phonons"),
    "folds jdft2d": lambda files: folds.table(files, "matbench_jdft2d"),
    "folds history": folds.history,
    "alternatives": folds.alternatives,
    "few": lambda files: gains.table(files, "few"),
    "shares": lambda files: gains.table(files, "configurations"),
    "methods budget": lambda files: methods.budget(files, methods.FEW_AND_MANY),
    "methods configurations budget": lambda files: methods.budget(files, methods.CONFIGURATIONS),
    "methods few": lambda files: methods.table(files, "10"),
    "methods many": lambda files: methods.table(files, "80"),
    "methods configurations": methods.configurations,
    "methods papers": methods.beside_papers,
    "probes": others.probes,
    "sigma": others.sigma,
    "stiffness": others.stiffness,
    "pretraining": others.pretraining,
    "intervals": trust.intervals,
    "interval models": trust.models,
    "probabilities": trust.probabilities,
    "transfer": trust.transfer,
    "domain errors": trust.domain_errors,
    "domain kinds": trust.domain_kinds,
    **{f"ablation {name}": lambda files, name=name: others.ablation(files, name) for name in others.FIRST},
    **{f"method {name}": lambda files, name=name: methods.of_method(files, name) for name in methods.bundled()},
}


def renewed(text: str, files: ResultFiles) -> str:
    """Return a document with its tables as the results make them."""
    for marker, name in MARKER.findall(text):
        if name not in TABLES:
            raise KeyError(f"there is no table {name!r}; those that there are: {', '.join(TABLES)}")
        text = replace_between(text, marker, TABLES[name](files))
    return text


def documents() -> list[Path]:
    """Return the documents that hold tables."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if MARKER.search(path.read_text(encoding="utf-8"))]


def differences(files: ResultFiles) -> list[str]:
    """Return the lines in which documents differ from the results, and the figures that do."""
    found = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(ROOT))
        found += difflib.unified_diff(
            text.splitlines(), renewed(text, files).splitlines(), name, "results", lineterm="", n=0
        )
    found += [f"docs/figures/{name} shows other numbers" for name in figures.outdated(ROOT / "docs" / "figures", files)]
    return found


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where something differs")
    options = parser.parse_args()
    files = ResultFiles(options.results)
    for name, settings in files.unknown().items():
        print(f"{name}.csv: rows with the settings {', '.join(settings)} are left out, settings.csv lacks them")
    if options.check:
        found = differences(files)
        print("\n".join(found) or "all tables and figures are those of the results")
        return bool(found)
    for path in documents():
        text = path.read_text(encoding="utf-8")
        new = renewed(text, files)
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
    for name in figures.write(ROOT / "docs" / "figures", files):
        print(f"drawn: docs/figures/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
