import importlib.util
import logging

import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import knn_graph


def plain(x, k):
    x = F.normalize(x.double(), dim=1)
    similarity = x @ x.t()
    edges = []
    for i in range(x.size(0)):
        others = sorted(
            (j for j in range(x.size(0)) if j != i and similarity[i, j] > 0),
            key=lambda j: (-similarity[i, j], j),
        )
        edges += [(i, j) for j in [i, *others[: k - 1]]]
    return edges


@pytest.mark.parametrize('block_size', [1, 4, 100])
def test_equals_plain_search(block_size):
    x = torch.randn(23, 5)
    edge_index, similarity = knn_graph(x, 6, block_size=block_size)
    assert list(map(tuple, edge_index.t().tolist())) == plain(x, 6)
    unit = F.normalize(x, dim=1)
    own = edge_index[0] == edge_index[1]
    assert torch.allclose(
        similarity[~own], (unit[edge_index[0]] * unit[edge_index[1]]).sum(dim=1)[~own], atol=1e-6
    )
    assert bool((similarity[own] == 1).all())


def test_ties_go_to_the_lowest_id():
    edge_index, _ = knn_graph(torch.ones(5, 2), 3)
    assert edge_index[1].view(5, 3).tolist() == [
        [0, 1, 2],
        [1, 0, 2],
        [2, 0, 1],
        [3, 0, 1],
        [4, 0, 1],
    ]


def test_zero_rows_have_only_their_own_edge_and_nobody_points_to_them():
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    edge_index, _ = knn_graph(x, 3)
    assert edge_index.t().tolist() == [[0, 0], [0, 2], [1, 1], [2, 2], [2, 0]]


def test_half_precision_sums_that_would_overflow():
    x = torch.full((3, 128), 200.0, dtype=torch.float16)
    _, similarity = knn_graph(x, 2)
    assert torch.allclose(similarity, torch.ones(6))


def test_without_self_and_more_neighbors_than_rows():
    edge_index, _ = knn_graph(torch.rand(4, 3) + 0.1, 10, include_self=False)
    assert edge_index.size(1) == 12 and bool((edge_index[0] != edge_index[1]).all())


@pytest.mark.parametrize('arguments', [{'k': 0}, {'k': 3, 'block_size': 0}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigError, match='got 0, accepted are integers from 1'):
        knn_graph(torch.ones(2, 2), **arguments)


def test_no_rows_and_one_neighbor():
    assert knn_graph(torch.empty(0, 3), 5)[0].shape == (2, 0)
    assert knn_graph(torch.randn(3, 2), 1)[0].tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize('scale', [1e20, 1e-14, 1e-30])
def test_neighbors_do_not_hang_on_the_scale(scale):
    x = torch.randn(50, 8)
    expected, got = knn_graph(x, 5), knn_graph(x * scale, 5)
    assert torch.equal(expected[0], got[0]) and torch.allclose(expected[1], got[1])


@pytest.mark.parametrize('offset', [0, 100, 1000, 10_000])
def test_neighbors_of_rows_far_from_the_origin_are_those_of_float64(offset):
    x = (torch.randn(200, 16, dtype=torch.float64) + offset).float()
    edge_index, similarity = knn_graph(x, 8)
    assert edge_index.t().tolist() == [list(edge) for edge in plain(x, 8)]
    assert similarity.dtype == torch.float32 and knn_graph(x.double(), 8)[1].dtype == torch.float64


def test_columns_of_features_pass_in_blocks(monkeypatch):
    x = torch.randn(40, 6)
    expected = knn_graph(x, 5)
    monkeypatch.setattr('genrec_pyg.ops.topk.MAX_BLOCK', 50)
    got = knn_graph(x, 5)
    assert torch.equal(expected[0], got[0]) and torch.allclose(expected[1], got[1])


def test_rows_without_columns_have_only_their_own_edge():
    edge_index, similarity = knn_graph(torch.empty(3, 0), 2)
    assert edge_index.tolist() == [[0, 1, 2]] * 2 and similarity.tolist() == [1, 1, 1]


needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec('faiss') is None,
    reason='APPROXIMATE NEIGHBORS ARE NOT TESTED: pip install faiss-cpu',
)


def groups(num_rows, offset=0.0):
    """Rows in groups of about thirty, as content features are, and three zero rows."""
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(num_rows // 30, 16, generator=generator)
    x = center[torch.randint(len(center), (num_rows,), generator=generator)]
    x = x + 0.3 * torch.randn(num_rows, 16, generator=generator) + offset
    x[[0, 5, num_rows - 1]] = 0
    return x


@needs_faiss
@pytest.mark.parametrize('offset', [0.0, 1000.0])
def test_few_rows_without_cells_have_the_exact_neighbors(offset, caplog):
    x = groups(400, offset).double()
    expected = knn_graph(x, 6)
    with caplog.at_level(logging.INFO, 'genrec_pyg'):
        found = knn_graph(x, 6, approximate_above=399)
    assert 'approximate neighbors' in caplog.text and 'recall 1.000' in caplog.text
    assert torch.equal(found[0], expected[0]) and torch.allclose(found[1], expected[1])


@needs_faiss
def test_cells_miss_few_neighbors_and_similarities_are_exact(caplog):
    x = groups(10_100)
    with caplog.at_level(logging.INFO, 'genrec_pyg'):
        (row, col), similarity = knn_graph(x, 6, approximate_above=10_000)
    expected = knn_graph(x, 6)[0]
    key, wanted = row * len(x) + col, expected[0] * len(x) + expected[1]
    recall = float(torch.isin(wanted, key).double().mean())
    assert recall > 0.95 and key.unique().numel() == key.numel()
    logged = float(caplog.text.partition('recall ')[2].split()[0])
    assert logged == pytest.approx(recall, abs=0.05)
    unit = F.normalize(x.double(), dim=1)
    other = row != col
    assert torch.allclose(
        similarity[other].double(), (unit[row] * unit[col]).sum(dim=1)[other], atol=1e-6
    )
    for zero in (0, 5, len(x) - 1):
        assert col[row == zero].tolist() == [zero] and row[col == zero].tolist() == [zero]


def test_without_faiss_many_rows_are_searched_exactly_and_the_log_estimates_the_time(
    monkeypatch, caplog
):
    x = groups(90)
    monkeypatch.setattr('genrec_pyg.ops.knn._has_faiss', lambda: False)
    expected = knn_graph(x, 4)
    with caplog.at_level(logging.INFO, 'genrec_pyg'):
        found = knn_graph(x, 4, block_size=30, approximate_above=50)
    assert torch.equal(found[0], expected[0]) and torch.allclose(found[1], expected[1])
    assert (
        'pip install genrec_pyg[faiss]' in caplog.text
        and 'neighbors of 30 of 90 rows, about' in caplog.text
    )


@needs_faiss
@pytest.mark.parametrize('x', [torch.zeros(5, 3), torch.empty(4, 0), torch.eye(4)[[0, 1, 2, 3]]])
def test_approximate_search_of_rows_without_neighbors(x):
    edge_index, similarity = knn_graph(x, 3, approximate_above=0)
    assert edge_index.tolist() == [list(range(len(x)))] * 2 and bool((similarity == 1).all())


def test_the_threshold_is_checked():
    with pytest.raises(
        ConfigError, match='approximate_above: got -1, accepted are integers from 0'
    ):
        knn_graph(torch.ones(2, 2), 1, approximate_above=-1)
