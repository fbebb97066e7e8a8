r"""Whether embeddings, losses and gradients equal those of public programs."""
