"""Starting from a run on data that have grown since."""

import copy

import pytest
import torch

from genrec_pyg import Trainer
from genrec_pyg.datasets import demo_graph, from_table
from genrec_pyg.evaluation import evaluate
from genrec_pyg.graph import ITEM, USER, raw_ids
from genrec_pyg.nn.history_embedding import HistoryEmbedding
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import Adjacency
from genrec_pyg.runs.warm_start import take_over, take_over_moments

OLD = {'user': ['b', 'b', 'd', 'd'], 'item': ['x', 'z', 'x', 'y']}
NEW = {'user': ['a', 'b', 'b', 'd', 'd', 'e'], 'item': ['w', 'x', 'z', 'x', 'y', 'y']}


def ids(data):
    return raw_ids(data, USER), raw_ids(data, ITEM)


def test_rows_follow_their_ids_and_new_ones_follow_from_their_interactions():
    old, new = from_table(OLD, split='none'), from_table(NEW, split='none')
    trained, model = (get_model('LightGCN')(data, hidden_channels=4) for data in (old, new))
    take_over(model, ids(new), trained, ids(old))
    user, item = model.embedding.user, model.embedding.item
    assert torch.equal(user[[1, 2]], trained.embedding.user)
    # w is new and comes first, and only the new user a has it
    assert torch.equal(item[1:], trained.embedding.item)
    assert torch.allclose(item[0], trained.embedding.item.mean(dim=0))
    before, after = (
        Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
        for graph in (trained.graph, model.graph)
    )
    embed = HistoryEmbedding(
        trained.embedding.user.detach(), trained.embedding.item.detach(), before
    ).on(item.detach(), after)
    assert torch.allclose(user[[0, 3]], embed(after)[[0, 3]])
    assert not model.is_untrained()  # so that a training goes on from there


def test_those_without_interactions_get_the_mean_row_and_statistics_are_taken_over(demo_data):
    first = copy.deepcopy(demo_data)
    model, trained = (get_model('GenRec')(copy.deepcopy(first)) for _ in range(2))
    for buffer in trained.buffers():
        if buffer.dtype.is_floating_point and buffer.dim() == 1:
            buffer.add_(7)
    torch.nn.init.normal_(trained.encoder.user_embedding)
    known = [f'known {user}' for user in range(60)]
    names = [known + [f'{which} {user}' for user in range(60, 120)] for which in ('old', 'new')]
    items = list(range(80))
    edges = first['user', 'interacts', 'item']
    edges.train_mask &= edges.edge_index[0] != 119
    model = get_model('GenRec')(first)
    take_over(model, (names[1], items), trained, (names[0], items))
    rows = model.encoder.user_embedding
    active = trained.graph.user_degree() > 0
    assert torch.allclose(rows[119], trained.encoder.user_embedding[active].mean(dim=0), atol=1e-6)
    assert not torch.allclose(rows[118], rows[119])
    for name, buffer in model.named_buffers():
        if buffer.dtype.is_floating_point and buffer.dim() == 1 and name in model.state_dict():
            assert torch.equal(buffer, dict(trained.named_buffers())[name]), name


def test_moments_of_the_optimizer_follow_their_ids():
    old, new = from_table(OLD, split='none'), from_table(NEW, split='none')
    trained, model = (get_model('LightGCN')(data, hidden_channels=2) for data in (old, new))
    names = [name for name, _ in trained.named_parameters()]
    assert names == ['embedding.user', 'embedding.item']
    rows = torch.arange(4.0).view(2, 2)
    state = {
        'state': {0: {'step': torch.tensor(7.0), 'exp_avg': rows, 'exp_avg_sq': rows + 1}},
        'param_groups': [{'params': [0, 1]}],
    }
    found = take_over_moments(model, ids(new), trained, ids(old), state)
    # b and d are the second and the third of a, b, d and e
    assert set(found) == {'embedding.user'} and found['embedding.user']['step'] == 7
    assert found['embedding.user']['exp_avg'].tolist() == [[0, 0], [0, 1], [2, 3], [0, 0]]
    assert found['embedding.user']['exp_avg_sq'].tolist() == [[2, 3], [1, 2], [3, 4], [2, 3]]
    within_mirror = {'optimizer': state, 'batch': 3}
    again = take_over_moments(model, ids(new), trained, ids(old), within_mirror)
    assert torch.equal(again['embedding.user']['exp_avg'], found['embedding.user']['exp_avg'])
    assert take_over_moments(model, ids(new), trained, ids(old), None) == {}


@pytest.mark.parametrize('mirror', [False, True])
def test_training_from_a_run_on_the_same_data_starts_with_its_moments(
    demo_data, tmp_path, monkeypatch, mirror
):
    def trainer(output=None):
        return Trainer(
            epochs=1, seed=0, progress=False, device='cpu', output=output, mirror_gradient=mirror
        )

    first = get_model('LightGCN')(copy.deepcopy(demo_data), hidden_channels=8)
    trainer(tmp_path / 'run').fit(first, demo_data)
    state = torch.load(tmp_path / 'run' / 'checkpoints' / 'best.pt', weights_only=True)['optimizer']
    inner = state['optimizer'] if mirror else state
    model = get_model('LightGCN')(copy.deepcopy(demo_data), hidden_channels=8)
    take_over(model, ids(demo_data), first, ids(demo_data))
    moments = take_over_moments(model, ids(demo_data), first, ids(demo_data), state)
    begun = []
    epoch = Trainer.train_epoch

    def noted(self, model, loader, optimizer, number):
        adam = optimizer.optimizer if mirror else optimizer
        begun.append(copy.deepcopy(adam.state_dict()))
        return epoch(self, model, loader, optimizer, number)

    monkeypatch.setattr(Trainer, 'train_epoch', noted)
    trainer().fit(model, demo_data, moments=moments)
    assert begun[0]['state'].keys() == inner['state'].keys() and len(inner['state']) == 2
    for number, entry in inner['state'].items():
        for key, value in entry.items():
            assert torch.equal(begun[0]['state'][number][key], value)


@pytest.mark.slow
def test_new_users_are_served_before_any_step():
    """Half of the users of a demo come later: their lists are good at once, and from drawn rows
    they are not.
    """
    data = demo_graph(num_users=300, num_items=100, num_clusters=6)
    store = data['user', 'interacts', 'item']
    early = copy.deepcopy(data)
    early['user', 'interacts', 'item'].train_mask = store.train_mask & (store.edge_index[0] < 150)
    trained = get_model('MFBPR')(early)
    Trainer(epochs=20, batch_size=256, lr=0.01, seed=0, progress=False, device='cpu').fit(
        trained, early
    )
    users = [f'{n}' for n in range(300)]
    # their rows were trained on nothing
    before = [name if n < 150 else f'drawn {n}' for n, name in enumerate(users)]
    figures = []
    for fold in (True, False):
        model = get_model('MFBPR')(data)
        take_over(model, (users, range(100)), trained, ((before if fold else users), range(100)))
        figures.append(evaluate(model, data, 'test', [10])['recall@10'])
    assert figures[0] > 1.2 * figures[1]
