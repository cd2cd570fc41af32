"""Bins, anchors and bin probabilities (section 3.1), against numbers worked out by hand."""

import copy
import math

import pytest
import torch
from builders import build_scopenet

from scopenet.modeling.bins import (
    DELTA_RANGE,
    LOG_VARIANCE_RANGE,
    anchor_start,
    bin_edges,
    bin_log_probs,
    clamp_passing_gradient,
    decode_distances,
    level_ranges,
    target_bins,
)

STRIDES = (8, 16, 32, 64, 128)
BOUNDARIES = (64, 128, 256, 512)


def test_level_ranges_are_neighbours_from_zero_to_infinity():
    assert level_ranges(BOUNDARIES) == [
        (0, 64),
        (64, 128),
        (128, 256),
        (256, 512),
        (512, math.inf),
    ]
    assert level_ranges([]) == [(0, math.inf)]


def test_default_edges():
    edges = bin_edges(BOUNDARIES, STRIDES, 5, 1.0)
    expected = [[s / 4, s / 2, s, 2 * s, 4 * s, 8 * s] for s in STRIDES]
    assert edges.dtype == torch.float32
    assert edges.tolist() == expected  # powers of two, hence exact


@pytest.mark.parametrize(
    "bin_size, expected",
    [
        # 64 · 2^-1.5, 64 · 2^-0.75, 64
        (0.75, [22.6274170, 38.0546277, 64.0]),
        # 64 · 2^-2.5, 64 · 2^-1.25, 64
        (1.25, [11.3137085, 26.9086853, 64.0]),
    ],
)
def test_bin_size_is_log2_of_the_ratio_of_edges(bin_size, expected):
    edges = bin_edges(BOUNDARIES, STRIDES, 2, bin_size)
    torch.testing.assert_close(edges[0], torch.tensor(expected))
    torch.testing.assert_close(edges[4], 16 * torch.tensor(expected))


@pytest.mark.parametrize(
    "num_bins, expected", [(1, [32, 64]), (3, [8, 16, 32, 64]), (7, [2**n / 2 for n in range(8)])]
)
def test_edges_of_other_numbers_of_bins(num_bins, expected):
    assert bin_edges(BOUNDARIES, STRIDES, num_bins, 1.0)[0].tolist() == expected


def test_top_edge_follows_the_boundaries_and_not_the_strides():
    # The last level is open: twice its lower end.
    assert bin_edges((48,), (8, 16), 2, 1.0).tolist() == [[12, 24, 48], [24, 48, 96]]


def test_a_single_level_reaches_eight_strides():
    assert bin_edges((), (16,), 3, 1.0).tolist() == [[16, 32, 64, 128]]


def test_there_must_be_a_bin():
    with pytest.raises(ValueError, match="NUM_BINS"):
        bin_edges(BOUNDARIES, STRIDES, 0, 1.0)


def test_distances_at_an_edge_belong_to_the_upper_bin():
    edges = bin_edges(BOUNDARIES, STRIDES, 5, 1.0)[:1].repeat(3, 1)  # 2 4 8 16 32 64
    at_edges = torch.tensor([4.0, 8.0, 16.0, 32.0])
    below = torch.nextafter(at_edges, torch.tensor(0.0))
    inside = torch.tensor([3.0, 5.0, 12.0, 50.0])
    bins = target_bins(torch.stack([at_edges, below, inside]), edges)
    assert bins.tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2, 4]]


def test_outer_bins_reach_to_zero_and_to_infinity():
    edges = bin_edges(BOUNDARIES, STRIDES, 5, 1.0)
    below, above = torch.tensor([[1e-6, 0.5, 1.999, 2.0]]), torch.tensor([[63.9, 64.0, 1e6, 1e30]])
    assert target_bins(below, edges[:1]).tolist() == [[0, 0, 0, 0]]
    assert target_bins(above, edges[:1]).tolist() == [[4, 4, 4, 4]]


def test_each_location_has_the_edges_of_its_own_level():
    edges = bin_edges(BOUNDARIES, STRIDES, 5, 1.0)
    distances = torch.full((5, 4), 20.0)
    # 20 px among the edges 4 8 16 32 · s / 8 of p3 ... p7
    assert target_bins(distances, edges)[:, 0].tolist() == [3, 2, 1, 0, 0]


def test_one_bin_holds_every_distance():
    edges = bin_edges(BOUNDARIES, STRIDES, 1, 1.0)[:1]
    assert target_bins(torch.tensor([[1e-6, 32.0, 64.0, 1e6]]), edges).tolist() == [[0, 0, 0, 0]]


def test_anchors_start_at_the_geometric_centre_of_the_bins():
    start = anchor_start(bin_edges(BOUNDARIES, STRIDES, 5, 1.0), 1.0)
    # p3: the centre of [2, 4) is sqrt(8) = 2^1.5; one more per bin and per level.
    assert start.tolist() == [[1.5 + n + level for n in range(5)] for level in range(5)]
    one_bin = anchor_start(bin_edges(BOUNDARIES, STRIDES, 1, 1.0), 1.0)
    assert one_bin.flatten().tolist() == [5.5, 6.5, 7.5, 8.5, 9.5]
    wide = anchor_start(bin_edges(BOUNDARIES, STRIDES, 2, 1.25), 1.25)
    # log2 of 64 · 2^-2.5 and of 64 · 2^-1.25, plus 0.625
    torch.testing.assert_close(wide[0], torch.tensor([4.125, 5.375]))


