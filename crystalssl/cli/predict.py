"""``crystalssl predict``: from a model folder and crystals to a table."""

from __future__ import annotations

import click

from crystalssl.cli import _options as options

__all__ = ["predict"]


@click.command()
@click.argument("model", type=click.Path(), metavar="MODEL")
@options.source
@options.output("Table to write: .csv, .tsv, .jsonl or .parquet; stdout if not given, or for `-`.")
@options.id_column
@options.structure_column
@options.device
@options.jobs
@options.common
@click.pass_context
def predict(
    ctx: click.Context,
    model: str,
    source: tuple[str, ...],
    output: str | None,
    id_column: str | None,
    structure_column: str | None,
    device: str,
    jobs: int | None,
    quiet: bool,
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
        id=id_column,
        structure=structure_column,
        n_jobs=jobs,
        verbose=not quiet,
    )
    predictor.finish()
    failures.exit(ctx)
