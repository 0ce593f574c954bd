"""Pretraining by names, as users ask an estimator for it."""

from __future__ import annotations

from crystalssl.encoders import ENCODERS
from crystalssl.pretext import resolve_task
from crystalssl.training import _pretrain


def pretrain(graphs, y, *, method, encoder, encoder_params, encoder_state, task_params, seed, **settings):
    """Make the task, and return the weights of its encoder and the history."""
    template = resolve_task(method, **task_params)
    task = _pretrain.make_task(template, ENCODERS[encoder], encoder_params, encoder_state, seed)
    key = _pretrain.key_of(task, encoder_state)
    return _pretrain.pretrain(task, graphs, y, key=key, seed=seed, **settings)
