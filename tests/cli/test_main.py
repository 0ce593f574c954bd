"""The command as a whole: help, versions, statuses, and what starting it costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import crystalssl
from crystalssl.cli import cli

COMMANDS = ["fit", "predict", "screen", "embed", "pretrain", "map", "graphs", "matbench", "info"]
ROOT = Path(crystalssl.__file__).parents[1]


def python(*args, **kwargs):
    """Run Python in a process of its own, with this package."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, env=env, timeout=300, **kwargs
    )


def test_help_tells_a_story(run):
    text = run("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in text
    assert "crystalssl fit cifs/ --target id_prop.csv -o model" in text
    assert text == run("-h").stdout == run(status=2).stderr.replace("Usage", "Usage")
    assert [*cli.commands] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples(run, command):
    text = run(command, "--help").stdout
    assert f"\n      crystalssl {command}" in text
    assert "--debug" in text
    assert max(map(len, text.splitlines())) <= 100
    for parameter in cli.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_version(run):
    assert run("--version").stdout == f"crystalssl {crystalssl.__version__}\n"


def test_nothing_heavy_is_loaded_for_help():
    code = (
        "import sys, json\n"
        "from click.testing import CliRunner\n"
        "from crystalssl.cli import cli\n"
        "for args in (['--help'], ['fit', '--help'], ['--version'], ['fit']):\n"
        "    CliRunner().invoke(cli, args)\n"
        "print(json.dumps([*sys.modules]))\n"
    )
    loaded = set(json.loads(python("-c", code).stdout))
    assert loaded.isdisjoint({"torch", "numpy", "pandas", "pymatgen", "sklearn", "scipy", "skorch", "pyarrow", "tqdm"})


def test_module_is_the_command():
    result = python("-m", "crystalssl", "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: crystalssl [OPTIONS] COMMAND")


def test_console_script_is_declared():
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["options.entry_points"]["console_scripts"].strip() == "crystalssl = crystalssl.cli:main"


def test_shell_completion():
    env = {**os.environ, "PYTHONPATH": str(ROOT), "_CRYSTALSSL_COMPLETE": "bash_source"}
    code = "from crystalssl.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert "complete -o nosort -F _crystalssl_completion crystalssl" in result.stdout
    env |= {"_CRYSTALSSL_COMPLETE": "bash_complete", "COMP_WORDS": "crystalssl pre", "COMP_CWORD": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert result.stdout.split() == ["plain,predict", "plain,pretrain"]


def test_from_the_shell(cifs, tiny):
    """One real process with a pipe on either side."""
    path = sorted(cifs.glob("*.cif"))[0]
    result = python("-m", "crystalssl", "predict", tiny / "model", "-", input=path.read_text())
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "id,prediction,std"
    failed = python("-m", "crystalssl", "predict", "nowhere", "cifs")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: there is no folder 'nowhere'")
    assert failed.stderr.count("\n") == 1
    assert "Traceback" in python("-m", "crystalssl", "predict", "nowhere", "cifs", "--debug").stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of Unix")
def test_reader_that_goes_away(cifs, tiny):
    """As `head` does: no message, no traceback."""
    command = f"{sys.executable} -m crystalssl predict {tiny / 'model'} cifs | true"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env, timeout=300, check=False)
    assert result.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(cifs):
    """A real Ctrl-C, after the first epoch; the same command goes on, to the weights of an undisturbed run."""
    args = ["pretrain", "cifs", "--method", "barlow", "--epochs", "400", "-p", "hidden_dim=8", "-p", "n_layers=1"]
    args += ["-p", "batch_size=8", "-q", "-o", "weights"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "crystalssl", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        # What a shell starts in the background ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not Path("weights.checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    [line] = err.splitlines()
    assert line.startswith("Interrupted. The state is in weights.checkpoint; go on with: crystalssl pretrain cifs")
    assert not Path("weights").exists()
    from crystalssl.training._checkpoints import read_checkpoint

    assert len(read_checkpoint(Path("weights.checkpoint"))[1]["history"]) >= 1
