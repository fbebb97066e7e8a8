r"""Reference models without gradient training, to put a result into proportion."""

from __future__ import annotations

import logging
from typing import Any

from torch_geometric.data import HeteroData

from genrec_pyg.config import RunConfig, shipped_defaults
from genrec_pyg.evaluation import check_row, evaluate
from genrec_pyg.evaluation.validation_search import tune_on_validation
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph, has_split, training_graph
from genrec_pyg.nn.models import MODELS, get_model

logger = logging.getLogger(__name__)

#: Names of the models; those that need features are left out where there are none.
REFERENCES = ('Popularity', 'ItemKNN', 'EASE', 'GraphFilter', 'ItemKNNCBF', 'AddEASE')
COLUMNS = ('recall@20', 'ndcg@20', 'precision@20', 'mrr@20', 'coverage@20')
#: Seconds that the references may take in any case; beyond it as long as the training took.
MIN_SECONDS = 30.0

Figures = dict[str, dict[str, Any]]

#: Seconds per pair of interactions of one user, per pair of items that is ranked, and per
#: multiplication of a factorization and of similarities of features, on one core: what decides
#: whether a reference is announced or left out.
_PER_PAIR, _PER_RANKED, _PER_FACTOR, _PER_FEATURE = 2e-8, 1e-8, 4e-11, 4e-10
#: Expected seconds from which a model is announced.
_ANNOUNCED = 5.0


def reference_figures(
    data: HeteroData,
    config: RunConfig,
    ks: tuple[int, ...] = (10, 20),
    training_seconds: float = 0.0,
) -> dict[str, Figures]:
    r"""Validation and test figures of the reference models, except the run's own model; those of a
    split without interactions are empty.

    Their settings are chosen on the validation split
    (:func:`~genrec_pyg.evaluation.validation_search.tune_on_validation`), or are the shipped ones
    where it is too small, and stand under ``'settings'``. All of them together take about as long
    as the training, or :data:`MIN_SECONDS` if that is more; a model whose first fit alone would
    take longer is left out, which the log says.

    Args:
        data: Canonical graph with splits.
        config: Configuration of the run.
        ks: Lengths of the lists.
        training_seconds: How long the training took.
    """
    budget = max(training_seconds, MIN_SECONDS)
    graph = training_graph(data)
    names = [
        name
        for name in REFERENCES
        if name != config.model and (graph.modalities or not MODELS[name].needs_modality)
    ]
    found, ease = {}, None
    for name in names:
        expected = fit_seconds(name, graph)
        if expected > budget:
            logger.info(
                '%s is left out: its first fit takes about %.0f s, longer than the %.0f s '
                'that the references have',
                name,
                expected,
                budget,
            )
            continue
        if expected > _ANNOUNCED:
            logger.info(
                '%s: a fit takes about %.0f s; the time grows with the %s of the %d items',
                name,
                expected,
                'cube' if 'EASE' in name else 'square',
                graph.num_items,
            )
        try:
            model, settings = _tuned(name, data, config, budget / len(names), ease)
        except ConfigError as error:
            logger.info('%s is left out: %s', name, error)
            continue
        ease = settings if name == 'EASE' else ease
        found[name] = {
            label: evaluate(model, data, split, ks, config.protocol)
            if has_split(data, split)
            else {}
            for split, label in (('test', 'test'), ('val', 'validation'))
        }
        found[name]['settings'] = settings
    return found


def _tuned(
    name: str, data: HeteroData, config: RunConfig, seconds: float, ease: dict[str, Any] | None
):
    r"""A fitted reference model and the arguments of its constructor."""
    shipped = shipped_defaults(name, config.dataset).get('hparams', {})
    if name == 'Popularity':
        return get_model(name)(data, modalities=[]), {}
    # the interactions as EASE has them: only what the features add is searched
    if name == 'AddEASE' and ease is not None:
        fitted = {key: value for key, value in ease.items() if key != 'popularity_discount'}
        tuned = tune_on_validation(
            name, data, ease, shipped, pinned=tuple(fitted), max_seconds=seconds
        )
    else:
        tuned = tune_on_validation(name, data, fallback=shipped, max_seconds=seconds)
    return tuned.model, tuned.settings


def fit_seconds(name: str, graph: TrainingGraph, max_items: int = 20_000) -> float:
    r"""Rough time of one fit of a reference model on one core.

    Args:
        name: Name of the model.
        graph: Training graph.
        max_items: Largest number of items with a dense matrix.
    """
    pairs = _PER_PAIR * float(graph.user_degree().double().square().sum())
    ranked = _PER_RANKED * graph.num_items**2
    width = sum(modality.x.size(1) for modality in graph.modalities.values())
    if name == 'Popularity':
        return 0.0
    if name == 'ItemKNNCBF':
        return ranked + _PER_FEATURE * graph.num_items**2 * width
    if name in ('ItemKNN', 'GraphFilter') or graph.num_items > max_items:
        return pairs + ranked
    content = _PER_FEATURE * graph.num_items * width**2 if name == 'AddEASE' else 0.0
    return pairs + _PER_FACTOR * graph.num_items**3 + content


def result_table(rows: dict[str, Figures], title: str) -> str:
    r"""Plain-text table of models, with a warning under it for every row that cannot be true."""
    # none without a test split
    columns = [c for c in COLUMNS if all(c in figures['test'] for figures in rows.values())]
    header = ['model', 'val recall@20', *(f'test {c}' for c in columns)]
    lines, warnings = [header], []
    for name, figures in rows.items():
        test = figures['test']
        validation = figures.get('validation', {}).get('recall@20')
        lines.append(
            [
                name,
                '-' if validation is None else f'{validation:.4f}',
                *(f'{test[c]:.4f}' for c in columns),
            ]
        )
        if {'recall@20', 'precision@20', 'ndcg@20'} <= set(test):
            for sentence in check_row(test['recall@20'], test['precision@20'], test['ndcg@20'], 20):
                warnings.append(f'warning: {name}: {sentence}')
    width = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [
        '  '.join(
            [line[0].ljust(width[0]), *(cell.rjust(w) for cell, w in zip(line[1:], width[1:]))]
        )
        for line in lines
    ]
    return '\n'.join([title, *text, *warnings])


def choice_lines(choice: dict[str, Any]) -> list[str]:
    r"""What a model chose on validation before training, one sentence per line: values, and seconds
    if they are given.
    """
    if not choice:
        return []
    values = [
        f'{name} {_plain(value)}'
        for name, value in choice.items()
        if name in ('schedule', 'weights')
    ]
    how = (
        'found on validation'
        if choice.get('chosen_on_validation')
        else 'defaults, nothing was chosen'
    )
    return [f'interest: {"; ".join(values)} ({how}, {choice.get("seconds", 0.0):.1f} s)']


def _plain(values: dict[str, float]) -> str:
    return ', '.join(f'{name} {value:g}' for name, value in values.items() if value != 0) or 'none'
