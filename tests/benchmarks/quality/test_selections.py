import json

import numpy as np
import pytest
import torch
from helpers.sequence_graphs import sequence_data

from benchmarks.quality import interest_use as interest_use_module
from benchmarks.quality import selections as script
from benchmarks.quality.interest_use import evenness, interest_use
from benchmarks.quality.selections_run import tail_recall
from benchmarks.quality.selections_tables import comparisons, draw, hits, quality_table, verdict
from genrec_pyg.nn.models import get_model


def result(rank, recall=0.5):
    """A run in which the test items of the users have these ranks, 0 beyond the list."""
    metrics = dict.fromkeys(('recall@10', 'ndcg@10', 'recall@20', 'ndcg@20'), recall)
    part = {'share': [0.7, 0.3]}
    return {
        'validation': metrics,
        'test': metrics,
        'rank': rank,
        'tail': 0.0,
        'epoch': 1,
        'processor_seconds': 2.0,
        'use': {'signal': part, 'chosen': part, 'lists': part},
    }


def test_evenness():
    assert evenness(torch.tensor([3, 3, 3, 3])) == pytest.approx(
        {'balance': 1.0, 'effective': 4.0, 'largest': 0.25}
    )
    assert evenness(torch.tensor([5, 0])) == {'balance': 0.0, 'effective': 1.0, 'largest': 1.0}
    assert evenness(torch.tensor([5]))['balance'] == 1.0


def test_tail_recall():
    """Popularities 1 to 5: the tail is 1 and 2 (quantile 0.4 is 2.6), found at ranks 20 and 0."""
    assert tail_recall(np.array([20, 0, 1, 1, 1]), np.arange(1, 6)) == 0.5


def test_hits_are_means_over_seeds():
    seeds = {'0': result([1, 0, 21]), '1': result([0, 20, 3])}
    assert hits(seeds).tolist() == [0.5, 0.5, 0.5]


def test_comparisons_pair_settings_with_hard_and_uniform_of_their_model():
    ranks = np.arange(40)
    runs = {
        'SASRec': {'0': result(ranks.tolist())},
        'MIND, hard': {'0': result([0] * 20 + [5] * 20)},
        'MIND, p': {'0': result([5] * 40)},
        'MIND, uniform': {'0': result([0] * 20 + [5] * 20)},
        'MIND, p, multi-interest loss': {'0': result([5] * 40)},
    }
    found = comparisons(runs)
    assert [(test['setting'], test['against']) for test in found] == [
        ('MIND, p', 'hard'),
        ('MIND, p', 'uniform'),
        ('MIND, uniform', 'hard'),
        ('MIND, p, multi-interest loss', 'hard'),
    ]
    assert [test['difference'] for test in found] == [0.5, 0.5, 0.0, 0.5]
    assert all(test['p'] <= test['corrected'] <= 1 for test in found)
    assert 'Against hard selection 2 of 3 settings are significantly better' in verdict(runs, found)
    assert '| MIND, hard | 1 | 0.5000 |' in quality_table(runs)


@pytest.mark.parametrize('num_interests', [1, 3])
def test_use_of_interests(num_interests, monkeypatch):
    monkeypatch.setattr(interest_use_module, 'LIST', 2)
    monkeypatch.setattr(interest_use_module, 'RECALL', 2)
    torch.manual_seed(0)
    data = sequence_data()
    model = get_model('ComiRecSA')(
        data, hidden_channels=8, history_length=5, num_negatives=6, num_interests=num_interests
    )
    use = interest_use(model, data)
    for part in ('signal', 'chosen', 'lists'):
        assert len(use[part]['share']) == num_interests
        assert sum(use[part]['share']) == pytest.approx(1)
    # hard selection: one interest learns from a target, and only that one
    assert use['signal']['learning'] == pytest.approx(1)
    assert 0 < use['lists']['distinct'] <= 1
    if num_interests == 1:
        assert use['lists']['without'] == [0] and use['lists']['distinct'] == 1


def test_figure_is_the_same_for_the_same_runs(tmp_path):
    runs = {'EASE': {'0': {**result([1]), 'use': None}}, 'MIND, p': {'0': result([1])}}
    draw(runs, tmp_path / 'a.svg')
    draw(runs, tmp_path / 'b.svg')
    assert (tmp_path / 'a.svg').read_bytes() == (tmp_path / 'b.svg').read_bytes()
    draw({'EASE': runs['EASE']}, tmp_path / 'none.svg')
    assert not (tmp_path / 'none.svg').exists()


def test_a_report_goes_on_where_it_stopped(tmp_path, monkeypatch):
    done = []

    def measure(flags):
        done.append(flags)
        sizes = {'users': 2, 'items': 3, 'training': 4, 'targets': 2}
        return {**result([1, 0]), 'use': None, 'sizes': sizes}

    monkeypatch.setattr(script, 'measure', measure)
    flags = ['--root', 'x', '--models', 'MIND', '--selections', 'hard', 'label_aware']
    flags += ['--references', 'EASE', '--seeds', '0', '--output', str(tmp_path)]
    flags += ['--state', str(tmp_path / 'state.json')]
    script.main(flags)
    assert len(done) == 1 + 1 + 2 * 2
    assert done[-1][-5:] == ['label_aware', '--hparams.multi_loss', 'true', '--seed', '0']
    script.main([*flags, '--seeds', '0', '1'])
    assert len(done) == 6 + 5  # EASE has no seed
    runs = json.loads((tmp_path / 'selections-ml-100k.json').read_text())['runs']
    assert set(runs['MIND, hard']) == {'0', '1'} and set(runs['EASE']) == {'0'}
    assert 'rank' not in runs['MIND, hard']['0']
    assert '# Which interest learns' in (tmp_path / 'selections-ml-100k.md').read_text()
