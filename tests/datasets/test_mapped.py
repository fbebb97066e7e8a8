"""Prepared folders as stores of PyG: what is mapped is what a training reads."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader

from genrec_pyg.datasets import load_dataset
from genrec_pyg.datasets import prepared as prepared_module
from genrec_pyg.datasets.mapped import MappedFeatures, MappedGraph
from genrec_pyg.datasets.preparation import Options, prepare_log
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import INTERACTS, training_graph
from genrec_pyg.loader import LayerNeighborSampler
from genrec_pyg.ops import bipartite_adjacency

pytest.importorskip(
    'duckdb', reason='DUCKDB IS NOT INSTALLED: nothing is prepared (pip install .[prepare])'
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('mapped')
    random = np.random.default_rng(0)
    user, item = random.integers(40, size=400), (random.random(400) ** 2 * 25).astype(int)
    rows = [f'{u},{i},{t}' for t, (u, i) in enumerate(zip(user, item))]
    (folder / 'log.csv').write_text('\n'.join(['user,item,time', *rows]) + '\n')
    ids = sorted({str(i) for i in item}, key=int)[::2]
    np.save(folder / 'text.npy', random.normal(size=(len(ids), 3)).astype(np.float32))
    (folder / 'text.ids.txt').write_text('\n'.join(ids) + '\n')
    options = Options(split='time:0.1,0.2', features={'text': str(folder / 'text.npy')})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_module, '_PAIRS', 37)  # several blocks
        prepare_log([str(folder / 'log.csv')], folder / 'out', options)
    return folder / 'out'


def test_both_layouts_are_the_training_graph(folder):
    graph = training_graph(load_dataset('out', folder.parent))
    mapped = MappedGraph(folder)
    assert (mapped.num_users, mapped.num_items) == (graph.num_users, graph.num_items)
    rowptr, col = mapped.get_edge_index(INTERACTS, 'csr')
    user = torch.repeat_interleave(rowptr.diff())
    assert torch.equal(torch.stack([user, col.long()]), graph.edge_index)
    row, colptr = mapped.get_edge_index(INTERACTS, 'csc')
    item = torch.repeat_interleave(colptr.diff())
    order = (graph.edge_index[1] * graph.num_users + graph.edge_index[0]).argsort()
    assert torch.equal(torch.stack([row.long(), item]), graph.edge_index[:, order])
    assert [attr.layout.value for attr in mapped.get_all_edge_attrs()] == ['csr', 'csc']
    with pytest.raises(KeyError):
        mapped.get_edge_index(('user', 'likes', 'item'), 'csr')


def test_the_normalized_graph_is_that_of_the_models(folder):
    graph = training_graph(load_dataset('out', folder.parent))
    expected = bipartite_adjacency(graph.edge_index, graph.num_users, graph.num_items, False)
    found = MappedGraph(folder).adjacency()
    assert torch.equal(found.rowptr.long(), expected.rowptr.long())
    assert torch.equal(found.col.long(), expected.col.long())
    torch.testing.assert_close(found.value, expected.value)


def test_samplers_read_the_mapped_graph(folder):
    adj = MappedGraph(folder).adjacency()
    (row, col), value = adj.to_edge_index()
    data = Data(edge_index=torch.stack([row, col]), edge_attr=value, num_nodes=adj.size[0])
    loader = NodeLoader(
        data, LayerNeighborSampler(adj, 2, 3), input_nodes=torch.arange(12), batch_size=6
    )
    for batch in loader:
        source, target = batch.n_id[batch.edge_index]
        assert torch.equal(torch.stack([target, source]), data.edge_index[:, batch.e_id])


def test_features_are_read_by_rows(folder):
    data = load_dataset('out', folder.parent)
    store = MappedFeatures(folder)
    assert store.get_tensor_size('text', 'x') == tuple(data['text'].x.shape)
    index = torch.tensor([4, 0, 4])
    assert torch.equal(store['text', 'x', index], data['text'].x[index])
    assert torch.equal(store['text', 'x', slice(1, 3)], data['text'].x[1:3])
    assert torch.equal(store['text', 'item', None], data['item', 'has', 'text'].edge_index[0])
    assert [(attr.group_name, attr.attr_name) for attr in store.get_all_tensor_attrs()] == [
        ('text', 'x'),
        ('text', 'item'),
    ]
    assert store.get_tensor('image', 'x', index=None) is None


def test_a_folder_without_or_with_damaged_arrays_is_refused(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / 'out')
    file = copied / 'training' / 'joint.col.npy'
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r'joint\.col\.npy: is not the file of the manifest'):
        MappedGraph(copied)
    MappedGraph(copied, check=False)  # sizes are compared alone
    file.write_bytes(content[:-4])
    with pytest.raises(DataError, match='is not the file of the manifest'):
        MappedGraph(copied, check=False)
    shutil.rmtree(copied / 'training')  # as earlier versions prepared it
    manifest = json.loads((copied / 'manifest.json').read_text())
    manifest['files'] = {
        name: entry for name, entry in manifest['files'].items() if not name.startswith('training/')
    }
    (copied / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(DataError, match='cannot be mapped .* prepare the log again'):
        MappedGraph(copied)
    assert load_dataset('out', tmp_path)[INTERACTS].edge_index.size(1) > 0
