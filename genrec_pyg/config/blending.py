r"""Late fusion of finished runs, with weights found on the validation split."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from torch import Tensor

from genrec_pyg.config.build import Run, fuse, load_run
from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.graph import known_masks
from genrec_pyg.nn.interest import HeldOutLists, mixture_weights
from genrec_pyg.nn.models import Recommender
from genrec_pyg.nn.models.blend import standardized
from genrec_pyg.runs.folder import MEMBERS
from genrec_pyg.utils.files import write_atomically, write_json


@dataclass(frozen=True)
class Weights:
    r"""Weights of a blend and how they were found.

    Args:
        values: Weight of every member.
        chosen: Whether they were chosen on validation; otherwise they are equal.
        num_users: Users with validation items that were measured.
        recall: Validation recall@20 of every member and of the ``'blend'``, on these users, where
            they were chosen.
    """

    values: dict[str, float]
    chosen: bool
    num_users: int
    recall: dict[str, float] = field(default_factory=dict)


def load_members(
    folders: Sequence[str], root: str | None = None, device: str = 'auto'
) -> dict[str, Run]:
    r"""Runs by the names that they get as members of a blend: a number and the name of the folder.

    Raises:
        ConfigError: If there are fewer than two, one is given twice, or one is no run.
    """
    paths = [Path(folder).resolve() for folder in folders]
    if len(paths) < 2:
        raise ConfigError(f'RUN: got {len(paths)}, accepted are two or more folders of runs')
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ConfigError(f'RUN: {folders[number]} is given twice, accepted is once')
    # A backslash separates folders elsewhere.
    names = [
        f'{number}-{path.name}'.replace('\\', '_') for number, path in enumerate(paths, start=1)
    ]
    return {name: load_run(str(path), root, device) for name, path in zip(names, paths)}


@torch.no_grad()
def choose_weights(runs: Mapping[str, Run]) -> Weights:
    r"""Finds the weights by coordinate search on validation recall@20; training and validation
    interactions alone are read.

    Args:
        runs: Runs of the same data and split.
    """
    models: list[Recommender] = [run.model for run in runs.values()]
    data = next(iter(runs.values())).data
    held_out = HeldOutLists(data)
    if not held_out.suffices:
        return Weights(dict.fromkeys(runs, 1.0), False, held_out.user.numel())
    held_out.to(models[0].graph.edge_index.device)
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(model.known_edges(data, known_masks(data, 'val')))
            stack.enter_context(model.cached_embeddings())
        candidates = held_out.candidates([_score(model) for model in models])
    weights, recall, value = mixture_weights(candidates, list(runs))
    return Weights(weights, True, held_out.user.numel(), {**recall, 'blend': value})


def _score(model: Recommender):
    def score(user: Tensor) -> Tensor:
        return standardized(model.score(user))

    return score


def blend(runs: Mapping[str, Run], weights: Weights) -> Run:
    r"""The blended run; members of weight 0 are left out."""
    return fuse(
        {name: run for name, run in runs.items() if weights.values[name] > 0},
        {name: weight for name, weight in weights.values.items() if weight > 0},
        weights.chosen,
    )


def save_blend(
    path: Path, folders: Mapping[str, str], weights: Weights, metrics: Mapping[str, object]
) -> None:
    r"""Writes the folder of a blend, which holds copies of its members and needs their folders no
    more.

    Args:
        path: Its folder, without a run.
        folders: Folder of every member.
        weights: Weights of the members; those of weight 0 are not copied.
        metrics: What ``metrics.json`` gets.

    Raises:
        OutputError: If the system refuses; nothing of the blend remains.
    """
    used = {name: weight for name, weight in weights.values.items() if weight > 0}
    document = {'model': 'Blend', 'chosen_on_validation': weights.chosen, 'members': used}
    try:
        for name in used:
            _copy_run(Path(folders[name]), path / MEMBERS / name)
        write_json(path / 'metrics.json', dict(metrics))
        # Last: with it the folder is a run.
        write_atomically(
            path / 'config.yaml',
            lambda file: file.write(yaml.safe_dump(document, sort_keys=False).encode()),
        )
    except BaseException as error:
        shutil.rmtree(path / MEMBERS, ignore_errors=True)
        for name in ('metrics.json', 'config.yaml'):
            (path / name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f'{path}: cannot be written ({error.strerror})') from error
        raise


def _copy_run(source: Path, target: Path) -> None:
    for name in ('config.yaml', 'metrics.json', os.path.join('checkpoints', 'best.pt')):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
    members = source / MEMBERS
    for member in members.iterdir() if members.is_dir() else ():
        _copy_run(member, target / MEMBERS / member.name)
