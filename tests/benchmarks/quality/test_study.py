import json
import sys

from benchmarks.quality import study


def metrics(value):
    figures = {'recall@20': value, 'ndcg@20': value / 2, 'precision@20': value / 20}
    return {'validation': figures, 'test': figures, 'epoch': 4, 'seconds': 10.0}


def test_table_gives_mean_and_spread():
    text = study.table(
        {'default': {'0': metrics(0.10), '1': metrics(0.12)}}, {'Popularity': metrics(0.05)}
    )
    assert (
        '| default | 2 | 0.1100 ± 0.0141 | 0.1100 ± 0.0141 | 0.0550 ± 0.0071 | 0.0055 ± '
        '0.0007 | 5 | 10 |' in text
    )
    assert '| Popularity | 1 | 0.0500 |' in text


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch):
    calls, reports = [], []

    def run(arguments, flags, seed):
        if len(calls) == 3 and calls[-1] is not None:
            calls.append(None)
            raise KeyboardInterrupt
        calls.append((arguments.dataset, tuple(flags), seed))
        return metrics(0.1 + seed)

    def report(stem, document, arguments):
        reports.append(len(document['runs'].get('other', {})))
        stem.with_name(stem.name + '.json').write_text(json.dumps(document))

    monkeypatch.setattr(study, 'references', lambda arguments: {'EASE': metrics(0.08)})
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'study.py',
            '--root',
            'data',
            '--output',
            str(tmp_path),
            '--dataset',
            'demo',
            '--settings',
            'default',
            'other',
        ],
    )
    settings = {'default': [], 'other': ['--hparams.l2', '1'], 'not asked for': []}
    for interrupted in (True, False, False):
        try:
            study.run_study('study', 'A study.', settings, (0, 1), run, report)
        except KeyboardInterrupt:
            assert interrupted
    flags = ('--hparams.l2', '1')
    assert calls == [('demo', (), 0), ('demo', flags, 0), ('demo', (), 1), None, ('demo', flags, 1)]
    # after every run, and at the end of both sessions that reached it
    assert reports == [0, 1, 1, 2, 2, 2]
    document = json.loads((tmp_path / 'study-demo.json').read_text())
    assert document['runs']['other'] == {str(seed): metrics(0.1 + seed) for seed in (0, 1)}
    assert document['references'] == {'EASE': metrics(0.08)}
