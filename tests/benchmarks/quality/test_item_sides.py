import argparse
import json

import numpy as np
import pytest
import torch

from benchmarks.quality import item_sides as script
from benchmarks.quality.item_sides_data import add_features
from benchmarks.quality.item_sides_run import collapsed, groups
from genrec_pyg.nn.items import ItemSide
from genrec_pyg.training import Trainer


def result(value, epochs=3):
    found = {name: {'hit': value, 'ndcg': value / 2, 'targets': 10} for name in script.GROUPS}
    return {
        'groups': found,
        'epoch': 1,
        'epochs': epochs,
        'stopped': 'patience',
        'seconds': 12.0,
        'epoch_seconds': 4.0,
        'encoded_per_second': 100.0,
        'encoded_per_epoch': 400.0,
        'parameters': 2_500_000,
        'memory': 2**30,
        'sizes': {'users': 5, 'items': 7, 'training': 20},
    }


def arguments(**changed):
    settings = dict(
        dataset='ml-100k-posters',
        root='data',
        users=0,
        contents=['title', 'image'],
        settings=[],
        epochs=60,
        encoder_epochs=20,
        patience=6,
        lr=1e-3,
        encoder_lr=5e-5,
        unfreeze=1,
        max_seconds=None,
        cache=None,
    )
    return argparse.Namespace(**{**settings, **changed})


def test_groups_of_targets():
    """Ranks 1, none, 3, 11 and 2 of targets with 0, 5, 12, 40 and 9 training interactions."""
    found = groups(np.array([1, 0, 3, 11, 2]), np.array([0, 5, 12, 40, 9]))
    assert {name: (values['targets'], values['hit']) for name, values in found.items()} == {
        'all': (5, 0.6),
        'new': (1, 1.0),
        'cold': (2, 0.5),
        '10 to 19': (1, 1.0),
        '20 and more': (1, 0.0),
    }
    assert found['10 to 19']['ndcg'] == 0.5 and found['cold']['ndcg'] == pytest.approx(
        0.315465, abs=1e-6
    )


def test_settings_are_accepted_and_differ_in_the_item_side_alone():
    jobs = script.jobs(arguments())
    assert {
        'SASRec, id',
        'SASRec, end to end, image',
        'DSSM, id + frozen, title',
        'LightGCN, frozen, image',
        'ItemKNNCBF, image',
        'GenRec, id + frozen, title',
    } <= set(jobs)
    for name, job in jobs.items():
        Trainer(progress=False, monitor='ndcg@10', **job['trainer'])
        side = ItemSide.of(job['hparams'].pop('item_side', None))
        assert side.encodes == ('end to end' in name) and (job['content'] is None) == (
            side.encodes or ', ' not in name or name.endswith(', id')
        )
        json.dumps(job)
    models = {name: job['hparams'] for name, job in jobs.items() if name.startswith('SASRec')}
    assert all(hparams == models['SASRec, id'] for hparams in models.values())
    assert all(
        job['dataset'] == 'amazon-beauty' and 'image' not in name
        for name, job in script.jobs(arguments(dataset='amazon-beauty')).items()
    )


def test_the_report_says_who_won_and_what_it_cost(tmp_path):
    runs = {
        'SASRec, id': {'0': result(0.2), '1': result(0.4)},
        'SASRec, frozen, title': {'0': result(0.5)},
        'Popularity': {'0': result(0.1, epochs=0)},
    }
    script.report(tmp_path / 'x', {'runs': runs}, arguments())
    text = (tmp_path / 'x.md').read_text()
    assert (
        'all: SASRec, frozen, title (0.2500)' in text
        and 'SASRec 0.1500 by id, 0.2500 as frozen, title' in text
    )
    assert '| SASRec, id | 2 | 0.3000 ± 0.1414 | 0.1500 ± 0.0707 |' in text
    assert (
        '| SASRec, id | 2.50 | 3 | patience | 4.0 | 12 | 400 | 100 | 1.00 |' in text
        and '| Popularity | 0.10' not in text
    )


def test_what_is_there_is_not_run_again(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(
        script, 'run', lambda job, seed: done.append((job['model'], seed)) or result(0.2)
    )
    flags = [
        '--root',
        'data',
        '--dataset',
        'amazon-beauty',
        '--output',
        str(tmp_path),
        '--settings',
        'Popularity',
        'DSSM, id',
    ]
    script.main([*flags, '--seeds', '0'])
    script.main([*flags, '--seeds', '0', '1'])
    assert done == [('Popularity', 0), ('DSSM', 0), ('DSSM', 1)]


def test_settings_are_asked_for_by_their_names_or_first_parts():
    def chosen(*names):
        return list(script.jobs(arguments(settings=list(names))))

    assert chosen('SASRec, id') == ['SASRec, id']
    assert chosen('SASRec, frozen, title', 'LightGCN, id') == [
        'SASRec, frozen, title',
        'LightGCN, id',
    ]
    # two contents; with 2 layers too
    assert len(chosen('SASRec, frozen')) == 4 and len(chosen('DSSM')) == 11


def test_features_are_kept_from_run_to_run(tmp_path, monkeypatch):
    from genrec_pyg.testing import toy_graph

    data = toy_graph(0)
    data['item'].title = [f'title {number}' for number in range(7)]
    seen = []
    monkeypatch.setattr(
        'benchmarks.quality.item_sides_data._encode',
        lambda values, content: seen.append(content) or torch.ones(len(values), 3),
    )
    for _ in range(2):
        add_features(data, 'title', tmp_path)
    assert seen == ['title'] and data['title_features'].x.shape == (7, 3)
    data['item'].title[0] = 'another'
    add_features(data, 'title', tmp_path)
    assert seen == ['title', 'title']


def test_a_collapse_is_a_fall_to_chance_that_lasts():
    assert collapsed([0.1, 0.2, 0.001], 100_000) is False  # three times chance is 0.0003
    assert collapsed([0.1, 0.2, 0.0001], 100_000) and not collapsed([0.0001, 0.0002], 100_000)
    assert not collapsed([0.1, 0.0001, 0.2], 100_000) and not collapsed([], 10)
