"""``crystalssl pretrain``: from crystals without labels to a weights folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from crystalssl.cli import _options as options
from crystalssl.cli._failures import FAILED_RECORDS, Interrupted

__all__ = ["pretrain"]


@click.command(short_help="Pretrain an encoder on crystals.")
@options.source
@options.output("Folder of the weights; weights that are there are replaced.", required=True)
@click.option("--method", default="joint", show_default=True, metavar="NAME", help="Pretext task.")
@click.option("--encoder", metavar="NAME", help="Encoder; that of the method's paper if not given.")
@click.option("--start", metavar="NAME", help="Weights to go on from: their name, or a weights folder.")
@click.option("--epochs", type=int, default=15, show_default=True, help="Passes over the crystals.")
@options.targets("Columns of labels, for methods that learn from some.")
@options.on_error("report")
@options.params
@options.device
@options.seed
@options.reading
@click.pass_context
def pretrain(
    ctx: click.Context,
    source: tuple[str, ...],
    output: str,
    method: str,
    encoder: str | None,
    start: str | None,
    epochs: int,
    targets: tuple[str, ...],
    on_error: str,
    params: tuple[str, ...],
    device: str,
    seed: int,
    reading: dict[str, Any],
) -> None:
    """Pretrain an encoder on crystals, with or without labels.

    \b
        crystalssl pretrain corpus/ -o weights
        crystalssl pretrain corpus.parquet --method barlow --epochs 30 -o weights
        crystalssl pretrain mine/ --start joint -o weights

    The state is saved after every epoch, in OUTPUT.checkpoint, and before the end that SIGTERM asks for. After that,
    Ctrl-C, or a crash, the same command goes on from there, to the weights that it would have had.

    Several processes, on one machine or many, with or without GPUs, share the crystals of every batch:

    \b
        torchrun --nproc-per-node 4 -m crystalssl pretrain corpus/ -o weights
    """
    from crystalssl import PretrainedCrystalEmbedder
    from crystalssl.cli._records import Failures, read
    from crystalssl.encoders import resolve_encoder
    from crystalssl.estimators._source import EncoderSource
    from crystalssl.pretext import resolve_task
    from crystalssl.training import distributed
    from crystalssl.training._folders import WEIGHTS, check_free
    from crystalssl.training._preemption import Terminated

    folder, checkpoint = Path(output), Path(f"{output}.checkpoint")
    check_free(folder, WEIGHTS)
    if start is None:
        recipe = resolve_encoder(encoder or resolve_task(method).encoder_name)[0].recipe
    else:
        recipe = EncoderSource.of(start, encoder, ()).recipe
    embedder = PretrainedCrystalEmbedder(
        method,
        encoder=encoder,
        weights=start,
        continue_training=start is not None,
        max_epochs=epochs,
        checkpoint=checkpoint,
        device=device,
        random_state=seed,
    )
    options.set_params(embedder, params)
    with distributed(device) as ranks, Failures(output) as failures:
        first = ranks.rank == 0
        if not first:  # of all that they could say, the first one says the same
            reading["verbose"] = False
            warnings.simplefilter("ignore")
        embedder.set_params(verbose=int(reading["verbose"]))
        data = read(
            source,
            targets,
            encoder=recipe,
            on_error=on_error,
            keep_unlabelled=True,
            **reading,
        )
        if first:
            failures.add_report(data.report)
        try:
            embedder.fit(data.data, None if data.target is None else data.target.to_numpy())
        except KeyboardInterrupt:
            if not checkpoint.exists():
                raise Interrupted("No epoch was finished, and nothing was written.") from None
            command = options.command_line(ctx)
            raise Interrupted(f"The state is in {checkpoint}; go on with: {command}") from None
        except Terminated as error:
            if not first:
                raise
            raise Interrupted(f"The state is in {checkpoint}; the same command goes on.", error.status) from None
        if not first:
            return
        embedder.save_pretrained(folder)
    checkpoint.unlink(missing_ok=True)
    click.echo(f"{folder}: {embedder.encoder_.name} by {method}, pretrained on {len(data.data)} crystals", err=True)
    failures.exit(ctx, FAILED_RECORDS if ranks.size == 1 else 0)  # which torchrun would take for a crash
