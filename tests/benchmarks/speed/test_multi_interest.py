import itertools

import pytest
import torch
from helpers.sequence_graphs import cyclic_data

from benchmarks.speed import multi_interest as script
from genrec_pyg.nn.models.sequential.multi_interest import MultiInterestRecommender


@pytest.mark.parametrize('name', script.MODELS)
@pytest.mark.parametrize('negatives', script.OURS.values())
def test_our_steps_go_on_and_learn(name, negatives):
    torch.manual_seed(0)
    data = cyclic_data(num_items=24)
    store = data['user', 'interacts', 'item']
    store.train_mask = torch.ones(store.edge_index.size(1), dtype=torch.bool)
    losses = list(itertools.islice(script.our_steps(data, name, negatives, 6, 12), 101))
    assert sum(losses[-10:]) < sum(losses[:10])  # past the end of the loader too
    model = script.our_model(data, name, negatives, 6, 12)
    assert isinstance(model, MultiInterestRecommender) and model.multi_loss
    assert model.selection.kind == ('hard' if name == 'REMI' else 'p')


def test_peak_counts_what_lives_at_a_time():
    with script.Peak() as trace:
        for _ in range(3):
            x = torch.ones(100)
            del x
        x = torch.ones(50)
        y = x + 1
    assert trace.peak == 400 and trace.live == 400 and y.numel() == 50


def test_candidates_take_turns():
    order = []

    def steps(name):
        while True:
            order.append(name)
            yield 0.0

    seconds = script.turns({'a': steps('a'), 'b': steps('b')}, 2, 3)
    assert order == ['a', 'a', 'b', 'b'] * 3
    assert all(len(values) == 3 and min(values) >= 0 for values in seconds.values())


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='BasicModel'):
        script.main(['--root', str(tmp_path), '--checkout', str(tmp_path)])
