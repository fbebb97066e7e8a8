r"""Reference models that need no training, so that a user sees at once what a result is worth."""
from __future__ import annotations

import logging

from torch_geometric.data import HeteroData

from genrec_pyg.config import RunConfig, shipped_defaults
from genrec_pyg.evaluation import check_row, evaluate
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import has_split
from genrec_pyg.nn.models import get_model

logger = logging.getLogger(__name__)

#: Names of the models, weakest first.
REFERENCES = ('Popularity', 'ItemKNN', 'EASE')
COLUMNS = ('recall@20', 'ndcg@20', 'precision@20', 'mrr@20', 'coverage@20')

Figures = dict[str, dict[str, float]]


def reference_figures(data: HeteroData, config: RunConfig, ks: tuple[int, ...] = (10, 20)) -> dict[str, Figures]:
    r"""Validation and test figures of the reference models with their shipped settings, except the run's own model; those of a
    split without interactions are empty."""
    found = {}
    for name in REFERENCES:
        if name == config.model:
            continue
        hparams = shipped_defaults(name, config.dataset).get('hparams', {})
        try:
            model = get_model(name)(data, modalities=[], **hparams)
        except ConfigError as error:  # EASE above its item limit
            logger.info('%s is left out: %s', name, error)
            continue
        found[name] = {label: evaluate(model, data, split, ks, config.protocol) if has_split(data, split) else {}
                       for split, label in (('test', 'test'), ('val', 'validation'))}
    return found


def result_table(rows: dict[str, Figures], title: str) -> str:
    r"""Plain-text table of models, with a warning under it for every row that cannot be true."""
    columns = [c for c in COLUMNS if all(c in figures['test'] for figures in rows.values())]  # none without a test split
    header = ['model', 'val recall@20', *(f'test {c}' for c in columns)]
    lines, warnings = [header], []
    for name, figures in rows.items():
        test = figures['test']
        validation = figures.get('validation', {}).get('recall@20')
        lines.append([name, '-' if validation is None else f'{validation:.4f}', *(f'{test[c]:.4f}' for c in columns)])
        if {'recall@20', 'precision@20', 'ndcg@20'} <= set(test):
            for sentence in check_row(test['recall@20'], test['precision@20'], test['ndcg@20'], 20):
                warnings.append(f'warning: {name}: {sentence}')
    width = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ['  '.join([line[0].ljust(width[0]), *(cell.rjust(w) for cell, w in zip(line[1:], width[1:]))]) for line in lines]
    return '\n'.join([title, *text, *warnings])
