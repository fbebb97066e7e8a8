"""Wraps an optimizer of torch in Mirror Gradient, outside of the trainer and of any recommender."""

import torch

from genrec_pyg.optim import MirrorGradient


def main(steps: int = 300) -> dict[str, float]:
    r"""Fits a line with Mirror Gradient around Adam and gives its loss."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = x @ torch.linspace(-1, 1, 8) + 0.1 * torch.randn(256, generator=generator)
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    optimizer = MirrorGradient(
        torch.optim.AdamW(model.parameters(), lr=1e-2), alpha1=1.0, alpha2=0.2, interval=3
    )

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x).squeeze(1), y)
        loss.backward()
        return loss

    first = float(closure().detach())
    for _ in range(steps):
        optimizer.step(closure)
    return {'first': first, 'last': float(closure().detach())}


if __name__ == '__main__':
    print(main())
