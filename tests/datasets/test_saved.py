import numpy as np
import pytest
import torch

from genrec_pyg.datasets import load_dataset, load_graph, save_graph
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import raw_ids, training_graph


class Malicious:
    def __reduce__(self):
        return (print, ('code of the file was run',))


def test_graph_survives(demo_data, tmp_path):
    data = demo_data.clone()
    data['user'].raw_id = np.array([f'u-{number}' for number in range(data['user'].num_nodes)])
    data['item'].title = [f'Title "{number}"' for number in range(data['item'].num_nodes)]
    data['user', 'interacts', 'item'].time = torch.arange(
        data['user', 'interacts', 'item'].edge_index.size(1)
    )
    data['item'].other = object()  # nobody reads it
    save_graph(data, tmp_path / 'shop' / 'graph.pt')
    found = load_dataset('shop/graph.pt', tmp_path)
    assert (
        training_graph(found, timed=True).fingerprint()
        == training_graph(data, timed=True).fingerprint()
    )
    assert (
        raw_ids(found, 'user') == raw_ids(data, 'user')
        and found['item'].title == data['item'].title
    )
    for mask in ('val_mask', 'test_mask'):
        assert torch.equal(
            found['user', 'interacts', 'item'][mask], data['user', 'interacts', 'item'][mask]
        )
    assert list(training_graph(load_dataset('shop/graph.pt', tmp_path, ['text'])).modalities) == [
        'text'
    ]


def test_features_are_not_saved_with_what_they_are_a_view_of(demo_data, tmp_path):
    data = demo_data.clone()
    data['text'].x = torch.randn(10_000, data['text'].x.size(1))[: data['text'].x.size(0)]
    save_graph(data, tmp_path / 'graph.pt')
    assert (tmp_path / 'graph.pt').stat().st_size < 10_000 * data['text'].x.size(1) * 4


def test_files_of_others_are_refused(tmp_path, capsys):
    torch.save({'x': Malicious()}, tmp_path / 'a.pt')
    (tmp_path / 'b.pt').write_bytes(b'PK\x03\x04 half a file')
    torch.save({'model': {}}, tmp_path / 'c.pt')
    for name in 'abc':
        with pytest.raises(DataError):
            load_graph(tmp_path / f'{name}.pt')
    assert 'code of the file' not in capsys.readouterr().out
