"""Encoders of random weights, written as folders; nothing is downloaded."""

import json

import pytest
import torch

WORDS = ['the', 'best', 'selling', 'games', 'news', '##s', 'rain']
SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
VOCABULARY = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
SMALL = {'hidden_size': 16, 'num_hidden_layers': 2, 'num_attention_heads': 2}


@pytest.fixture(scope='session')
def transformers():
    return pytest.importorskip(
        'transformers',
        reason='TRANSFORMERS IS NOT INSTALLED: no encoder is tested (pip install genrec_pyg[text])',
    )


def save_tokenizer(folder, pad='[PAD]'):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordPiece(dict(VOCABULARY), unk_token='[UNK]'))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)]
    )
    names = {'pad_token': pad} if pad else {}
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token='[UNK]',
        cls_token='[CLS]',
        sep_token='[SEP]',
        mask_token='[MASK]',
        **names,
    ).save_pretrained(folder)


@pytest.fixture(scope='session')
def text_folder(transformers, tmp_path_factory):
    """Makes the folder of a tiny model: ``text_folder('bert')``."""
    made = {}

    def make(kind, pad='[PAD]'):
        if (kind, pad) not in made:
            folder = tmp_path_factory.mktemp(kind)
            torch.manual_seed(0)
            model = {
                'bert': lambda: transformers.BertModel(
                    transformers.BertConfig(
                        vocab_size=12, intermediate_size=32, max_position_embeddings=32, **SMALL
                    )
                ),
                'roberta': lambda: transformers.RobertaModel(
                    transformers.RobertaConfig(
                        vocab_size=12,
                        intermediate_size=32,
                        max_position_embeddings=40,
                        pad_token_id=0,
                        **SMALL,
                    )
                ),
                'opt': lambda: transformers.OPTModel(
                    transformers.OPTConfig(
                        vocab_size=12,
                        ffn_dim=32,
                        word_embed_proj_dim=16,
                        max_position_embeddings=64,
                        pad_token_id=0,
                        **SMALL,
                    )
                ),
            }[kind]()
            model.save_pretrained(folder)
            save_tokenizer(folder, pad)
            made[kind, pad] = folder
        return made[kind, pad]

    return make


@pytest.fixture(scope='session')
def image_folder(transformers, tmp_path_factory):
    """Makes the folder of a tiny network for pictures of 32 x 32: ``image_folder('swin')``."""
    pytest.importorskip(
        'PIL',
        reason='PILLOW IS NOT INSTALLED: no picture is tested (pip install genrec_pyg[image])',
    )
    made = {}
    layers = {**SMALL, 'intermediate_size': 32, 'image_size': 32, 'patch_size': 8}

    def make(kind):
        if kind in made:
            return made[kind]
        torch.manual_seed(0)
        model = {
            'swin': lambda: transformers.SwinModel(
                transformers.SwinConfig(
                    image_size=32,
                    patch_size=4,
                    embed_dim=8,
                    depths=[1, 1],
                    num_heads=[2, 2],
                    window_size=4,
                )
            ),
            'vit_mae': lambda: transformers.ViTMAEModel(transformers.ViTMAEConfig(**layers)),
            'vit': lambda: transformers.ViTModel(transformers.ViTConfig(**layers)),
            'resnet': lambda: transformers.ResNetModel(
                transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
            ),
            'clip': lambda: transformers.CLIPModel(
                transformers.CLIPConfig(
                    projection_dim=16,
                    vision_config=layers,
                    text_config={
                        'hidden_size': 8,
                        'num_hidden_layers': 1,
                        'num_attention_heads': 2,
                        'intermediate_size': 8,
                        'vocab_size': 12,
                    },
                )
            ),
        }[kind]()
        made[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(made[kind])
        (made[kind] / 'preprocessor_config.json').write_text(
            json.dumps(
                {
                    'size': {'height': 32, 'width': 32},
                    'image_mean': [0.1, 0.2, 0.3],
                    'image_std': [1, 1, 1],
                    'resample': 3,
                }
            )
        )
        return made[kind]

    return make
