r"""Which tensors of a pretrained encoder are trained."""

from __future__ import annotations

from torch import nn

from genrec_pyg.exceptions import ConfigError


def freeze_first(module: nn.Module, count: int) -> None:
    r"""Freezes the first ``count`` tensors in the order of definition and trains the others, as
    `Yuan et al., SIGIR 2023 <https://arxiv.org/abs/2303.13835>`_ do. BERT has 5 tensors of
    embeddings, then 16 per layer.

    Raises:
        ConfigError: If the module has fewer.
    """
    parameters = list(module.parameters())
    if not 0 <= count <= len(parameters):
        raise ConfigError(
            f'frozen tensors: got {count}, accepted are 0 to {len(parameters)} for '
            f'{type(module).__name__}'
        )
    for number, parameter in enumerate(parameters):
        parameter.requires_grad_(number >= count)


def train_last(module: nn.Module, blocks: str | int) -> None:
    r"""Trains the last blocks and what follows them, and freezes the rest.

    Blocks are the entries of the outermost list of modules: layers of a transformer, stages of
    ResNet and Swin. Norms after the last block are trained too, wherever they are defined.

    Args:
        module: Encoder.
        blocks: ``'all'``, ``'none'`` or a number of blocks.

    Raises:
        ConfigError: On another value, or more blocks than there are.
    """
    if blocks in ('all', 'none'):
        module.requires_grad_(blocks == 'all')
        return
    found = next(
        (
            (name, part)
            for name, part in module.named_modules()
            if isinstance(part, nn.ModuleList) and len(part)
        ),
        None,
    )
    number = 0 if found is None else len(found[1])
    if not isinstance(blocks, int) or isinstance(blocks, bool) or not 1 <= blocks <= number:
        raise ConfigError(
            f"unfreeze: got {blocks!r}, accepted are 'all', 'none' and 1 to {number} blocks"
        )
    name, listed = found
    trained = {id(parameter) for parameter in listed[number - blocks :].parameters()}
    inside, after = {id(parameter) for parameter in listed.parameters()}, False
    for key, parameter in module.named_parameters():
        within = id(parameter) in inside
        after = after or within
        is_final_norm = 'final' in key.removeprefix(name)
        parameter.requires_grad_(id(parameter) in trained if within else after or is_final_norm)
