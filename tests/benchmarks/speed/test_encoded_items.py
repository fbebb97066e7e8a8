import argparse

import pytest
import torch

from benchmarks.speed import encoded_items as script


class TwoTitles(script.Data):
    """Ten items of two lengths; eight users."""

    def __init__(self):
        self.num_items = 10
        self.ids = torch.randint(1, 100, (10, script.LENGTH))
        self.mask = (
            torch.arange(script.LENGTH) < torch.tensor([3, 9]).repeat(5).unsqueeze(1)
        ).long()
        self.ids *= self.mask
        self.sequences = [[(user + step) % 10 for step in range(6)] for user in range(8)]


def test_our_side_trains_and_evaluates():
    pytest.importorskip('transformers', reason='TRANSFORMERS IS NOT INSTALLED: no encoder is timed')
    side = script.make_ours(TwoTitles(), 'tiny', 4)
    assert side['step']() > 0 and 0 <= side['evaluation']() <= 1


def test_the_report_divides_theirs_by_ours(tmp_path):
    seconds = {
        'step': {
            side: {'median': value, 'count': 5, 'times_ours': value / 2}
            for side, value in (('ours', 2.0), ('theirs', 7.0))
        }
    }
    memory = {
        'ours': {'before': 2**20, 'peak': 11 * 2**20},
        'theirs': {'before': 0, 'peak': 20 * 2**20},
    }
    text = script.render(
        {
            'seconds': seconds,
            'losses': {'ours': 1.0, 'theirs': 1.5},
            'hits': {},
            'memory': memory,
            'users': 8,
            'items': 10,
            'tokens': 6.0,
            'encoder': 'tiny',
            'batch_size': 4,
            'digest': 'x',
            'machine': script.prepare(1),
        }
    )
    assert (
        '| step | 2.00 | 7.00 | 3.5 | 5 |' in text
        and 'ours 10 MiB, theirs 20 MiB, 2.0 times ours' in ' '.join(text.split())
    )


def test_a_folder_that_is_no_checkout_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match='--checkout: the folder lacks'):
        script.make_theirs(TwoTitles(), 'tiny', 4, argparse.Namespace(checkout=tmp_path).checkout)
