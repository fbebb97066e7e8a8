r"""How long a product, step, epoch or list takes next to other programs."""
