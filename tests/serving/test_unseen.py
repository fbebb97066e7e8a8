"""Embeddings of histories and of new items, worked by hand."""

import numpy as np
import pytest

from genrec_pyg.exceptions import DataError
from genrec_pyg.serving.parts import Inner
from genrec_pyg.serving.table_reader import TableReader
from genrec_pyg.serving.unseen import FoldIn, NewItems

ITEMS = np.array([[1, 0], [0, 2], [1, 1]], dtype='f4')
TABLES = {
    'm0.users': np.zeros((1, 2), dtype='f4'),
    'm0.items': ITEMS,
    # the sum over the history by degrees, plus twice the mean
    'fold_in.map': np.concatenate([np.eye(2), 2 * np.eye(2)]).astype('f4'),
    'fold_in.degree': np.array([1, 4, 9], dtype='f4'),
}


def make(**changes):
    reader = TableReader({**TABLES, **changes}, 'tables')
    return reader, Inner(reader, {'name': 'm0'}, 1, 3)


def test_a_history_is_a_map_of_two_sums():
    reader, inner = make()
    found, scale = FoldIn({'kind': 'embedding'}, reader, inner, 3)(np.array([0, 1]))
    # ([1, 0] / 1 + [0, 2] / 2) / sqrt(2) + 2 * ([1, 0] + [0, 2]) / 2
    np.testing.assert_allclose(found, [2**-0.5 + 1, 2**-0.5 + 2], rtol=1e-6)
    assert scale is None


def test_the_last_channels_are_those_of_the_interest():
    interest = {
        'fold_in.query': np.array([[3], [4], [0]], dtype='f4'),
        'fold_in.covariance': np.array([[4]], dtype='f4'),
    }
    reader, inner = make(**interest)
    fold_in = FoldIn({'kind': 'embedding', 'interest_weight': 0.5}, reader, inner, 3)
    found, scale = fold_in(np.array([0, 1]))
    assert scale == pytest.approx(0.5 / 14)  # the deviation is 7 * sqrt(4)
    np.testing.assert_allclose(found, [2**-0.5 + 1, 7 * 0.5 / 14], rtol=1e-6)
    found, scale = fold_in(np.array([2]))  # no deviation, no interest
    assert scale == 0 and found[-1] == 0


def test_new_items_are_maps_of_their_directions_and_of_what_is_there():
    reader, inner = make(
        **{'rank.map': np.array([[1, 0], [0, 1], [10, 0], [0, 5], [0, 100]], dtype='f4')}
    )
    rank = NewItems({'widths': {'text': 2, 'image': 1}}, reader, inner)
    features = {
        'text': np.array([[3.0, 4.0], [np.nan, np.nan]]),
        'image': np.array([[np.nan], [-2.0]]),
    }
    # [3, 4] / 5 and a present text; -1 and a present image
    np.testing.assert_allclose(rank(features), [[0.6 + 10, 0.8], [0, -5 + 100]], rtol=1e-6)
    np.testing.assert_allclose(rank({'text': features['text'][:1]}), [[10.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize('spec', [None, {'kind': 'network'}, {'kind': 'parts'}, 3])
def test_descriptions_that_no_export_writes_are_refused(spec):
    reader, inner = make()
    with pytest.raises(DataError, match='manifest: fold_in'):
        FoldIn(spec, reader, inner, 3)
    with pytest.raises(DataError, match='manifest: rank'):
        NewItems(spec, reader, inner)
