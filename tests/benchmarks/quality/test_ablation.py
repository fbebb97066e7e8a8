import argparse
import json

from benchmarks.quality import ablation as quality
from genrec_pyg.config import flatten, resolve_config


def metrics(value):
    figures = {'recall@20': value, 'ndcg@20': value / 2, 'precision@20': value / 20}
    return {'validation': figures, 'test': figures, 'epoch': 4, 'seconds': 10.0}


def test_report_names_data_and_flags(tmp_path):
    document = {
        'runs': {'default': {}, 'no contrast': {'0': metrics(0.1), '1': metrics(0.2)}},
        'references': {'EASE': metrics(0.08)},
    }
    arguments = argparse.Namespace(
        dataset='tiktok', name=None, modalities=['image', 'audio'], threads=1
    )
    quality.report(tmp_path / 'quality-tiktok', document, arguments)
    text = (tmp_path / 'quality-tiktok.md').read_text()
    assert (
        '# Quality of GenRec on tiktok (image + audio)' in text and '| EASE | 1 | 0.0800 |' in text
    )
    assert '| no contrast | 2 | 0.1500 ± 0.0707 |' in text and '| default |' not in text
    flags = json.loads((tmp_path / 'quality-tiktok.json').read_text())['flags']
    assert flags['no contrast'] == [
        '--hparams.contrast.view_weight',
        '0',
        '--hparams.contrast.pair_weight',
        '0',
    ]


def test_every_flag_of_the_settings_is_an_argument():
    accepted = flatten(resolve_config('GenRec').to_dict())
    for flags in quality.SETTINGS.values():
        for flag in flags[::2]:
            assert flag.removeprefix('--') in accepted