def test_decoded_distances():
    distances = decode_distances(
        torch.tensor([1.5, 3.0, 3.0, 0.0]),
        torch.tensor([math.log(2), 0.0, -math.log(4), 1.0]),
    )
    expected = [5.65685425, 8.0, 2.0, 2.71828183]  # 2^1.5 · 2, 2^3, 8 / 4, e
    torch.testing.assert_close(distances, torch.tensor(expected))


@pytest.mark.parametrize("num_bins, bin_size", [(5, 1.0), (3, 0.75), (7, 1.25), (1, 1.0)])
def test_encoded_distances_decode_to_themselves(num_bins, bin_size):
    edges = bin_edges(BOUNDARIES, STRIDES, num_bins, bin_size)
    anchors = anchor_start(edges, bin_size)
    distances = torch.logspace(-1, 3.2, 40).reshape(10, 4)
    for level_edges, level_anchors in zip(edges, anchors, strict=True):
        bins = target_bins(distances, level_edges.expand(10, -1))
        chosen = level_anchors[bins]
        deltas = torch.log(distances / torch.exp2(chosen))  # t = ln(d / A)
        torch.testing.assert_close(decode_distances(chosen, deltas), distances)
        # In a bin of finite width no anchor is farther than half a bin away.
        nominal = (distances >= level_edges[0]) & (distances < level_edges[-1])
        assert deltas[nominal].abs().max() <= bin_size / 2 * math.log(2) + 1e-5


def test_bin_probabilities_at_a_temperature():
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [2.0, 2.0, 2.0 + math.log(2)]])
    log_variance = torch.tensor([0.0, math.log(2.0), -math.log(2.0)])
    expected = [
        [0.09003057, 0.24472847, 0.66524096],  # e, e², e³ over their sum 30.19287
        [0.18632372, 0.30719589, 0.50648039],  # e^0.5, e^1, e^1.5 over 8.84869: divided by 2
        [1 / 6, 1 / 6, 4 / 6],  # e^(2 · 2), twice, and e^(2 · (2 + ln 2)) = 4 e^4
    ]
    probs = bin_log_probs(logits, log_variance).exp()
    torch.testing.assert_close(probs, torch.tensor(expected))
    plain = bin_log_probs(logits, None).exp()
    torch.testing.assert_close(plain[:2], torch.tensor([expected[0], expected[0]]))
    torch.testing.assert_close(plain[2], torch.tensor([0.25, 0.25, 0.5]))


def test_log_probabilities_do_not_underflow():
    # p = e^-2981 is 0 in float32; its logarithm must not be -inf.
    log_probs = bin_log_probs(torch.tensor([[0.0, 1.0]]), torch.tensor([-8.0]))
    torch.testing.assert_close(log_probs, torch.tensor([[-2980.958, 0.0]]))


def test_bounds_of_the_exponents():
    assert DELTA_RANGE == (-10.0, pytest.approx(4.13516656))  # ln 62.5
    assert LOG_VARIANCE_RANGE == (-8.0, 8.0)


@pytest.mark.parametrize("bounds", [DELTA_RANGE, LOG_VARIANCE_RANGE])
def test_clamp_passes_the_gradient_on_both_sides(bounds):
    low, high = bounds
    x = torch.tensor([-1e8, -1e4, low - 0.5, low, -1.0, 0.0, 3.0, high, high + 0.5, 1e4, 1e8])
    x.requires_grad_()
    clamped = clamp_passing_gradient(x, bounds)
    expected = torch.tensor([low, low, low, low, -1.0, 0.0, 3.0, high, high, high, high])
    # Exact, as inference clamps the same values without this detour.
    torch.testing.assert_close(clamped, expected, rtol=0, atol=0)
    (clamped * torch.arange(11.0)).sum().backward()
    assert x.grad.tolist() == list(range(11))


def test_model_anchors_are_start_plus_offset():
    model = build_scopenet(num_bins=3, bin_size=0.75)
    start = anchor_start(bin_edges(BOUNDARIES, STRIDES, 3, 0.75), 0.75)
    assert torch.equal(model.log2_anchors, start)
    with torch.no_grad():
        model.log2_anchor_offset[2, 1] = 0.5
    assert (model.log2_anchors - start).nonzero().tolist() == [[2, 1]]
    assert model.log2_anchors[2, 1] == start[2, 1] + 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_converted_model_decodes_as_before(dtype):
    model = build_scopenet(level_boundaries=[50, 100, 300, 700], bin_size=0.9)
    assert torch.equal(
        model.log2_anchors, anchor_start(bin_edges([50, 100, 300, 700], STRIDES, 5, 0.9), 0.9)
    )
    with torch.no_grad():
        model.log2_anchor_offset += 0.3 * torch.randn(5, 5, generator=torch.manual_seed(0))
    converted = copy.deepcopy(model).to(dtype)
    assert converted.log2_anchor_offset.dtype == dtype
    expected = decode_distances(model.log2_anchors, torch.ones(5, 5))
    found = decode_distances(converted.log2_anchors, torch.ones(5, 5))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)
