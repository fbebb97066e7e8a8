"""Lists for users whom training has not seen."""

import pytest
import torch

from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import split_edges, timed_edges, training_graph
from genrec_pyg.loader import Sequences
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import Adjacency
from genrec_pyg.recommend import top_items, top_items_of_histories
from genrec_pyg.retrieval.fold_in import one_history, read_histories
from genrec_pyg.training import Trainer
from genrec_pyg.transforms.selection import select_edges

pytestmark = pytest.mark.slow

OUT = torch.arange(0, 600, 10)  # a tenth of the users


def without_users(data):
    """The same graph in which the users ``OUT`` have no interaction."""
    edges = ('user', 'interacts', 'item')
    select_edges(data, edges, (~torch.isin(data[edges].edge_index[0], OUT)).nonzero().view(-1))
    return data


def histories(data, user=OUT):
    whole = Adjacency.from_edge_index(split_edges(data, 'train'), size=(600, 400))
    return Adjacency(*whole.select_rows(user), None, (user.numel(), 400))


def recall(columns, data):
    wanted = {
        pair for pair in map(tuple, split_edges(data, 'test').t().tolist()) if pair[0] % 10 == 0
    }
    hits = [pair for pair in zip(columns['user'], columns['item']) if pair in wanted]
    return len(hits) / len(wanted)


@pytest.mark.parametrize(
    'name,options,epochs',
    [
        ('EASE', {}, 0),
        ('ItemKNN', {}, 0),
        ('LightGCN', {}, 25),
        ('MFBPR', {}, 25),
        ('GenRec', {'interest': {'rank': 64}}, 4),
    ],
)
def test_folded_users_keep_nine_tenths_of_the_recall_of_trained_ones(name, options, epochs):
    found = []
    for data in (demo_graph(), without_users(demo_graph())):
        model = get_model(name)(data, **options)
        if epochs:
            Trainer(epochs=epochs, batch_size=512, lr=5e-3, progress=False, device='cpu').fit(
                model, data
            )
        found.append((model.eval(), data))
    (trained, whole), (other, reduced) = found
    lists = top_items_of_histories(other, reduced, OUT.tolist(), histories(whole))
    assert not set(zip(lists['user'], lists['item'])) & set(
        map(tuple, split_edges(whole, 'train').t().tolist())
    )
    expected = recall(top_items(trained, whole, OUT, exclude='train'), whole)
    assert expected > 0.2 and recall(lists, whole) >= 0.9 * expected


def test_a_history_gets_the_list_of_the_user_who_has_it_and_blocked_items_are_left_out():
    data = demo_graph()
    model = get_model('EASE')(data)
    mine = top_items(model, data, OUT, k=5, exclude='train')
    assert top_items_of_histories(model, data, OUT.tolist(), histories(data), k=5) == mine
    blocked = torch.tensor(sorted(set(mine['item'])))
    for lists in (
        top_items(model, data, OUT, k=5, exclude='train', blocked=blocked),
        top_items_of_histories(model, data, OUT.tolist(), histories(data), k=5, blocked=blocked),
    ):
        assert len(lists['item']) == 5 * OUT.numel() and not set(lists['item']) & set(mine['item'])


@pytest.mark.parametrize('name', ['SASRec', 'GRU4Rec', 'ComiRecSA'])
def test_a_sequence_gets_the_list_of_the_user_who_has_it(name):
    data = with_time(demo_graph())
    model = get_model(name)(data, hidden_channels=8, history_length=4).eval()
    edges = timed_edges(data)
    chosen = torch.isin(edges[0], OUT)
    given = Sequences.from_edges(
        torch.stack([edges[0, chosen] // 10, edges[1, chosen]]), OUT.numel(), 400
    )
    mine = top_items(model, data, OUT, k=5, exclude='train')
    lists = top_items_of_histories(model, data, OUT.tolist(), given, k=5)
    assert lists['item'] == mine['item'] and lists['user'] == mine['user']
    assert lists['score'] == pytest.approx(mine['score'], rel=1e-5)


def test_the_order_of_a_history_counts_and_is_asked_for():
    data = with_time(demo_graph())
    model = get_model('SASRec')(data, hidden_channels=8).eval()
    number = {str(item): item for item in range(400)}
    lists = [
        top_items_of_histories(model, data, ['x'], one_history(ids, number, 400), k=20)['item']
        for ids in (['3', '5', '9'], ['9', '5', '3'])
    ]
    assert lists[0] != lists[1]
    with pytest.raises(ConfigError, match='MIND reads items in the order of time'):
        top_items_of_histories(get_model('MIND')(data), data, OUT.tolist(), histories(data))


def test_a_table_is_read_in_the_order_of_its_times(tmp_path, caplog):
    path = tmp_path / 'new.csv'
    path.write_text('user,item,time\nb,7,5\na,3,30\na,1,10\na,x,15\na,2,20\nb,7,1\nc,y,1\n')
    names, found = read_histories(path, {str(item): item for item in range(9)}, 9)
    assert dict(
        zip(names, (found.item[a:b].tolist() for a, b in zip(found.rowptr, found.rowptr[1:])))
    ) == {
        'a': [1, 2, 3],
        'b': [7, 7],
    }
    assert found.without_repeats().item.tolist().count(7) == 1
    assert '2 of 7 rows' in caplog.text and '1 users have no item' in caplog.text


def test_unknown_items_of_one_history_are_named(caplog):
    number = {'sku 1': 0, 'sku 2': 1}
    assert one_history(['sku 2', 'new', 'sku 1'], number, 2).item.tolist() == [1, 0]
    assert "does not know 'new', which is left out" in caplog.text
    with pytest.raises(DataError, match="accepted are ids such as 'sku 1'"):
        one_history(['new'], number, 2)


def with_time(data):
    store = data['user', 'interacts', 'item']
    store.time = torch.arange(store.edge_index.size(1))
    assert training_graph(data).num_edges
    return data


def test_the_generated_interest_of_a_history_is_exact():
    """A user who stands in the graph gets the same list from the interest alone as from his
    history.
    """
    data = demo_graph()
    model = get_model('GenRec')(data, hidden_channels=8, interest={'rank': 32, 'weight': 1.0})
    model.choose(data)
    assert model.eval().has_sparse_scores
    mine = top_items(model, data, OUT, k=10, exclude='train')
    lists = top_items_of_histories(model, data, OUT.tolist(), histories(data), k=10)
    assert lists['item'] == mine['item'] and lists['user'] == mine['user']
