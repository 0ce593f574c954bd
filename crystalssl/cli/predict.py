"""``crystalssl predict``: from a model folder and crystals to a table."""

from __future__ import annotations

from typing import Any

import click

from crystalssl.cli import _options as options

__all__ = ["predict"]


@click.command()
@click.argument("model", type=click.Path(), metavar="MODEL")
@options.source
@options.table
@options.device
@options.reading
@click.pass_context
def predict(
    ctx: click.Context,
    model: str,
    source: tuple[str, ...],
    output: str | None,
    device: str,
    reading: dict[str, Any],
) -> None:
    """Predict the property of crystals.

    MODEL is a folder that `crystalssl fit` wrote. SOURCE is a folder or files of crystals, or tables that hold them;
    `-` reads one of them from stdin. It is read in a stream: it may hold more crystals than fit into memory.

    \b
        crystalssl predict model new/*.cif -o out.csv
        crystalssl predict model candidates.parquet -o out.parquet
        zcat structures.jsonl.gz | crystalssl predict model - | sort -t, -k2 -g | head

    The table has the columns id, prediction, and std for an ensemble, or probabilities for classes, in the order of the
    input. Records that cannot be used are listed in OUTPUT.failed.csv, or on stderr, and the exit status is then 3.
    """
    from crystalssl.cli._applying import load_predictor
    from crystalssl.cli._records import write_values

    predictor = load_predictor(model, device)
    failures = write_values(
        source,
        output,
        predictor.columns,
        predictor,
        predictor.model.net_.module_.encoder,
        **reading,
    )
    predictor.finish()
    failures.exit(ctx)
