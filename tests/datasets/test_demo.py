import torch

from genrec_pyg.datasets import demo_graph, load_dataset
from genrec_pyg.evaluation import evaluate
from genrec_pyg.graph import INTERACTS, check_graph, modality_names, training_graph
from genrec_pyg.nn.models import EASE, Popularity


def test_graph_is_canonical_and_repeatable():
    data = demo_graph()
    check_graph(data)
    assert modality_names(data) == ['image', 'text', 'audio']
    assert torch.equal(data[INTERACTS].edge_index, demo_graph()[INTERACTS].edge_index)
    assert not torch.equal(data['text'].x, demo_graph(seed=1)['text'].x)
    store = data[INTERACTS]
    assert bool((store.train_mask | store.val_mask | store.test_mask).all())


def test_noise_is_what_lies_outside_the_planted_clusters_and_only_in_training():
    data = demo_graph()
    store = data[INTERACTS]
    user, item = store.edge_index
    planted = (data['user'].clusters[user] == data['item'].cluster[item].unsqueeze(1)).any(dim=1)
    assert torch.equal(store.noise, ~planted)
    assert 0.05 < float(store.noise.float().mean()) < 0.2 and bool(
        store.train_mask[store.noise].all()
    )


def test_modalities_are_missing_or_several():
    graph = training_graph(demo_graph())
    assert graph.modalities['text'].edge_index is None
    assert int(graph.modalities['audio'].present().sum()) == 300
    assert graph.modalities['image'].x.size(0) == 440 and graph.modalities['image'].present().all()


def test_a_model_that_learns_beats_popularity_twice():
    data = demo_graph()
    assert (
        evaluate(EASE(data), data)['recall@20'] > 2 * evaluate(Popularity(data), data)['recall@20']
    )


def test_modalities_can_be_chosen():
    assert modality_names(load_dataset('demo', modalities=['text'])) == ['text']
    assert modality_names(load_dataset('demo', modalities=[])) == []
