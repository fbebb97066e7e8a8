from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.graph import training_graph
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency


class Pair(NamedTuple):
    x: Tensor
    ids: Tensor


class Module(GraphModule):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph
        self.adjacency = Adjacency.from_edge_index(
            torch.tensor([[0, 1], [1, 0]]), torch.tensor([0.5, 2.0]), (2, 2)
        )
        self.x = torch.ones(2)
        self.entries = {'pair': Pair(torch.ones(2), torch.arange(2)), 'name': 'x', 'number': 3}
        self.weight = torch.nn.Parameter(torch.ones(2))
        self._cache = torch.ones(2)
        self.inner = None


def test_graphs_and_tensors_follow_the_parameters(tiny_graph):
    module = Module(training_graph(tiny_graph))
    module.inner = Module(training_graph(tiny_graph))
    outer = torch.nn.Sequential(module).double()
    for found in (module, module.inner):
        assert found.x.dtype == found.weight.dtype == found.entries['pair'].x.dtype == torch.float64
        assert (
            found.adjacency.value.dtype == torch.float64
            and found.adjacency.col.dtype == torch.int32
        )
        assert found.entries['pair'].ids.dtype == found.graph.edge_index.dtype == torch.int64
        assert (found.entries['name'], found.entries['number']) == ('x', 3)
        # private attributes are the class's own business
        assert found._cache.dtype == torch.float32
    outer.to('meta')
    for found in (module, module.inner):
        tensors = [
            found.x,
            found.weight,
            found.adjacency.value,
            found.adjacency.col,
            found.graph.edge_index,
            *found.entries['pair'],
        ]
        assert {tensor.device.type for tensor in tensors} == {'meta'}


def test_the_state_holds_parameters_alone(tiny_graph):
    assert set(Module(training_graph(tiny_graph)).state_dict()) == {'weight'}
