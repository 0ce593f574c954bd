"""The card of a model folder: what a reader needs to know before using the model."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

__all__ = ["versions", "write_card"]

_PACKAGES = ("numpy", "pymatgen", "scikit-learn", "skorch", "torch", "torch-geometric")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a model depends on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def write_card(model: Any, config: dict[str, Any]) -> str:
    """Return the text of README.md, in Markdown.

    Parameters
    ----------
    model : CrystalSSLRegressor or CrystalSSLClassifier
        The fitted model.
    config : dict
        What its config.json says.
    """
    name = config["estimator"]
    targets = ", ".join(_with_unit(*target) for target in zip(model.target_names_, model.target_units_, strict=True))
    sections = {
        "Data": _data(model),
        "Training": _training(model, config),
        "Settings": _settings(model, config),
        "Cross-validation": _cross_validation(config["cross_validation"]),
        "Versions": [f"- crystalssl {config['version']}", *(f"- {k} {v}" for k, v in config["versions"].items())],
        "Command": [f"    {line}" for line in (config["command"] or "").splitlines()],
    }
    lines = [
        f"# {name}: {targets}",
        "",
        "A model made by crystalssl. Nothing in this folder is executed when it is read:",
        "",
        "    import crystalssl",
        "    model = crystalssl.load(folder)",
        "    model.predict(crystals)",
    ]
    for title, section in sections.items():
        if section:
            lines += ["", f"## {title}", "", *section]
    return "\n".join(lines) + "\n"


def _with_unit(name: str, unit: str | None) -> str:
    return name if unit is None else f"{name} ({unit})"


def _cell(text: Any) -> str:
    """Return a text as the cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _symbols(numbers: list[int]) -> str:
    from pymatgen.core import Element

    return f"{len(numbers)}: {', '.join(Element.from_Z(z).symbol for z in numbers)}"


def _data(model: Any) -> list[str]:
    known = getattr(model, "trained_on_", {})  # which a model of an earlier version does not say
    lines = []
    if "n_crystals" in known:
        lines += [f"- crystals: {known['n_crystals']}, of which {known['n_trained']} were trained on"]
        lines[0] += f" and {known['n_held_out']} decided when to stop" if known["n_held_out"] else ""
    lines += [f"- elements trained on, {_symbols(getattr(model, 'trained_elements_', model.elements_).tolist())}"]
    if "range" in known:
        rows = zip(model.target_names_, model.target_units_, known["n_known"], known["range"], strict=True)
        lines += ["", "| target | unit | known values | least | greatest |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {_cell(name)} | {_cell(unit or '')} | {n} | {low:.4g} | {high:.4g} |"
            for name, unit, n, (low, high) in rows
        ]
    if "n_of_class" in known:
        lines += ["", "| class | crystals |", "| --- | --- |"]
        lines += [f"| {_cell(label)} | {count} |" for label, count in known["n_of_class"]]
    return lines


def _training(model: Any, config: dict[str, Any]) -> list[str]:
    network, histories = config["network"], [net.history for net in model.nets_]
    lines = [
        f"- networks: {len(histories)}",
        f"- encoder: {network['encoder']}, {', '.join(f'{k}={v!r}' for k, v in network['encoder_params'].items())}",
    ]
    if not all(histories):
        return lines
    last = [history[-1]["train_loss"] for history in histories]
    lines += [
        f"- epochs: {', '.join(str(len(history)) for history in histories)}",
        f"- training loss of the last epoch, of scaled targets: {', '.join(f'{loss:.4g}' for loss in last)}",
    ]
    if "valid_loss" in histories[0][-1]:
        best = [min(epoch["valid_loss"] for epoch in history) for history in histories]
        lines += [f"- least loss of held-out crystals: {', '.join(f'{loss:.4g}' for loss in best)}"]
    seconds = sum(epoch.get("dur", 0.0) for history in histories for epoch in history)
    return [*lines, f"- time: {seconds:.0f} s"]


def _settings(model: Any, config: dict[str, Any]) -> list[str]:
    defaults, left_out = type(model)().get_params(deep=False), config["not_stored"]
    lines = []
    for name, value in model.get_params(deep=False).items():
        if name in ("n_jobs", "verbose"):
            continue
        if name in left_out:
            lines.append(f"- {name}: {left_out[name]} (not stored)")
        elif name == "pretrain" or (value is not defaults[name] and value != defaults[name]):
            lines.append(f"- {name}: {value!r}")
    return [*lines, "", "All others that matter have their defaults."]


def _cross_validation(errors: Any) -> list[str]:
    if isinstance(errors, dict):
        return [f"- {name}: {value}" for name, value in errors.items()]
    return [errors] if errors else []
