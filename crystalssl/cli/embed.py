"""``crystalssl embed``: from crystals to a table of vectors."""

from __future__ import annotations

from typing import Any

import click

from crystalssl.cli import _options as options

__all__ = ["embed"]


@click.command()
@options.source
@options.table
@click.option(
    "-w",
    "--weights",
    default="joint",
    show_default=True,
    metavar="NAME",
    help="Weights of the encoder: their name, or a weights folder.",
)
@options.device
@options.reading
@click.pass_context
def embed(
    ctx: click.Context,
    source: tuple[str, ...],
    output: str | None,
    weights: str,
    device: str,
    reading: dict[str, Any],
) -> None:
    """Turn crystals into vectors, for other methods.

    \b
        crystalssl embed cifs/ -o vectors.parquet
        crystalssl embed cifs/ --weights my_weights -o vectors.csv

    Records that cannot be used are listed in OUTPUT.failed.csv, or on stderr, and the exit status is then 3.
    """
    from crystalssl.cli._records import write_values
    from crystalssl.estimators import PretrainedCrystalEmbedder, load
    from crystalssl.training._weights import weights_folder

    embedder = load(weights_folder(weights))
    if not isinstance(embedder, PretrainedCrystalEmbedder):
        raise ValueError(f"{weights} holds a finetuned model, which has no vectors; use `crystalssl predict`")
    embedder.set_params(device=device, verbose=0)
    failures = write_values(
        source,
        output,
        embedder.get_feature_names_out().tolist(),
        lambda graphs: [*embedder.transform(graphs).T],
        embedder.encoder_,
        **reading,
    )
    failures.exit(ctx)
