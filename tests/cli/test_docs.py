"""The commands of docs/cli.md, one after the other, in a folder that has what they name."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

import crystalssl

from .conftest import rows_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
# Options that make a command quick, of those that the page does not show.
QUICK = {
    "fit": ["--epochs", "1", "-p", "head_dim=8", "-q"],
    "pretrain": ["--epochs", "1", "-q"],
}


@pytest.fixture
def files(cifs, labelled):
    X, y = labelled
    shutil.copytree("cifs", "corpus", ignore=lambda folder, names: [name for name in names if name.endswith(".csv")])
    Path("new").mkdir()
    for name in "ab":
        shutil.copy("cifs/c01.cif", f"new/{name}.cif")
    table = pd.DataFrame({"material_id": [f"m{i}" for i in range(24)], "cif": [crystal.to(fmt="cif") for crystal in X]})
    table.to_parquet("candidates.parquet", index=False)
    table["density"], table["volume"] = y, [crystal.volume for crystal in X]
    table.loc[::3, "volume"] = None
    table["kind"] = ["heavy" if value > 5 else "light" for value in y]
    table.to_csv("labelled.csv", index=False)
    Path("run.toml").write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])


@pytest.mark.usefixtures("files")
@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_commands_of_the_page(run):
    for line in COMMANDS:
        before, pipe, command = line.rpartition(" | ")
        content = Path(before.removeprefix("cat ")).read_bytes() if pipe else None
        program, name, *args = shlex.split(command)
        assert program == "crystalssl"
        args = [found for arg in args for found in (sorted(glob.glob(arg)) or [arg])]
        run(name, *args, *QUICK.get(name, []), input=content)
    assert len(COMMANDS) > 15
    assert rows_of(Path("best.csv"))[0]["id"].startswith("m")
    assert len(rows_of(Path("out.csv"))) == 24
    assert crystalssl.load("model2").target_names_ == ["density", "volume"]
    assert crystalssl.load("model2").target_per == "atom"
    assert crystalssl.load("kinds").classes_.tolist() == ["heavy", "light"]


def test_options_of_the_file(files, run):
    run("fit", "cifs/", "-o", "model", "--config", "run.toml", *QUICK["fit"])
    model = crystalssl.load("model")
    assert (model.ensemble_size, model.random_state, model.loss) == (2, 7, "huber")


def test_every_command_has_a_section():
    from crystalssl.cli import cli

    for command in cli.commands:
        assert re.search(rf"^\| \[`{command}`\]\(#(\w+)\)", PAGE, re.MULTILINE)
        assert re.search(rf"^crystalssl {command} ?", PAGE, re.MULTILINE), command
