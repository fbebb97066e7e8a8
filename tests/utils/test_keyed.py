import torch

from genrec_pyg.utils.keyed import draw_key, keyed_uniform, mix


def test_numbers_are_those_of_the_scalar_mix():
    """Position ``p`` of a key is the 53 highest bits of its mix with block ``key + p``."""
    for key in (0, 1, 2**63 - 1, 2**62 + 12345):
        start = (key * 0x9E3779B97F4A7C15) % 2**64
        for position in (0, 1, 77, 2**40):
            expected = mix(0, (start + position) % 2**64 - 1) >> 10
            found = keyed_uniform(key, torch.tensor([position]))
            assert float(found) == expected * 2.0**-53


def test_numbers_are_uniform_and_independent_of_neighbors_and_keys():
    position = torch.arange(200_000)
    first, second = keyed_uniform(5, position), keyed_uniform(6, position)
    for x in (first, second):
        assert float(x.min()) >= 0 and float(x.max()) < 1
        # Kolmogorov-Smirnov: 1.95 / sqrt(n) is passed once in a thousand
        gap = (x.sort().values - (position + 0.5) / position.numel()).abs().max()
        assert float(gap) < 1.95 / position.numel() ** 0.5
    for x, y in ((first, second), (first[1:], first[:-1])):
        assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 4 / position.numel() ** 0.5


def test_a_position_has_its_number_in_any_company():
    position = torch.tensor([9, 3, 3, 10**12])
    found = keyed_uniform(7, position)
    assert float(found[1]) == float(found[2]) == float(keyed_uniform(7, torch.tensor([3])))


def test_keys_come_from_the_global_generator():
    torch.manual_seed(0)
    first = draw_key()
    torch.manual_seed(0)
    assert draw_key() == first != draw_key()
