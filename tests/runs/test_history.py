import json

from genrec_pyg.runs.history import History, environment


def test_records_are_appended_and_later_ones_cut_on_resume(tmp_path):
    history = History(tmp_path)
    for epoch in range(3):
        history.append({'epoch': epoch, 'loss': {'bpr': 1.0 / (epoch + 1)}, 'seconds': 0.5})
    history.close()
    assert [
        json.loads(line)['epoch'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()
    ] == [0, 1, 2]
    resumed = History(tmp_path, epochs_done=2)
    assert [record['epoch'] for record in resumed.records] == [0, 1]
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 2


def test_memory_only():
    history = History()
    history.append({'epoch': 0})
    history.close()
    assert history.records == [{'epoch': 0}]


def test_environment_names_versions():
    assert {'torch', 'torch_geometric', 'genrec_pyg', 'python', 'threads'} <= set(environment())
