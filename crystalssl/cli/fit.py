"""``crystalssl fit``: from labelled crystals to a model folder."""

from __future__ import annotations

from typing import Any

import click

from crystalssl.cli import _options as options
from crystalssl.cli._failures import Interrupted

__all__ = ["fit"]


@click.command(short_help="Train a model on crystals whose property is known.")
@options.source
@options.targets(
    "Column of the property, or the table that holds it, such as id_prop.csv. Several: --target a --target b.",
    required=True,
)
@options.output("Folder of the model; a model that is there is replaced.", required=True)
@click.option(
    "--task",
    type=click.Choice(["auto", "regression", "classification"]),
    default="auto",
    show_default=True,
    help='"auto" takes texts and truth values for classes.',
)
@click.option(
    "--pretrain",
    default="joint",
    show_default=True,
    metavar="NAME",
    help='Weights to start from: their name, a weights folder, or "none" for random ones.',
)
@click.option("--encoder", metavar="NAME", help="Encoder, where --pretrain none.")
@click.option("--epochs", type=int, default=100, show_default=True, help="Passes over the crystals.")
@click.option("--ensemble", type=int, default=1, show_default=True, help="Networks; two or more give deviations.")
@click.option("--early-stopping", is_flag=True, help="Hold a tenth out, and stop when it is not predicted better.")
@click.option("--target-per", type=click.Choice(["atom", "area", "volume"]), help="Learn the target divided by this.")
@click.option("--cv", type=click.IntRange(2), metavar="FOLDS", help="Cross-validate before, for the card.")
@options.on_error("raise")
@options.params
@options.device
@options.seed
@options.reading
@click.pass_context
def fit(
    ctx: click.Context,
    source: tuple[str, ...],
    targets: tuple[str, ...],
    output: str,
    task: str,
    pretrain: str,
    encoder: str | None,
    epochs: int,
    ensemble: int,
    early_stopping: bool,
    target_per: str | None,
    cv: int | None,
    on_error: str,
    params: tuple[str, ...],
    device: str,
    seed: int,
    reading: dict[str, Any],
) -> None:
    """Train a model on crystals whose property is known.

    SOURCE is a folder or files of crystals, or tables that hold them: CIF, POSCAR, JSON, CSV, extended XYZ, ASE
    databases, Parquet and more (docs/data.md).

    \b
        crystalssl fit cifs/ --target id_prop.csv -o model
        crystalssl fit bulk.json.gz --target k_vrh --ensemble 5 --cv 5 -o model
        crystalssl fit labelled.parquet --target gap --target bulk --pretrain weights -o model

    Several targets are learnt together, and may be missing for some crystals. The folder holds the weights, the
    settings and a card, README.md; `crystalssl predict` reads it, and `crystalssl.load` in Python.
    """
    from pathlib import Path

    from crystalssl.cli._fitting import cross_validate, describe, make_model
    from crystalssl.cli._records import Failures, read
    from crystalssl.estimators._source import EncoderSource
    from crystalssl.training._folders import MODEL, check_free

    check_free(Path(output), MODEL)  # before hours of training
    weights = None if pretrain.lower() == "none" else pretrain
    with Failures(output) as failures:
        data = read(
            source,
            targets,
            encoder=EncoderSource.of(weights, encoder, ()).recipe,
            on_error=on_error,
            **reading,
        )
        failures.add_report(data.report)
        shared: dict[str, Any] = {
            "pretrain": weights,
            "encoder": encoder,
            "max_epochs": epochs,
            "ensemble_size": ensemble,
            "early_stopping": early_stopping,
            "device": device,
            "random_state": seed,
            "verbose": int(reading["verbose"]),
        }
        model = options.set_params(make_model(task, data.target, target_per, shared), params)
        try:
            errors = cross_validate(model, data.data, data.target, cv, seed) if cv else None
            for name, value in (errors or {}).items():
                click.echo(f"{name}: {value}")
            model.fit(data.data, data.target)
        except KeyboardInterrupt:
            raise Interrupted(f"Nothing was written to {output}.") from None
        model.save(output, cross_validation=errors, command=options.command_line(ctx))
    click.echo(describe(model, output), err=True)
    failures.exit(ctx)
