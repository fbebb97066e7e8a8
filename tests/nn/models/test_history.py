import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.nn.models.history import HistoryRecommender

NAMES = [
    name
    for name, entry in MODELS.items()
    if not entry.trained and issubclass(get_model(name), HistoryRecommender)
]
CONTENT = [name for name in NAMES if MODELS[name].needs_modality]


def test_all_models_of_item_histories_are_here():
    assert {'ItemKNN', 'EASE', 'GraphFilter', 'ItemKNNCBF', 'AddEASE', 'FeaturePriorEASE'} <= set(
        NAMES
    )


@pytest.mark.parametrize('name', NAMES)
def test_a_list_of_items_is_scored_as_the_user_who_has_it(name):
    data = toy_data()
    model = get_model(name)(data)
    graph = training_graph(data)
    user = torch.tensor([0, 1, 4, 7])
    rows = [graph.edge_index[1, graph.edge_index[0] == u].flip(0) for u in user]  # in another order
    rows[0] = torch.cat([rows[0], rows[0][:1]])  # a repeated item counts once
    rowptr = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    scores = model.score_history(rowptr, torch.cat(rows))
    assert scores.shape == (4, 7) and bool(torch.isfinite(scores).all())
    assert torch.equal(scores, model.score(user)) and not scores[3].any()  # user 7 has no item


@pytest.mark.parametrize('name', NAMES)
def test_unfit_histories_are_refused(name):
    model = get_model(name)(toy_data())
    with pytest.raises(DataError, match='column ids from 7 to 7, accepted are 0 to 6'):
        model.score_history(torch.tensor([0, 1]), torch.tensor([7]))
    for rowptr in ([0, 2], [1, 1], [0, 2, 1]):
        with pytest.raises(DataError, match='history: row offsets'):
            model.score_history(torch.tensor(rowptr), torch.tensor([3]))


@pytest.mark.parametrize('name', NAMES)
def test_held_out_edges_change_no_score(name):
    first = get_model(name)(toy_data()).score(torch.arange(8))
    second = get_model(name)(toy_data(held_out=torch.tensor([[7, 3, 5], [6, 0, 1]]))).score(
        torch.arange(8)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize('name', NAMES)
def test_shapes_and_state(name):
    model = get_model(name)(toy_data(3, partial=True))
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())
    assert not model.trainable and not model.has_embeddings and not model.state_dict()
    assert repr(model).startswith(f'{name}(users=8, items=7')


@pytest.mark.parametrize('name', CONTENT)
def test_content_is_required(name):
    with pytest.raises(
        ConfigError,
        match=f'modalities: got none, accepted for {name} is a graph with at least one modality',
    ):
        get_model(name)(toy_data(0))


@pytest.mark.parametrize('name', CONTENT)
def test_an_item_without_interactions_is_scored_by_its_features(name):
    """Item 6 has no training edge; its features are those of item 0, which users 0 and 4 have."""
    data = toy_data()
    for modality in ('image', 'text'):
        data[modality].x[6] = data[modality].x[0]
    score = get_model(name)(data).score(torch.arange(8))[:, 6]
    assert bool((score[[0, 4]] > 0).all())
