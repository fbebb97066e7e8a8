import argparse
import json

from benchmarks.quality import flip_against_noise as script
from benchmarks.quality.study import make_parser
from genrec_pyg.config import resolve_config
from genrec_pyg.nn.models import DiffMM
from genrec_pyg.nn.models.settings import dotted


def metrics(value, share=None):
    figures = {'recall@20': value, 'ndcg@20': value / 2, 'precision@20': value / 20}
    logged = (
        {}
        if share is None
        else {'image_share_new_edges': share, 'audio_share_new_edges': share / 2, 'x': 7.0}
    )
    return {'validation': figures, 'test': figures, 'epoch': 4, 'seconds': 10.0, 'figures': logged}


def test_comparison_is_paired_by_seed():
    runs = {
        'flips': {'0': metrics(0.10, 0.4), '1': metrics(0.13, 0.8), '7': metrics(0.9)},
        'Gaussian noise': {'1': metrics(0.11, 0.2), '0': metrics(0.11, 0.2)},
    }
    # Differences -0.01 and +0.02: mean 0.005, standard error 0.015.
    assert (
        '| as published | 2 | +0.0050 ± 0.0150 | +0.0050 ± 0.0150 | +0.0025 ± 0.0075 | 1 | '
        '0.45 | 0.15 |' in script.comparison(runs)
    )
    single = script.comparison(
        {name: {'0': metrics(value)} for name, value in (('flips', 0.2), ('Gaussian noise', 0.3))}
    )
    assert '| as published | 1 | -0.1000 | -0.1000 | -0.0500 | 0 |  |  |' in single
    assert 'equal weight' not in single


def test_report_compares_what_was_run(tmp_path):
    runs = {
        name: {'0': metrics(value, 0.5)}
        for name, value in (('flips', 0.10), ('Gaussian noise', 0.11))
    }
    arguments = argparse.Namespace(
        dataset='tiktok',
        name=None,
        modalities=['image', 'audio'],
        threads=1,
        flags=['--epochs', '3'],
    )
    script.report(tmp_path / 'x', {'runs': runs, 'references': {'EASE': metrics(0.08)}}, arguments)
    text = (tmp_path / 'x.md').read_text()
    assert '| as published | 1 | -0.0100 |' in text and '| EASE | 1 | 0.0800 |' in text
    flags = json.loads((tmp_path / 'x.json').read_text())['flags']
    assert flags['flips'] == ['--hparams.diffusion.process', 'flip', '--epochs', '3']


def test_pairs_differ_in_the_process_alone():
    for flips, noise in script.PAIRS.values():
        changed = [
            pair
            for pair in zip(script.SETTINGS[flips], script.SETTINGS[noise], strict=True)
            if pair[0] != pair[1]
        ]
        assert changed == [('flip', 'gaussian')]


def test_every_flag_of_the_settings_is_a_hyper_parameter():
    names = {f'--hparams.{name}' for name in dotted(DiffMM, resolve_config('DiffMM').hparams)}
    for flags in script.SETTINGS.values():
        assert {flag for flag in flags if flag.startswith('--')} <= names


def test_a_run_goes_through_the_command_line(tmp_path):
    arguments = make_parser('', list(script.SETTINGS), [0]).parse_args(
        [
            '--root',
            str(tmp_path),
            '--dataset',
            'demo',
            '--modalities',
            'image',
            '--flags',
            '--epochs',
            '1',
            '--hparams.denoiser.channels',
            '8',
        ]
    )
    result = script.run(arguments, script.SETTINGS['flips'], 0)
    assert (
        result['model'] == 'DiffMM' and result['epoch'] == 0 and 0 < result['test']['recall@20'] < 1
    )
    assert 0 <= script.share_of_new_edges(result) <= 1
