"""``crystalssl graphs``: crystals as graphs on the disk, made once."""

from __future__ import annotations

from typing import Any

import click

from crystalssl.cli import _options as options

__all__ = ["graphs"]


@click.command(short_help="Make the graphs of crystals once.")
@options.source
@options.output("Folder of the graphs, which must not exist yet.", required=True)
@click.option("--encoder", default="gatedgcn", show_default=True, metavar="NAME", help="Encoder that will read them.")
@click.option("--cutoff", type=float, metavar="Å", help="Longest edge, if not the encoder's.")
@click.option("--max-neighbors", type=int, metavar="N", help="Neighbours of an atom, if not the encoder's.")
@options.reading
@click.pass_context
def graphs(
    ctx: click.Context,
    source: tuple[str, ...],
    output: str,
    encoder: str,
    cutoff: float | None,
    max_neighbors: int | None,
    reading: dict[str, Any],
) -> None:
    """Make the graphs of crystals once, for training and predicting many times.

    \b
        crystalssl graphs corpus.parquet -o graphs
        crystalssl predict model graphs -o out.csv

    The ids go to OUTPUT.ids.csv, in the order of the graphs. In Python, CrystalGraphs.load(folder) maps them into
    memory. Records that cannot be used are listed in OUTPUT.failed.csv, and the exit status is then 3.
    """
    from pathlib import Path

    from crystalssl import CrystalGraphTransformer
    from crystalssl.cli._records import Failures, ids_beside, read
    from crystalssl.cli._table import open_table

    folder = Path(output)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; remove it or choose another name")
    recipe = CrystalGraphTransformer(encoder, cutoff=cutoff, max_neighbors=max_neighbors)
    data = read(
        source,
        (),
        encoder=recipe,
        on_error="report",
        **reading,
    )
    with Failures(output) as failures:
        failures.add_report(data.report)
        if len(data.ids) == 0:
            raise ValueError("no record can be used")
        data.data.save(folder)
        with open_table(str(ids_beside(folder)), ["id"]) as table:
            table.write([[name] for name in data.ids])
    click.echo(f"{folder}: {data.data}", err=True)
    failures.exit(ctx)
