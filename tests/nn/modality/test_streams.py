import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph, training_graph
from genrec_pyg.nn.modality.streams import ContentMLP, ModalityStreams

#: Item 2 has no edge.
GRAPH = TrainingGraph(
    2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]), {'image': Modality('image', torch.ones(3, 2), 3)}
)


def test_propagation_by_hand(monkeypatch):
    streams = ModalityStreams(GRAPH, 1).double()
    monkeypatch.setattr(
        streams, 'starts', lambda: torch.tensor([1.0, 2, 3, 4, 5]).double().view(5, 1, 1)
    )
    users, items = streams()
    assert users.flatten().tolist() == pytest.approx([6.578427, 6.181981], abs=1e-6)
    assert items.flatten().tolist() == pytest.approx([6.621320, 9.974874, 5], abs=1e-6)


def test_starts_are_unit_rows_of_preferences_and_content():
    streams = ModalityStreams(GRAPH, 2).double()
    with torch.no_grad():
        streams.preferences['image'].copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        streams.encoders['image'].first.weight.fill_(-1.0)  # the leaky ReLU makes 0.01 of it
        streams.encoders['image'].first.bias.zero_()
        streams.encoders['image'].second.weight.copy_(torch.tensor([[1.0], [0.0]]).expand(2, 8))
        streams.encoders['image'].second.bias.zero_()
    assert torch.allclose(
        streams.encoders['image'](streams.features['image'])[0], torch.tensor([-0.16, 0.0]).double()
    )
    assert torch.allclose(
        streams.starts()[:, 0],
        torch.tensor([[0.6, 0.8], [0, 0], [-1, 0], [-1, 0], [-1, 0]]).double(),
    )


def test_an_item_without_a_modality_starts_from_zero():
    streams = ModalityStreams(training_graph(toy_data(2, partial=True)), 3)
    assert not streams.starts()[8 + 6].any()
    assert ContentMLP(5, 3)(streams.features['image'])[:6].any(dim=1).all()


def test_weights_start_on_the_simplex_near_equal():
    weight = ModalityStreams(training_graph(toy_data(3)), 2).weight
    assert torch.allclose(weight.sum(dim=1), torch.ones(8)) and bool((weight > 0).all())
    assert float(weight.detach().std()) > 0


def test_penalty_of_ones():
    streams = ModalityStreams(training_graph(toy_data(3)), 2)
    with torch.no_grad():
        for table in streams.preferences.values():
            table.fill_(1.0)
        streams.weight.fill_(1 / 3)
    assert streams.penalty(torch.tensor([0, 1, 0])).item() == pytest.approx(3 + 1 / 9)


def test_bad_widths_are_named():
    with pytest.raises(ConfigError, match='hidden_channels: got 0'):
        ModalityStreams(GRAPH, 0)
    with pytest.raises(ConfigError, match='num_layers: got -1'):
        ModalityStreams(GRAPH, 2, num_layers=-1)
