"""Titles through an encoder, from the command line."""

import torch

from genrec_pyg.config.build import load_run
from genrec_pyg.evaluate import main as evaluate
from genrec_pyg.train import main as train

WORDS = ('best', 'news', 'rain', 'games', 'the best', 'selling games', 'the rain', 'best news')


def test_a_run_trains_an_encoder_and_is_loaded_again(text_folder, tmp_path, capsys):
    place = tmp_path / 'news'
    place.mkdir()
    (place / 'items.tsv').write_text(
        ''.join(f'n{number}\t{title}\n' for number, title in enumerate(WORDS))
    )
    (place / 'users.tsv').write_text(
        ''.join(
            f'u{user}\t{" ".join(f"n{(user + step) % 8}" for step in range(6))}\n'
            for user in range(12)
        )
    )
    run = tmp_path / 'run'
    flags = [
        '--model',
        'SASRec',
        '--dataset',
        'news',
        '--root',
        str(tmp_path),
        '--output',
        str(run),
        '--epochs',
        '2',
        '--references',
        'false',
        '--hparams.loss',
        'inbatch',
        '--hparams.hidden_channels',
        '8',
        '--hparams.item_side.kind',
        'id+encoder',
        '--hparams.item_side.encoder',
        str(text_folder('bert')),
        '--hparams.item_side.unfreeze',
        '1',
        '--hparams.item_side.keep_frozen',
        'true',
        '--trainer.encoder_lr',
        '1e-4',
        '--trainer.ks',
        '[5]',
        '--trainer.monitor',
        'recall@5',
    ]
    assert train(flags) == 0
    first, second = (load_run(str(run), device='cpu').model for _ in range(2))
    scores = first.score(torch.arange(12))
    assert torch.equal(scores, second.score(torch.arange(12)))
    assert evaluate([str(run), '--ks', '5']) == 0
    assert (
        train(
            [
                *flags[:-4],
                '--output',
                str(tmp_path / 'other'),
                '--hparams.item_side.encoder',
                str(tmp_path),
            ]
        )
        == 1
    )
    assert 'has no config.json, accepted is a folder with' in capsys.readouterr().err
    assert (
        train(
            [
                '--model',
                'SASRec',
                '--dataset',
                'news',
                '--root',
                str(tmp_path),
                '--hparams.item_side.kind',
                'both',
            ]
        )
        == 2
    )
    assert "item_side.kind: got 'both', accepted are 'id'" in capsys.readouterr().err
