r"""Everything that a page shows, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.config.build import Run
from genrec_pyg.encoders.item_images import ItemImages
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, USER, raw_ids
from genrec_pyg.reporting.page.charts import (
    activity_chart,
    curve_charts,
    figure_charts,
    popularity_chart,
)
from genrec_pyg.reporting.page.flips import flips_of
from genrec_pyg.reporting.page.maps import cluster_labels, item_maps
from genrec_pyg.reporting.page.people import people
from genrec_pyg.reporting.page.pictures import pictures

#: Columns of the table of models.
COLUMNS = ('recall@20', 'ndcg@20', 'precision@20', 'mrr@20', 'coverage@20')


def page_content(
    runs: Mapping[str, Run],
    folders: Mapping[str, Path],
    split: str = 'test',
    k: int = 20,
    num_users: int = 40,
    users: Sequence[str] = (),
    titles: Mapping[str, str] | None = None,
    images: ItemImages | None = None,
) -> dict[str, Any]:
    r"""Measures runs of the same data and gathers what a page shows of them.

    Args:
        runs: Runs by name.
        folders: Their folders, for learning curves and reference models.
        split: Held-out interactions.
        k: Length of the lists.
        num_users: Users to browse through, drawn from those with held-out items.
        users: Ids of further users to browse through.
        titles: Titles by item id, in place of those of the graph.
        images: Pictures of the items in the order of the graph, in place of those of the graph.

    Raises:
        ConfigError: If a user is unknown or has no held-out item.
        DataError: If a run is of another split than the first.
    """
    first = next(iter(runs.values()))
    data = first.data
    evaluators = {
        name: Evaluator(run.data, split, sorted({10, k}), run.config.protocol)
        for name, run in runs.items()
    }
    measured = {name: evaluators[name].measure(run.model) for name, run in runs.items()}
    _check_same({name: one.users.origin for name, one in measured.items()})
    values = {name: one.users for name, one in measured.items()}
    figures = {name: {**one.figures, **one.further} for name, one in measured.items()}
    evaluator = next(iter(evaluators.values()))
    chosen = _choose_users(data, evaluator, num_users, users)
    models = {name: run.model for name, run in runs.items()}
    found_people = people(models, evaluators, chosen, k)
    flips = {name: found for name, run in runs.items() if (found := flips_of(run.model))}
    for person in found_people:
        person['id'] = str(raw_ids(data, USER)[person['user']])
        person['flips'] = {name: found.of_user(person['user']) for name, found in flips.items()}
    shown = _shown_items(found_people)
    labels = cluster_labels(list(models.values()), evaluator.graph)
    documents = {name: _read_json(folder / 'metrics.json') for name, folder in folders.items()}
    return {
        'title': f'{first.config.dataset}: {", ".join(runs)}',
        'facts': _facts(runs, evaluator),
        'k': k,
        'split': {'val': 'validation'}.get(split, split),
        'runs': [{'name': name, 'settings': _settings(run)} for name, run in runs.items()],
        'curves': curve_charts({name: _records(folder) for name, folder in folders.items()}),
        'table': _table(documents, figures, {'val': 'validation'}.get(split, split)),
        'groups': [activity_chart(values, f'recall@{k}'), popularity_chart(values, k)],
        'figures': figure_charts(figures, k),
        'maps': item_maps(evaluator.graph, labels, torch.tensor(sorted(shown))),
        'flips': {name: found.summary() for name, found in flips.items()},
        'people': found_people,
        'items': _items(
            data, shown, Path(first.config.root) / first.config.dataset, titles, images
        ),
    }


def _check_same(origins: Mapping[str, Mapping[str, Any]]) -> None:
    (first, expected), *others = origins.items()
    names = {'training': 'training interactions', 'held_out': 'held-out interactions'}
    for other, found in others:
        for key, what in {**names, 'protocol': 'protocol'}.items():
            if found[key] != expected[key]:
                raise ConfigError(
                    f'RUN: {other} has other {what} than {first}; accepted are runs of the same '
                    'data, split and protocol'
                )


def _choose_users(
    data: HeteroData, evaluator: Evaluator, num_users: int, ids: Sequence[str]
) -> Tensor:
    known = {str(raw): number for number, raw in enumerate(raw_ids(data, USER))}
    asked = []
    for name in ids:
        if name not in known:
            raise ConfigError(f'--users: no user {name!r}')
        if not evaluator.held_out(known[name]):
            raise ConfigError(f'--users: user {name!r} has no held-out item, accepted are others')
        asked.append(known[name])
    everyone = evaluator.all_users
    step = max(1, everyone.numel() // max(num_users, 1))
    drawn = everyone[::step][:num_users].tolist()
    return torch.tensor(list(dict.fromkeys([*asked, *drawn])), dtype=torch.long)


def _shown_items(found: Sequence[Mapping[str, Any]]) -> set[int]:
    shown: set[int] = set()
    for person in found:
        shown.update(person['history'], person['held_out'])
        for rows in person['lists'].values():
            shown.update(row[0] for row in rows)
        for rows in person['reasons'].values():
            shown.update(row[0] for row in rows)
        for kinds in person['flips'].values():
            for rows in kinds.values():
                shown.update(row[0] for row in rows)
    return shown


def _items(
    data: HeteroData,
    shown: set[int],
    folder: Path,
    titles: Mapping[str, str] | None,
    images: ItemImages | None,
) -> dict[str, dict[str, str]]:
    ids, own = raw_ids(data, ITEM), data[ITEM].get('title')
    found = {}
    for item in sorted(shown):
        found[str(item)] = {'id': str(ids[item])}
        title = (
            own[item] if titles is None and own is not None else (titles or {}).get(str(ids[item]))
        )
        if title:
            found[str(item)]['title'] = str(title)[:200]
    root = folder if folder.is_dir() else folder.parent
    source = data[ITEM].get('image') if images is None else images
    for item, address in pictures(source, sorted(shown), root).items():
        found[str(item)]['picture'] = address
    return found


def _facts(runs: Mapping[str, Run], evaluator: Evaluator) -> list[str]:
    graph = evaluator.graph
    first = next(iter(runs.values()))
    return [
        f'{graph.num_users} users, {graph.num_items} items, {graph.num_edges} training '
        f'interactions',
        f'modalities: {", ".join(graph.modalities) or "none"}',
        f'{evaluator.all_users.numel()} users with held-out items, protocol '
        f'{first.config.protocol}',
        *(f'{name}: {run.selection}' for name, run in runs.items()),
    ]


def _settings(run: Run) -> list[list[str]]:
    config = run.config
    rows = [['model', config.model], ['seed', config.seed], ['epochs', config.epochs]]
    for group, values in (('trainer', config.trainer), ('hparams', config.hparams)):
        rows += [[f'{group}.{name}', value] for name, value in values.items()]
    return [[name, str(value)] for name, value in rows]


def _table(
    documents: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, Mapping[str, float]],
    label: str,
) -> dict[str, Any]:
    r"""Reference models and parts as the runs have written them, beside the runs, measured now."""
    rows: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name, document in documents.items():
        for kind, entries in (
            ('reference', document.get('reference')),
            ('part', document.get('parts')),
        ):
            for other, found in (entries if isinstance(entries, dict) else {}).items():
                title = other if kind == 'reference' else f'{name}, {other} alone'
                if isinstance(found, dict) and isinstance(found.get(label), dict):
                    rows.setdefault(title, (kind, found[label]))
    for name, found in figures.items():
        rows[name] = ('run', found)
    columns = [c for c in COLUMNS if all(c in found for _, found in rows.values())]
    columns = columns or [c for c in next(iter(figures.values())) if '@' in c][:5]
    return {
        'columns': columns,
        'rows': [
            [name, kind, [found.get(c) for c in columns]] for name, (kind, found) in rows.items()
        ],
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _records(folder: Path) -> list[dict[str, Any]]:
    records = []
    try:
        lines = (folder / 'metrics.jsonl').read_text('utf-8', 'replace').splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # the last line of an interrupted run may be torn
            continue
        if isinstance(record, dict) and isinstance(record.get('epoch'), int):
            records.append(record)
    return records
