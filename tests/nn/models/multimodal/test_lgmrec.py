import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.models import LGMRec, LightGCN
from genrec_pyg.ops import unit_rows

#: Item 2 has no edge.
EDGES = torch.tensor([[0, 0, 1], [0, 1, 1]])


def on_toy(features, **arguments):
    graph = TrainingGraph(2, 3, EDGES, {'a': Modality('a', torch.tensor(features), 3)})
    return LGMRec(graph, **{'hidden_channels': 1, **arguments}).double().eval()


@pytest.mark.parametrize(
    'num_layers, users, items',
    [
        (1, [6.383563, 6.632133], [5.616437, 6.632133, 6]),
        (2, [9.691659, 10.059348], [8.556911, 10.059348, 9.124285]),
    ],
)
def test_hyperedges_by_hand(num_layers, users, items):
    model = on_toy(
        [[0.2, 0.0], [0.0, 0.4], [0.1, 0.1]],
        num_layers=0,
        num_hyper_layers=num_layers,
        num_hyperedges=2,
        temperature=0.2,
    )
    set_tables(model, [[1.0], [2.0]], [[3.0], [4.0], [5.0]])
    with torch.no_grad():
        model.hyperedges['a'].copy_(torch.eye(2))
        views = model.views()
        members = model.hyper_conv.memberships(model.features['a'].x @ model.hyperedges['a'])
    expected = [0.731059, 0.268941, 0.119203, 0.880797, 0.5, 0.5]
    assert members.view(-1).tolist() == pytest.approx(expected, abs=1e-6)
    assert views.hyper_users[0].view(-1).tolist() == pytest.approx(users, abs=1e-6)
    assert views.hyper_items[0].view(-1).tolist() == pytest.approx(items, abs=1e-6)


def test_content_by_hand():
    model = on_toy([[3.0], [4.0], [5.0]], num_content_layers=2)
    with torch.no_grad():
        model.projections['a'].fill_(1.0)
    found = model.content().view(-1).tolist()
    assert found == pytest.approx([4.039214, 3.237437, 2.914214, 4.060660, 0], abs=1e-6)
    model.num_content_layers = 0
    assert model.content().view(-1).tolist() == pytest.approx([3.5, 4, 3, 4, 5])


def test_without_content_and_hyperedges_it_is_light_gcn():
    model = LGMRec(toy_data(), hidden_channels=4, hyper_weight=0.0, num_layers=3).double().eval()
    with torch.no_grad():
        for weight in model.projections.values():
            weight.zero_()
    other = LightGCN(toy_data(), hidden_channels=4, num_layers=3).double()
    other.embedding.load_state_dict(model.embedding.state_dict())
    assert all(torch.allclose(a, b) for a, b in zip(model.embed(), other.embed()))


def test_contrast_is_of_the_batch_against_all_nodes_and_sums_over_pairs_of_modalities():
    model = LGMRec(toy_data(3), hidden_channels=4, contrast_weight=0.5).double().eval()
    views = model.views()
    expected = 0
    for parts, index in ((views.hyper_users, BATCH.user), (views.hyper_items, BATCH.pos)):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            cosine = unit_rows(parts[first])[index] @ unit_rows(parts[second]).t() / 0.2
            expected = expected + torch.nn.functional.cross_entropy(cosine, index)
    assert model.loss(BATCH)['contrast'].item() == pytest.approx(0.5 * expected.item())
    assert 'contrast' not in LGMRec(toy_data(1), hidden_channels=4).loss(BATCH)


def test_noise_and_dropout_act_in_training_alone():
    model = LGMRec(toy_data(), hidden_channels=4)
    first, second = model.train().embed(), model.embed()
    assert not torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
    first, second = model.eval().embed(), model.embed()
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_items_that_lack_a_modality_are_left_out_of_the_means_of_users():
    data = toy_data(1, partial=True)  # item 6 has no image; user 6 gets it as second item
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.cat([store.edge_index, torch.tensor([[6], [6]])], dim=1)
    for split in ('train', 'val', 'test'):
        store[f'{split}_mask'] = torch.cat(
            [store[f'{split}_mask'], torch.tensor([split == 'train'])]
        )
    model = LGMRec(data, hidden_channels=4, num_content_layers=0).eval()
    content = model.content()[:, 0]
    assert torch.allclose(content[6], content[8 + 5]) and not bool(content[8 + 6].any())
    members = model.hyper_conv.memberships(model.features['image'].x @ model.hyperedges['image'])
    assert members[6].tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_content_layers=-1),
        dict(num_hyper_layers=0),
        dict(num_hyperedges=0),
        dict(edge_dropout=1.0),
        dict(hyper_weight=-1.0),
        dict(temperature=0.0),
        dict(contrast_weight=-1.0),
        dict(noise='x'),
        dict(penalty='x'),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        LGMRec(toy_data(), **arguments)
