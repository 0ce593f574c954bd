"""The examples of docs/matbench.md on the small tasks."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from crystalssl import CrystalSSLRegressor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "matbench.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.usefixtures("layers")
def test_page_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    original = CrystalSSLRegressor.__init__

    def init(self, pretrain="joint", **kwargs):
        original(self, pretrain, **{"max_epochs": 1, "head_dim": 8} | kwargs)

    init.__signature__ = inspect.signature(original)
    monkeypatch.setattr(CrystalSSLRegressor, "__init__", init)
    names = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(BLOCKS) == 3
    assert set(names["comparison"].folds.algorithm) == {"joint", "forest"}
    assert "matbench_jdft2d" in capsys.readouterr().out
