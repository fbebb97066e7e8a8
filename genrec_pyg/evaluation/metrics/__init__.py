r"""Metrics beyond accuracy, of this package and of others.

A metric is a function ``metric(lists, label)`` of
:class:`~genrec_pyg.evaluation.lists.Lists` (users, their items, the training graph) and of the
held-out pairs, row of the list and item, ``[2, L]``. It returns a value per list ``[n]``, NaN where
it has none, or one value of all lists, or a mapping from the rest of a name to either of the two.
:data:`~genrec_pyg.evaluation.metrics.registry.METRICS` has those of this package; others are entry
points of the group ``genrec_pyg.metrics``.
"""

from genrec_pyg.evaluation.metrics.registry import METRICS, find_metrics, get_metric, measure

__all__ = ['METRICS', 'find_metrics', 'get_metric', 'measure']
