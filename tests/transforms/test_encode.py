import numpy as np
import pytest
import torch
from helpers.wave_files import riff
from torch_geometric.data import HeteroData

from genrec_pyg.encoders import TextEncoder
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import check_graph, item_modality
from genrec_pyg.transforms import EncodeAudio, EncodeBag, EncodeImages, EncodeText


@pytest.fixture
def shop():
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 2, 4
    data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
    data['item'].title = ['the best news', 'rain', '', 'selling games']
    return data


def test_texts_become_nodes(text_folder, shop):
    folder = text_folder('bert')
    with pytest.raises(DataError, match="1 of 4 items have no usable content .'2': empty text"):
        EncodeText('title', folder)(shop)
    data = EncodeText('title', folder, name='text', on_bad_item='skip')(shop)
    check_graph(data)
    assert data['item', 'has', 'text'].edge_index.tolist() == [[0, 1, 3], [0, 1, 2]]
    encoder = TextEncoder.from_pretrained(folder)
    with torch.no_grad():
        assert torch.allclose(data['text'].x[1], encoder(*encoder.tokenize(['rain']))[0], atol=1e-6)
    zero = EncodeText('title', folder, on_bad_item='zero')(shop)
    assert zero['title'].x.shape == (4, 16) and not zero['title'].x[2].any()


def test_pictures_become_nodes(image_folder, shop, tmp_path):
    from PIL import Image

    Image.effect_noise((20, 20), 80).save(tmp_path / '0.png')
    (tmp_path / '1.png').write_bytes(b'damaged')
    shop['item'].image = [
        str(tmp_path / name) if name else '' for name in ('0.png', '1.png', '', 'no')
    ]
    data = EncodeImages('image', image_folder('vit'), on_bad_item='skip')(shop)
    assert data['image'].x.shape == (1, 16)
    with pytest.raises(DataError, match='1.png: cannot be decoded'):
        EncodeImages('image', image_folder('vit'), name='other')(shop)


def test_sounds_become_nodes(shop, tmp_path):
    files = []
    for number in range(3):
        files.append(str(tmp_path / f'{number}.wav'))
        (tmp_path / f'{number}.wav').write_bytes(riff(bytes([number, 10 * number]) * 800))
    (tmp_path / '1.wav').write_bytes(b'RIFF')
    shop['item'].audio = files + [''] * (int(shop['item'].num_nodes) - 3)
    data = EncodeAudio(on_bad_item='skip')(shop)
    assert data['audio'].x.shape == (2, 128) and bool(data['audio'].x.isfinite().all())
    assert data['item', 'has', 'audio'].edge_index[0].tolist() == [0, 2]
    check_graph(data)
    with pytest.raises(DataError, match="no usable content|1.wav: starts with b'RIFF'"):
        EncodeAudio(name='sound')(shop)


def test_bags_of_tags_and_words(shop):
    shop['item'].tags = ['a|b', 'a', 'b|c', '']
    data = EncodeBag('tags', separator='|', channels=None, on_bad_item='skip')(shop)
    assert data['tags'].x.layout == torch.sparse_csr and data['tags'].x.shape == (3, 3)
    check_graph(data)
    dense = item_modality(data, 'tags')
    assert dense.item_features()[3].tolist() == [0, 0, 0]
    shop['item'].lists = [['a', 'b'], ['a'], ['b', 'c'], []]
    again = EncodeBag('lists', channels=None, on_bad_item='skip')(shop)
    assert torch.equal(again['lists'].x.to_dense(), data['tags'].x.to_dense())
    shop['item'].plot = ['red wine', 'red wine', 'red', 'blue']
    words = EncodeBag('plot', 'words', channels=2, on_bad_item='zero')(shop)
    assert words['plot'].x.shape == (4, 2) and np.allclose(words['plot'].x[0], words['plot'].x[1])
    assert not words['plot'].x[3].any()


def test_wrong_arguments_are_refused(shop):
    with pytest.raises(ConfigError, match="data\\['item'\\].plot is nothing, accepted is a list"):
        EncodeText('plot')(shop)
    with pytest.raises(ConfigError, match="name: got 'item'"):
        EncodeText('title', name='item')(shop)
    for kind, argument in (
        (EncodeText, 'pooling'),
        (EncodeBag, 'kind'),
        (EncodeImages, 'norm'),
        (EncodeText, 'on_bad_item'),
    ):
        with pytest.raises(ConfigError, match=f"{argument}: got 'x', accepted are"):
            kind(**{argument: 'x'})
