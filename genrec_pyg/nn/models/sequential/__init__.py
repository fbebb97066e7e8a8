r"""Models that read the order of interactions, and DSSM, their two-tower counterpart over the same
item side.
"""
