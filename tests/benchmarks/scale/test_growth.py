import argparse

import numpy as np
import pytest

from benchmarks.common.graphs import SHAPES, zipf_edges, zipf_graph
from benchmarks.scale import growth
from genrec_pyg.graph import split_edges


def test_zipf_edges_are_distinct_and_skewed():
    edges = zipf_edges(2000, 500, 20_000, exponent=0.8, seed=1)
    assert edges.shape == (2, 20_000) and len(np.unique(edges[0] * 500 + edges[1])) == 20_000
    count = np.sort(np.bincount(edges[1], minlength=500))[::-1]
    ideal = np.arange(1, 501) ** -0.8
    assert np.corrcoef(np.log(count[:300]), np.log(ideal[:300]))[0, 1] > 0.97
    assert np.array_equal(edges, zipf_edges(2000, 500, 20_000, exponent=0.8, seed=1))
    with pytest.raises(ValueError, match='num_edges'):
        zipf_edges(10, 10, 60)


def test_zipf_graph_has_splits_and_features():
    data = zipf_graph(300, 100, 3000, {'image': 5})
    assert data['image'].x.shape == (100, 5) and data['user'].num_nodes == 300
    sizes = [split_edges(data, split).size(1) for split in ('train', 'val', 'test')]
    assert sum(sizes) == 3000 and 20 < sizes[1] < 120 and 20 < sizes[2] < 120
    assert SHAPES['electronics-shaped'] == (192_403, 63_001, 1_254_441)


def test_slope():
    x = [1, 2, 4, 8]
    assert growth.slope(x, [3 * value**1.5 for value in x]) == pytest.approx(1.5)


def test_curves_and_figure(tmp_path, monkeypatch):
    pytest.importorskip('matplotlib')

    def run_point(sizes, args):
        users = sizes['users']
        return {
            **sizes,
            **{key: float(users) for key in ('setup', *growth.FIGURES)},
            'evaluated_users': 3,
        }

    monkeypatch.setattr(growth, 'run_point', run_point)
    assert growth.main(['--doublings', '2', '--output', str(tmp_path)]) == 0
    text = (tmp_path / 'growth.md').read_text()
    assert (
        '| users | 1.00 |' in text
        and '| items | 0.00 |' in text
        and (tmp_path / 'growth.svg').stat().st_size > 1000
    )


def test_a_point_is_measured():
    args = argparse.Namespace(steps=2, threads=1, negatives=8, block=64, allocator='default')
    point = growth.run_point({'users': 200, 'items': 60, 'edges': 1500}, args)
    assert point['epoch'] == pytest.approx(
        point['denoiser'] + point['rebuild'] + point['recommender']
    )
    assert 0 < point['memory_at_rest'] <= point['memory'] and 0 <= point['recall@20'] <= 1
