import matplotlib
import pytest


@pytest.fixture(autouse=True)
def _agg():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield
    pyplot.close("all")
