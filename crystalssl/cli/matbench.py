"""``crystalssl matbench``: the official folds, and where the results stand."""

from __future__ import annotations

import click

from crystalssl.cli import _options as options
from crystalssl.cli._failures import Interrupted

__all__ = ["matbench"]


@click.command(short_help="Run the official folds of Matbench.")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@options.output("Folder of the run; a run that broke off goes on.", required=True)
@click.option("--compare", is_flag=True, help="Run nothing: show where the results of the folder stand.")
@click.option("--fold", "folds", type=click.IntRange(0, 4), multiple=True, help="Folds to run; all five if not given.")
@click.option("--pretrain", default="joint", show_default=True, metavar="NAME", help="Weights to start from.")
@click.option("--ensemble", type=int, default=1, show_default=True, help="Networks; two or more give deviations.")
@click.option("--data-home", type=click.Path(), metavar="FOLDER", help="Where the data sets are, or are put.")
@options.params
@options.device
@options.jobs
@options.seed
@options.common
def matbench(
    tasks: tuple[str, ...],
    output: str,
    compare: bool,
    folds: tuple[int, ...],
    pretrain: str,
    ensemble: int,
    data_home: str | None,
    params: tuple[str, ...],
    device: str,
    jobs: int | None,
    seed: int,
    quiet: bool,
) -> None:
    """Run the official folds of Matbench v0.1, and write the files of a submission.

    TASK is a name such as matbench_phonons; without one all tasks of structures and numbers are run. --jobs is the
    number of folds that run beside each other.

    \b
        crystalssl matbench matbench_phonons matbench_jdft2d -o submission
        crystalssl matbench -o submission --compare
    """
    from crystalssl import CrystalSSLClassifier, CrystalSSLRegressor
    from crystalssl import matbench as official

    if compare:
        if tasks or folds:
            raise click.UsageError("--compare shows what the folder holds; leave the tasks and folds out")
        click.echo(str(official.compare(output)))
        return
    classes = "matbench_mp_is_metal" in tasks
    if classes and len(tasks) > 1:
        raise click.UsageError("matbench_mp_is_metal takes a classifier; run it by itself, into the same folder")
    model = (CrystalSSLClassifier if classes else CrystalSSLRegressor)(
        None if pretrain.lower() == "none" else pretrain,
        ensemble_size=ensemble,
        device=device,
        random_state=seed,
    )
    options.set_params(model, params)
    try:
        run = official.run(
            model,
            list(tasks) or None,
            out=output,
            folds=list(folds) or None,
            return_std=ensemble > 1 and not classes,
            n_jobs=jobs,
            data_home=data_home,
            verbose=0 if quiet else 1,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"Folds that were finished are in {output}; go on with the same command.") from None
    click.echo(run.scores.to_string(index=False))
    if run.results is not None:
        click.echo(f"{run.results} holds {', '.join(run.complete)}", err=True)
