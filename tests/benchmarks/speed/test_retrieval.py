import importlib.util
import json

import pytest
import torch

from benchmarks.speed import retrieval as serving
from genrec_pyg.train import main as train

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec('faiss') is None,
    reason='THE APPROXIMATE INDEX IS NOT MEASURED: pip install faiss-cpu',
)
SMALL = ['--num_users', '20', '--k', '5', '--repeats', '1']


def test_recall_counts_what_the_exact_list_holds():
    # 9 is the padding
    exact, found = torch.tensor([[0, 1], [2, 9]]), torch.tensor([[1, 5], [3, 9]])
    assert serving.recall(exact, found, 9) == pytest.approx(1 / 3)


@needs_faiss
def test_report(tmp_path):
    stem = tmp_path / 'results' / 'serving'
    argv = [
        *SMALL,
        '--num_items',
        '400',
        '--channels',
        '8',
        '--cells',
        '4',
        '10',
        '--probes',
        '1',
        '4',
        '--output',
        str(stem),
    ]
    assert serving.main(argv) == 0
    rows = json.loads(stem.with_suffix('.json').read_text())['rows']
    assert [(row.get('cells'), row.get('probes')) for row in rows] == [
        (None, None),
        (4, 1),
        (4, 4),
        (10, 1),
        (10, 4),
    ]
    assert (
        rows[0]['recall'] == 1
        and rows[2]['recall'] > 0.9
        and rows[2]['recall'] >= rows[1]['recall'] > 0
    )
    assert all(row['queries_per_second'] > 0 for row in rows)
    text = stem.with_suffix('.md').read_text()
    assert '| exact |' in text and str(tmp_path) not in text


@needs_faiss
def test_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        train(
            [
                '--epochs',
                '1',
                '--references',
                'false',
                '--hparams.denoiser.rank',
                '8',
                '--output',
                'run',
            ]
        )
        == 0
    )
    assert serving.main([*SMALL, '--run', 'run', '--output', 'report']) == 0
    document = json.loads((tmp_path / 'report.json').read_text())
    assert document['name'] == 'GenRec-demo' and document['num_items'] == 400
    assert document['rows'][1]['recall'] == 1 and document['rows'][1]['cells'] is None


def test_a_run_without_embeddings_and_bad_usage(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.chdir(tmp_path)
    assert train(['--model', 'EASE', '--references', 'false', '--output', 'run']) == 0
    assert serving.main(['--run', 'run']) == 2 and '--run: EASE has no embeddings' in caplog.text
    with pytest.raises(SystemExit):
        serving.parse_arguments(['--k', '0'])
    assert '--k: got 0' in capsys.readouterr().err
