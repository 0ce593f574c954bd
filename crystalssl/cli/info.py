"""``crystalssl info``: what a folder holds, or what is installed."""

from __future__ import annotations

import json
from typing import Any

import click

from crystalssl.cli import _options as options

__all__ = ["info"]


@click.command(short_help="Say what a folder holds, or what is installed.")
@click.argument("folder", required=False, type=click.Path(), metavar="[FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="All that is known, for programs.")
@options.common
def info(folder: str | None, as_json: bool, quiet: bool) -> None:
    """Say what a folder of a model, weights or graphs holds, after checking it.

    \b
        crystalssl info model
        crystalssl info model --json
        crystalssl info

    Without a FOLDER: versions, devices, and the weights, encoders and methods that can be named.
    """
    known = _installed() if folder is None else _content(folder)
    if as_json:
        click.echo(json.dumps(known, indent=2, default=str))
    elif "card" in known:
        click.echo(known["card"].rstrip())
    else:
        width = max(map(len, known))
        for name, value in known.items():
            click.echo(f"{name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _content(folder: str) -> dict[str, Any]:
    from pathlib import Path

    from crystalssl import _files
    from crystalssl.graphs._manifest import is_corpus

    path = Path(folder)
    if is_corpus(path):
        from crystalssl import CrystalCorpus

        corpus = CrystalCorpus.load(path)
        return {
            "crystals": len(corpus),
            "shards": len(corpus.shards),
            "bytes": corpus.nbytes,
            "recipe": str(corpus.recipe),
            "elements": len(corpus.elements),
            "fingerprint": corpus.fingerprint,
        }
    if (path / "graphs.json").is_file():
        from crystalssl import CrystalGraphs

        graphs = CrystalGraphs.load(path)
        return {
            "crystals": len(graphs),
            "atoms": graphs.n_atoms,
            "edges": graphs.n_edges,
            "recipe": str(graphs.recipe),
            "elements": len(graphs.elements),
        }
    from crystalssl.estimators import load

    estimator = load(path)  # which checks all of it
    config = json.loads(_files.read_bounded(path / "config.json", "json_bytes"))
    card = ""
    if (path / "README.md").is_file():
        card = _files.read_bounded(path / "README.md", "json_bytes").decode(errors="replace")
    return {"estimator": type(estimator).__name__, **config, "card": card or json.dumps(config, indent=2)}


def _installed() -> dict[str, Any]:
    import torch

    from crystalssl._version import __version__
    from crystalssl.encoders import ENCODERS
    from crystalssl.estimators._card import versions
    from crystalssl.pretext import TASKS
    from crystalssl.training import bundled_weights

    devices = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]
    return {
        "crystalssl": __version__,
        **versions(),
        "devices": devices,
        "threads": torch.get_num_threads(),
        "weights": sorted(bundled_weights()),
        "encoders": ENCODERS.names(),
        "methods": TASKS.names(),
    }
