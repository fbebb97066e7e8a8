import json

import pytest
import torch

from benchmarks.speed import kernels
from genrec_pyg.graph import training_graph
from genrec_pyg.ops import Adjacency, bipartite_adjacency


@pytest.fixture
def adj(tiny_graph):
    store = tiny_graph['user', 'interacts', 'item']
    return bipartite_adjacency(store.edge_index[:, store.train_mask], 6, 7, self_loops=True)


def test_plain_product_is_the_dense_one(adj):
    x = torch.randn(13, 5)
    (row, col), weight = adj.to_edge_index()
    dense = torch.zeros(13, 13, dtype=torch.double).index_put((row, col), weight.double())
    torch.testing.assert_close(kernels.plain_product(adj)(x), dense @ x.double())
    expected = (x.double() + dense @ x.double() + dense @ dense @ x.double()) / 3
    torch.testing.assert_close(kernels.stacked(kernels.plain_product(adj), 2)(x), expected)


def test_check_finds_a_wrong_value_and_a_wrong_gradient(adj):
    x = torch.randn(13, 6)
    plain = kernels.plain_product(adj)
    candidates = kernels.products(adj)
    kernels.check_products(
        {**candidates, 'parts': kernels.split_columns(candidates[kernels.OURS], 3)}, plain, x
    )
    with pytest.raises(AssertionError, match='shifted, value'):
        kernels.check_products({'shifted': lambda x: candidates[kernels.OURS](x) + 1e-3}, plain, x)
    with pytest.raises(AssertionError, match='detached, gradient'):
        kernels.check_products(
            {'detached': lambda x: candidates[kernels.OURS](x).detach() + 0 * x}, plain, x
        )


def test_a_wrong_contrast_is_found(tiny_graph, monkeypatch):
    graph = training_graph(tiny_graph, [])
    assert set(kernels.measure_contrast(graph, 1)) == {
        kernels.OURS,
        'cross entropy',
        'cross entropy, checkpointed',
    }
    right = kernels.info_nce
    for wrong, part in (
        (lambda *args: right(*args) + 0.01, 'value'),
        (lambda x, *args: right(x.detach(), *args) + 0 * x.sum(), 'gradient of the anchors'),
        (
            lambda x, y, t, bank, *args: right(x, y, t, bank.detach(), *args) + 0 * bank.sum(),
            'of the bank',
        ),
    ):
        monkeypatch.setattr(kernels, 'info_nce', wrong)
        with pytest.raises(AssertionError, match=part):
            kernels.measure_contrast(graph, 1)


def test_report(tmp_path):
    stem = tmp_path / 'kernels-demo'
    assert (
        kernels.main(
            ['--root', str(tmp_path), '--dataset', 'demo', '--repeats', '1', '--output', str(stem)]
        )
        == 0
    )
    document = json.loads(stem.with_suffix('.json').read_text())
    assert len(document['products']) == 2 * len(kernels.WIDTHS)
    assert (
        len(document['share_of_copy_bound']) == len(kernels.WIDTHS)
        and document['copy_bandwidth'] > 1e8
    )
    assert (
        document['negatives'][kernels.OURS]['median'] > 0
        and document['ranking'][kernels.OURS]['median'] > 0
    )
    assert document['contrast']['cross entropy, checkpointed']['times_ours'] > 0
    assert '## Product, d = 192 (3 modalities of 64)' in stem.with_suffix('.md').read_text()


def test_bad_usage(capsys):
    with pytest.raises(SystemExit) as error:
        kernels.main(['--root', '.', '--repeats', '0'])
    assert error.value.code == 2 and '--repeats: got 0' in capsys.readouterr().err


def test_bytes_of_a_product_by_hand():
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 2, 1]]), torch.ones(3), (2, 3))
    index = adj.col.element_size()
    assert kernels.product_bytes(adj, 4) == 3 * adj.rowptr.element_size() + 3 * (index + 4) + 16 * (
        3 + 2
    )
