import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.nn.diffusion import SparseRows
from genrec_pyg.nn.models import GenRec
from genrec_pyg.nn.models.multimodal.genrec_released import ReleasedFlips


def rows_from(rows):
    return SparseRows.from_dense(torch.tensor(rows))


def test_released_flips_ignore_the_schedule():
    torch.manual_seed(0)
    process = ReleasedFlips()
    clean = rows_from([[1] + [0] * 199] * 200)
    for t in (0, 4):
        noisy = process.diffuse(clean, torch.full((200,), t), process.rates(clean))
        assert float(noisy[:, 1:].mean()) == pytest.approx(0.381, abs=0.01)
        assert 1 - float(noisy[:, 0].mean()) == pytest.approx(0.382, abs=0.12)


def test_released_reverse_is_near_the_complement():
    process = ReleasedFlips()
    clean = rows_from([[1] + [0] * 99] * 100)
    rates = process.rates(clean)
    high = process.reverse(clean.dense(), torch.full((100, 100), 0.95), 3, rates)
    assert float(high.mean()) < 0.15


@pytest.mark.parametrize('modalities, expected', [(2, 'image'), (3, 'image')])
def test_the_clusters_of_the_images_decide_alone(modalities, expected):
    released = GenRec(
        toy_data(modalities), variant='released', debias={'enabled': True, 'clusters': 2}
    )
    assert list(released.generator.debias.labels) == [expected]
    text = GenRec(
        toy_data(modalities), ['text'], variant='released', debias={'enabled': True, 'clusters': 2}
    )
    assert list(text.generator.debias.labels) == ['text']
    principled = GenRec(toy_data(modalities), debias={'clusters': 2})
    assert len(principled.generator.debias.labels) == modalities


def test_the_loss_of_the_denoiser_is_its_focal_term_alone():
    model = GenRec(
        toy_data(), variant='released', denoiser={'num_layers': 1}, debias={'clusters': 2}
    )
    rows = model.generator.rows(torch.arange(8))
    assert set(model.generator.loss(rows, model.item_views())) == {'denoiser_focal'}


def test_views_of_the_items_are_without_dropout_although_the_encoder_always_trains():
    model = GenRec(
        toy_data(), variant='released', encoder={'dropout': 0.5}, debias={'clusters': 2}
    ).eval()
    assert model.encoder.training
    first, second = model.item_views(), model.item_views()
    assert torch.equal(first.embedding, second.embedding) and model.encoder.training
