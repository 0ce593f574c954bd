"""How many functions of the package, in how many files, a Structure passes on its way to the loss and to a prediction.

    PYTHONPATH=CHECKOUT python benchmarks/walk.py

reports on that checkout, so that two of them can be compared; ``--list`` names the functions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crystalssl
from crystalssl import CrystalSSLRegressor
from crystalssl.datasets import load_prototypes

ROOT = Path(crystalssl.__file__).parent


def walk(call: Callable[[], Any]) -> set[tuple[str, str]]:
    """Return file and name of every function of the package that a call enters; nested ones count with their outer."""
    entered = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)) and code.co_name != "<module>":
            entered.add((str(Path(code.co_filename).relative_to(ROOT)), getattr(code, "co_qualname", code.co_name)))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return {(file, name.partition(".<locals>")[0]) for file, name in entered}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    X, y = load_prototypes(return_X_y=True)
    X, y = X[130:154], y[130:154]
    model = CrystalSSLRegressor(max_epochs=2, random_state=0).fit(X, y)  # imports and tables come with the first
    print(ROOT)
    for name, call in {"fit": lambda: model.fit(X, y), "predict": lambda: model.predict(X)}.items():
        entered = walk(call)
        print(f"{name}: {len(entered)} functions in {len({file for file, _ in entered})} files")
        if arguments.list:
            print(*(f"    {file}  {function}" for file, function in sorted(entered)), sep="\n")


if __name__ == "__main__":
    main()
