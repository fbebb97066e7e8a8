import subprocess

from benchmarks.parity import commits


def trained(recall, *digests):
    return {'validation': {}, 'test': {'recall@20': recall}, 'state': list(digests)}


def test_what_differs_is_named():
    before = {
        'EASE': trained(0.5, 'a', 'b'),
        'LightGCN': trained(0.25, 'a', 'b'),
        'MGCN': trained(0.25, 'a'),
        'VBPR': trained(0.25, 'a'),
        'Old': trained(0.25),
    }
    after = {
        'EASE': trained(0.5, 'a', 'b'),
        'LightGCN': trained(0.25, 'a', 'c'),
        'MGCN': trained(0.5, 'a'),
        'VBPR': {'error': 'ValueError: no'},
        'New': trained(0.25),
    }
    assert commits.compare(before, after) == {
        'EASE': 'same bits',
        'LightGCN': '2 digests of tensors',
        'MGCN': 'test recall@20 0.25 -> 0.5',
        'VBPR': 'ValueError: no',
        'Old': 'only before',
        'New': 'only after',
    }


def test_equal_tensors_count_as_often_as_they_occur():
    one, other = {'EASE': trained(0.5, 'a', 'a', 'b')}, {'EASE': trained(0.5, 'a', 'b', 'b')}
    assert commits.compare(one, other) == {'EASE': '2 digests of tensors'}


def test_a_training_again_gives_the_same_bits():
    """Twice this tree: as two commits, without a history to check them out from."""
    one, other = (
        commits.train_all(commits.ROOT, ['LightGCN', 'SASRec', 'NoSuch'], 1, 60, 48)
        for _ in range(2)
    )
    assert list(one) == ['LightGCN', 'SASRec']
    assert commits.compare(one, other) == dict.fromkeys(one, 'same bits')
    assert one['LightGCN']['test'].keys() >= {'recall@20'} and one['LightGCN']['state']


def test_two_commits_are_checked_out_and_reported(tmp_path, monkeypatch, capsys):
    def git(*arguments):
        subprocess.run(['git', '-C', str(tmp_path), *arguments], check=True)

    git('init', '-q')
    for _ in range(2):
        git('-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qm', 'x', '--allow-empty')
    seen = []

    def train(checkout, *rest):
        seen.append((checkout / '.git').is_file())
        return {'EASE': trained(0.5, 'a')}

    monkeypatch.setattr(commits, 'ROOT', tmp_path)
    monkeypatch.setattr(commits, 'RESULTS', tmp_path)
    monkeypatch.setattr(commits, 'train_all', train)
    assert commits.main(['HEAD~1', 'HEAD', '--report']) == 0
    assert seen == [True, True] and '1 of 1 models' in capsys.readouterr().out
    assert len(list(tmp_path.glob('commits-*.md'))) == 1
    left = subprocess.run(
        ['git', '-C', str(tmp_path), 'worktree', 'list'], capture_output=True, text=True
    )
    assert len(left.stdout.splitlines()) == 1
