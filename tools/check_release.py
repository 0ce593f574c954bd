"""Install the wheel and the sdist into empty environments, and use them there.

    python tools/check_release.py
    python tools/check_release.py --pythons python3.12 --kinds wheel --pip-options="--index-url ADDRESS"

Builds both from the tracked files, and for each interpreter and kind makes a virtual environment, installs the file
with what setup.cfg asks for and nothing else, and runs `pip check`, `crystalssl info` and a smoke test: bundled
weights are loaded, a few crystals fitted, saved, loaded and predicted again, to the bit. Prints one line for each,
and fails if any fails. Let pip find PyTorch's CPU build (PIP_FIND_LINKS, or --pip-options): every environment
installs torch.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMOKE = """
import warnings
import numpy as np
import crystalssl
from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import UnseenElementsWarning
from crystalssl.training import bundled_weights

assert "site-packages" in crystalssl.__file__, crystalssl.__file__
warnings.simplefilter("ignore", UnseenElementsWarning)
structures, y = load_prototypes("bulk_modulus", return_X_y=True)
for name in bundled_weights():
    assert np.isfinite(PretrainedCrystalEmbedder(name).fit_transform(structures[:4])).all(), name
model = CrystalSSLRegressor(max_epochs=1, random_state=0).fit(structures[:16], y[:16])
model.save("model")
assert crystalssl.load("model").predict(structures[:16]).tobytes() == model.predict(structures[:16]).tobytes()
crystalssl.show_versions()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pythons = [f"python3.{minor}" for minor in range(10, 14)]
    parser.add_argument("--pythons", nargs="+", default=pythons, help="interpreters (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=["wheel", "sdist"], default=["wheel", "sdist"])
    parser.add_argument("--pip-options", default="", help="of every pip install")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        for python in options.pythons:
            for kind in options.kinds:
                place = Path(folder) / f"{Path(python).name}-{kind}"
                problem = use(python, built[kind], place, shlex.split(options.pip_options))
                print(f"{python}, {kind}: {problem or 'works'}", flush=True)
                failed |= bool(problem)
                shutil.rmtree(place, ignore_errors=True)
    return failed


def build(folder: Path) -> dict[str, Path]:
    """Return wheel and sdist of the tree, built from a copy, so that no build folder of before is in them."""
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(source)], folder)
    code = "from setuptools.build_meta import build_sdist; import sys; print(build_sdist(sys.argv[1]))"
    run([sys.executable, "-c", code, str(folder)], source)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


def use(python: str, file: Path, place: Path, pip_options: list[str]) -> str:
    """Return what went wrong where a file was installed and used, the empty string for nothing."""
    if shutil.which(python) is None:
        return "there is no such interpreter"
    inside = str(place / "bin" / "python")
    steps = {
        "venv": [python, "-m", "venv", str(place)],
        "pip install": [inside, "-m", "pip", "install", "--quiet", *pip_options, str(file)],
        "pip check": [inside, "-m", "pip", "check"],
        "crystalssl info": [str(place / "bin" / "crystalssl"), "info"],
        "smoke test": [inside, "-W", "error::DeprecationWarning:crystalssl", "-c", SMOKE],
    }
    for name, command in steps.items():
        work = place.parent
        try:
            run(command, work)
        except subprocess.CalledProcessError as error:
            return f"{name} failed\n{error.stdout}{error.stderr}"
    return ""


def run(command: list[str], folder: Path) -> None:
    """Run a command outside of the tree, and raise if it fails."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
