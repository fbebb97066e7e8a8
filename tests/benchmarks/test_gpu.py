import importlib.util
import json

import gpu
import pytest
import torch

from genrec_pyg.ops import DEFAULT_BACKENDS, Adjacency, bipartite_adjacency

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
needs_triton = pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='TRITON IS NOT INSTALLED')


@pytest.fixture
def graph():
    return gpu.random_graph(12, 9, 30).to(DEVICE)


def test_random_graph_is_skewed_and_without_repeats():
    edge_index = gpu.random_graph(300, 200, 5000)
    assert edge_index.size(1) == torch.unique(edge_index, dim=1).size(1) and bool((edge_index.max(dim=1).values < torch.tensor(
        [300, 200])).all())
    degree = torch.bincount(edge_index[1], minlength=200)
    assert int(degree.max()) > 8 * int(degree.median())


def test_back_end_is_set_within_and_restored_after(monkeypatch):
    monkeypatch.delitem(DEFAULT_BACKENDS, 'meta', raising=False)
    device = torch.device('meta')
    assert gpu.with_backend(device, 'scatter', lambda: DEFAULT_BACKENDS['meta'])() == 'scatter'
    assert 'meta' not in DEFAULT_BACKENDS
    with pytest.raises(ZeroDivisionError):
        gpu.with_backend(torch.device('cpu'), 'scatter', lambda: 1 / 0)()
    assert DEFAULT_BACKENDS['cpu'] == 'csr'


@needs_triton
def test_every_measurement_and_the_report(graph, tmp_path, monkeypatch):
    adj = bipartite_adjacency(graph, 12, 9, self_loops=True)
    known = Adjacency.from_edge_index(graph, size=(12, 9))
    results = {**gpu.measure_products(adj, 1, 1, widths=(3,)), **gpu.measure_ranking(known, 1, 1, k=3, width=4, block=5),
               **gpu.measure_flips(known, 1, 1, block=6), **gpu.measure_contrast(DEVICE, 1, 1, rows=(8,), width=4),
               **gpu.measure_training(adj, graph, 12, 1, 1, batch_size=16, steps=5)}
    assert len(results) == 4 + 1 + 2 + 1 + 1
    assert all(part['eager'][gpu.OURS]['median'] > 0 for part in results.values())
    document = {'device': 'a device', 'graph': 'demo', 'num_users': 12, 'num_items': 9, 'nnz': adj.nnz, 'longest_row': 5,
                'repeats': 1, 'calls': 1, 'machine': gpu.machine(1), 'results': results}
    text = gpu.render(json.loads(json.dumps(document)))
    assert '## Training step' in text and '| Triton |' in text


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_it_says_so(caplog):
    assert gpu.main([]) == 1
    assert 'finds no CUDA device' in caplog.text


@pytest.mark.parametrize('flags', [['--repeats', '0'], ['--dataset', 'tiktok']])
def test_bad_usage(flags, capsys):
    with pytest.raises(SystemExit) as error:
        gpu.main(flags)
    assert error.value.code == 2 and f'{flags[0]}: got {flags[1]}' in capsys.readouterr().err
