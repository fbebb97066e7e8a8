import pytest
import torch
from torch_geometric.data import HeteroData


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 40, 20
    group = torch.arange(40) % 4
    noise, taste = (torch.rand(40, 20, generator=generator) < share for share in (0.1, 0.8))
    edges = (noise | (taste & (torch.arange(20) % 4 == group[:, None]))).nonzero().t()
    store = data['user', 'interacts', 'item']
    store.edge_index = edges
    split = torch.rand(edges.size(1), generator=generator)
    store.train_mask = split < 0.7
    store.val_mask = (split >= 0.7) & (split < 0.85)
    store.test_mask = split >= 0.85
    for name in ('image', 'text'):
        data[name].x = torch.randn(20, 5, generator=generator)
        data['item', 'has', name].edge_index = torch.arange(20).expand(2, 20).contiguous()
    return data
