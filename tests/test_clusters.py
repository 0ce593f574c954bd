"""Joblib's clusters give the bits of serial runs."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.model_selection import GridSearchCV, cross_val_score

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, matbench
from crystalssl.cli import cli
from crystalssl.encoders import CGCNN

from .matbench.conftest import small, tasks  # noqa: F401


def dask_cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        yield "dask"


def ray_cluster():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    yield "ray"
    ray.shutdown()


@pytest.fixture(scope="module", params=[dask_cluster, ray_cluster], ids=["dask", "ray"])
def cluster(request):
    """Name of the backend, of which two processes run."""
    yield from request.param()


@pytest.fixture(scope="module")
def model():
    encoder = CGCNN(hidden_dim=8, n_layers=1)
    return CrystalSSLRegressor(pretrain=None, encoder=encoder, head_dim=8, max_epochs=2, batch_size=8, random_state=0)


@pytest.fixture(scope="module")
def data(prototypes):
    structures = [structure for structure in prototypes if len(structure) <= 6][:24]
    return structures, np.array([structure.density for structure in structures])


def everything(model, data, folder):
    """What parallel code of scikit-learn and of this package comes to."""
    structures, y = data
    graphs = CrystalGraphTransformer(encoder="cgcnn").transform(structures)
    search = GridSearchCV(model, {"head_dim": [4, 8]}, cv=2).fit(graphs, y)
    run = matbench.run(model, "matbench_phonons", out=folder / "run", verbose=0)
    return {
        "cross-validation": cross_val_score(model, graphs, y, cv=3),
        "search": np.array([search.cv_results_[f"split{i}_test_score"] for i in range(2)]),
        "refitted": search.predict(graphs),
        "matbench": run.scores["mae"].to_numpy(),
    }


def test_as_serial_to_the_bit(cluster, model, data, tmp_path):
    serial = everything(model, data, tmp_path / "serial")
    with joblib.parallel_config(cluster, n_jobs=2):
        parallel = everything(model, data, tmp_path / "parallel")
    for name, values in serial.items():
        np.testing.assert_array_equal(parallel[name], values, err_msg=name)


def test_graphs_of_many_crystals(cluster, prototypes):
    """So many that they are several processes' work."""
    crystals = [prototypes[i % 20 + 130] for i in range(600)]
    serial = CrystalGraphTransformer().transform(crystals)
    with joblib.parallel_config(cluster, n_jobs=2):
        parallel = CrystalGraphTransformer(n_jobs=2).transform(crystals)
    assert joblib.hash(parallel) == joblib.hash(serial)


def test_screening(cluster, model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    structures, y = data
    model.fit(structures, y).save("model")
    (tmp_path / "cifs").mkdir()
    for number, structure in enumerate(structures):
        structure.to(filename=f"cifs/{number:02}.cif")

    def screen(output):
        arguments = ["screen", "model", "cifs", "--top", "5", "-o", output, "-j", "2", "-q"]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return (tmp_path / output).read_text()

    serial = screen("serial.csv")
    with joblib.parallel_config(cluster, n_jobs=2):
        assert screen("parallel.csv") == serial
