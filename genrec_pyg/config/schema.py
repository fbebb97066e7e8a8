r"""Configuration of a run as plain values, and its settings by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.settings import dotted, setting_groups

#: Keys that hold settings of one part each.
GROUPS = ('trainer', 'hparams')


@dataclass
class RunConfig:
    r"""Resolved configuration of a run; every field is a flag and a YAML key of the same name.

    Args:
        dataset: Dataset, the name of its folder or the path of its table under ``root``, or
            ``'demo'``.
        root: Folder of the datasets.
        modalities: Modalities to use, ``NAME`` or ``NAME=FILE``; :obj:`None` takes all.
        columns: Columns of a table, ``ROLE=NAME``; others are found by usual names.
        on_bad_row: What an unreadable row of a table or log does: ``'error'`` or ``'skip'``, which
            counts it and leaves it out.
        min_rating: Least rating that counts as an interaction.
        k_core: Least number of items per user and users per item.
        split: Split in place of that of the dataset, see :func:`~genrec_pyg.datasets.from_table`.
        check_features: What follows from features that do not belong to the items: ``'error'``,
            ``'warn'`` or ``'off'``, see :func:`~genrec_pyg.datasets.from_table`.
        model: Name of the model.
        seed: Seed.
        epochs: Largest number of epochs.
        device: ``'auto'`` or a torch device.
        protocol: ``'validation'`` or ``'published'``.
        mirror_gradient: Whether Mirror Gradient wraps the optimizer.
        references: Whether reference models, tuned on validation, are evaluated next to the model.
        output: Folder of the run.
        trainer: Further arguments of the trainer.
        hparams: Hyper-parameters of the model; those of a group (``denoiser``) are a mapping.
    """

    dataset: str = 'demo'
    root: str = 'data'
    modalities: list[str] | None = None
    columns: list[str] | None = None
    on_bad_row: str = 'error'
    min_rating: float | None = None
    k_core: int = 0
    split: str | None = None
    check_features: str = 'error'
    model: str = 'GenRec'
    seed: int = 0
    epochs: int = 50
    device: str = 'auto'
    protocol: str = 'validation'
    mirror_gradient: bool = False
    references: bool = True
    output: str | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    hparams: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        r"""Plain values, as written to ``config.yaml``."""
        return asdict(self)

    def to_yaml(self) -> str:
        r"""YAML that ``--config`` reads back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def flatten(values: Mapping[str, Any], model: str | None = None) -> dict[str, Any]:
    r"""The same settings with dotted names (``'trainer.lr'``, ``'hparams.denoiser.rank'``).

    Args:
        values: Settings, of which ``hparams`` may have groups.
        model: Model whose groups they are; :obj:`None` takes that of ``values``.
    """
    flat = {}
    model = model or values.get('model')
    for key, value in values.items():
        if key not in GROUPS:
            flat[key] = plain(value)
            continue
        value = value or {}
        if key == 'hparams' and model is not None:
            value = dotted(get_model(model), value)
        flat.update({f'{key}.{name}': plain(entry) for name, entry in value.items()})
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    r"""The inverse of :func:`flatten`."""
    values: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, key = name.split('.')
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = value
    return values


def merge(
    base: Mapping[str, Any], over: Mapping[str, Any], model: str | None = None
) -> dict[str, Any]:
    r"""``base`` with the entries of ``over``; the settings within groups one by one.

    Args:
        base: Settings.
        over: Settings that win.
        model: Model whose groups of settings ``hparams`` has.
    """
    groups = {} if model is None else setting_groups(get_model(model))
    merged = dict(base)
    for key, value in over.items():
        if key not in GROUPS:
            merged[key] = value
            continue
        part = dict(merged.get(key) or {})
        for name, entry in (value or {}).items():
            joins = (
                name in groups
                and isinstance(entry, Mapping)
                and isinstance(part.get(name), Mapping)
            )
            part[name] = {**part[name], **entry} if joins else entry
        merged[key] = part
    return merged


def plain(value: Any) -> Any:
    r"""``value`` with mappings and sequences as YAML writes them."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value
