import vsrbench  # noqa: F401  # isort: skip  (before torchvision: see vsrbench.compat)
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import ConfigError
from vsrbench.flow.propagation import (
    DeformableAlignment,
    GridPropagation,
    WarpAlignment,
    make_alignment,
    neighbour_flows,
)
from vsrbench.flow.trained import PyramidFlow
from vsrbench.flow.warp import warp

EVERY = list(product(["dcn", "warp"], [1, 2]))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def constant(x: float, y: float, like: Tensor) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).repeat(len(like), 1, *like.shape[-2:])


def grid(alignment: str = "dcn", order: int = 2, seed: int = 0, **settings: object) -> GridPropagation:
    """A propagation of 4 channels whose offset networks do something."""
    torch.manual_seed(seed)
    built = GridPropagation(channels=4, blocks=1, alignment=alignment, order=order, groups=2, **settings)
    for align in built.deform_align.values():
        if isinstance(align, DeformableAlignment):
            nn.init.normal_(align.conv_offset[-1].weight, std=0.1)
    return built.requires_grad_(False)


def flows(frames: int, size: tuple[int, int] = (6, 7), batch: int = 1, seed: int = 5) -> tuple[Tensor, Tensor]:
    to_next = 1.5 * random(batch, frames - 1, 2, *size, seed=seed)
    return to_next, 1.5 * random(batch, frames - 1, 2, *size, seed=seed + 1)


# --- alignment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_deformable_alignment_starts_as_half_a_convolution_of_what_the_flow_points_at(order: int) -> None:
    """Last layer zero: offsets are the flow, masks 1/2; with whole-pixel flow the reading is a plain shift."""
    align = make_alignment(4, "dcn", order, 2, 10.0).requires_grad_(False)
    n1, n2, current = random(1, 4, 9, 9, seed=1), random(1, 4, 9, 9, seed=2), random(1, 4, 9, 9, seed=3)
    f1, f2 = constant(1, -2, n1), constant(-1, 2, n1)
    found = align(current, n1, f1, n2, f2)
    read = [warp(n1, f1), warp(n2, f2)][:order]
    expected = 0.5 * F.conv2d(torch.cat(read, dim=1), align.weight, padding=1)
    inner = (..., slice(4, 5), slice(4, 5))  # away from the border, where a shifted picture and a convolution pad alike
    assert torch.allclose(found[inner], expected[inner], atol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_without_flow_alignment_is_a_plain_convolution(order: int) -> None:
    n1, n2, current = random(2, 4, 6, 7, seed=1), random(2, 4, 6, 7, seed=2), random(2, 4, 6, 7, seed=3)
    still, read = constant(0, 0, n1), torch.cat([n1, n2][:order], dim=1)
    deformable = make_alignment(4, "dcn", order, 2, 10.0).requires_grad_(False)
    expected = 0.5 * F.conv2d(read, deformable.weight, deformable.bias, padding=1)
    assert torch.allclose(deformable(current, n1, still, n2, still), expected, atol=1e-5)
    warped = make_alignment(4, "warp", order, 2, 10.0).requires_grad_(False)
    assert torch.allclose(warped(current, n1, still, n2, still), warped.conv(read), atol=1e-5)


def test_offsets_stay_near_the_flow_and_each_half_of_the_groups_reads_its_frame() -> None:
    align = DeformableAlignment(4, order=2, groups=2, max_residue=3.0).requires_grad_(False)
    raw = 1e3 * random(1, 54, 5, 5, seed=1).sign()
    f1, f2 = constant(20, -30, raw), constant(-5, 7, raw)
    offset, mask = align._displacements(raw, [f1, f2])
    y, x = offset[:, 0::2], offset[:, 1::2]
    for taps, (right, down) in ((slice(0, 9), (20, -30)), (slice(9, 18), (-5, 7))):
        assert torch.allclose((x[:, taps] - right).abs(), torch.tensor(3.0), atol=1e-4)
        assert torch.allclose((y[:, taps] - down).abs(), torch.tensor(3.0), atol=1e-4)
    assert mask.shape == (1, 18, 5, 5) and mask.min() >= 0 and mask.max() <= 1


def published(align: DeformableAlignment, current: Tensor, n1: Tensor, f1: Tensor, n2: Tensor, f2: Tensor) -> Tensor:
    """Second-order alignment as BasicVSR++'s authors publish it, written anew, with no part of ours but the weights."""
    conditions = torch.cat([backward_warp(n1, f1), current, backward_warp(n2, f2), f1, f2], dim=1)
    first, second, mask = align.conv_offset(conditions).chunk(3, dim=1)
    first, second = (align.max_residue * torch.tanh(torch.cat([first, second], dim=1))).chunk(2, dim=1)
    places = first.shape[1] // 2
    first = first + torch.stack([f1[:, 1], f1[:, 0]], dim=1).repeat(1, places, 1, 1)
    second = second + torch.stack([f2[:, 1], f2[:, 0]], dim=1).repeat(1, places, 1, 1)
    offset, neighbours = torch.cat([first, second], dim=1), torch.cat([n1, n2], dim=1)
    total, width = align.bias.view(1, -1, 1, 1), neighbours.shape[1] // align.groups
    for group in range(align.groups):  # each reads its own channels at nine places of its own
        channels = slice(group * width, (group + 1) * width)
        for tap in range(9):
            place = group * 9 + tap
            down, right = offset[:, 2 * place] + tap // 3 - 1, offset[:, 2 * place + 1] + tap % 3 - 1
            read = backward_warp(neighbours[:, channels], torch.stack([right, down], dim=1))
            read = read * torch.sigmoid(mask[:, place : place + 1])
            total = total + F.conv2d(read, align.weight[:, channels, tap // 3, tap % 3, None, None])
    return total


def backward_warp(x: Tensor, flow: Tensor) -> Tensor:
    """x at p + flow(p), bilinear, zero outside."""
    _, _, height, width = x.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    across, down = 2 * (columns + flow[:, 0]) / (width - 1) - 1, 2 * (rows + flow[:, 1]) / (height - 1) - 1
    return F.grid_sample(x, torch.stack([across, down], dim=-1), padding_mode="zeros", align_corners=True)


def test_deformable_alignment_is_the_published_one() -> None:
    """With offset networks that do something: order of the conditions, offsets before masks, y before x."""
    torch.manual_seed(3)
    align = DeformableAlignment(8, order=2, groups=4, max_residue=3.0).requires_grad_(False)
    nn.init.normal_(align.conv_offset[-1].weight, std=0.1)
    nn.init.normal_(align.conv_offset[-1].bias, std=0.5)
    current, n1, n2 = (random(2, 8, 7, 9, seed=seed) for seed in (1, 2, 3))
    f1, f2 = (2 * random(2, 2, 7, 9, seed=seed) for seed in (4, 5))
    assert torch.allclose(align(current, n1, f1, n2, f2), published(align, current, n1, f1, n2, f2), atol=1e-4)


@pytest.mark.parametrize(("alignment", "order"), EVERY)
def test_a_missing_second_frame_is_zero_features_under_zero_flow(alignment: str, order: int) -> None:
    align = grid(alignment, order).deform_align["forward_1"]
    current, n1 = random(1, 4, 6, 7, seed=1), random(1, 4, 6, 7, seed=2)
    f1 = random(1, 2, 6, 7, seed=3)
    zeros = torch.zeros_like(n1), torch.zeros_like(f1)
    assert torch.allclose(align(current, n1, f1), align(current, n1, f1, *zeros), atol=1e-6)


def test_alignment_parameters() -> None:
    """As the layers of the paper count: 3x3 convolutions 196-64-64-64-432, and 128 to 64 for the reading."""
    offsets = sum(i * o * 9 + o for i, o in ((196, 64), (64, 64), (64, 64), (64, 432)))
    counted = sum(p.numel() for p in DeformableAlignment(64).parameters())
    assert counted == offsets + 128 * 64 * 9 + 64 == 509_872
    assert sum(p.numel() for p in WarpAlignment(24, 1).parameters()) == 24 * 24 * 9 + 24


# --- the grid --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alignment", "order"), EVERY)
def test_frames_that_move_by_a_known_flow_align_exactly(alignment: str, order: int) -> None:
    """The same scene moved by whole pixels under exact flow gives, away from borders, what a still scene gives."""
    net = grid(alignment, order)
    for align in net.deform_align.values():
        if isinstance(align, DeformableAlignment):  # at the start of training: offsets are the flow
            nn.init.zeros_(align.conv_offset[-1].weight)
    size, frames, right, down = 56, 3, 2, 1
    scene = random(1, 4, size + frames * 4, size + frames * 4)
    moving = torch.stack(
        [scene[:, :, down * t : down * t + size, right * t : right * t + size] for t in range(frames)], dim=1
    )
    still = moving[:, :1].repeat(1, frames, 1, 1, 1)
    # what frame t shows at p, frame t+1 shows at p - (right, down)
    to_next = torch.tensor([-right, -down]).float().view(1, 1, 2, 1, 1).repeat(1, frames - 1, 1, size, size)
    found = net(moving, to_next, -to_next)
    expected = net(still, torch.zeros_like(to_next), torch.zeros_like(to_next))
    for name in net.names:
        a = found[name][1][..., 26 - down : 30 - down, 26 - right : 30 - right]
        b = expected[name][1][..., 26:30, 26:30]
        assert torch.allclose(a, b, atol=1e-4), name


@pytest.mark.parametrize(("alignment", "order"), EVERY)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_reversing_time_swaps_the_directions(alignment: str, order: int, frames: int) -> None:
    """A branch forward through a clip is a branch backward through the reversed clip."""
    net, other = grid(alignment, order, branches=1), grid(alignment, order, branches=1)
    other.names = ["forward_1"]
    other.deform_align = nn.ModuleDict({"forward_1": net.deform_align["backward_1"]})
    other.backbone = nn.ModuleDict({"forward_1": net.backbone["backward_1"]})
    spatial = random(2, frames, 4, 6, 7)
    to_next, to_previous = flows(frames, batch=2)
    backward = net(spatial, to_next, to_previous)["backward_1"]
    forward = other(spatial.flip(1), to_previous.flip(1), to_next.flip(1))["forward_1"]
    for t in range(frames):
        assert torch.allclose(backward[t], forward[frames - 1 - t], atol=1e-5)


@pytest.mark.parametrize(("alignment", "order"), EVERY)
def test_the_first_branch_against_its_definition(alignment: str, order: int) -> None:
    """feat_t = aligned + backbone(cat(spatial_t, aligned)), with flows to two frames back added up along the way."""
    net = grid(alignment, order, branches=1)
    spatial, (to_next, to_previous) = random(1, 3, 4, 6, 7), flows(3)
    align, backbone = net.deform_align["backward_1"], net.backbone["backward_1"]
    nothing = torch.zeros(1, 4, 6, 7)

    def step(t: int, aligned: Tensor) -> Tensor:
        return aligned + backbone(torch.cat([spatial[:, t], aligned], dim=1))

    third = step(2, nothing)
    second = step(1, align(spatial[:, 1], third, to_next[:, 1]))
    twice = to_next[:, 0] + warp(to_next[:, 1], to_next[:, 0])
    first = step(0, align(spatial[:, 0], second, to_next[:, 0], third, twice))
    found = net(spatial, to_next, to_previous)["backward_1"]
    for value, expected in zip(found, (first, second, third), strict=True):
        assert torch.allclose(value, expected, atol=1e-5)


def test_branches_read_the_earlier_ones() -> None:
    """Names, order and widths are the paper's; a change at the last frame reaches the first through every branch."""
    net = grid("warp", 1)
    assert net.names == ["backward_1", "forward_1", "backward_2", "forward_2"]
    assert [net.backbone[name].main[0].in_channels for name in net.names] == [8, 12, 16, 20]
    spatial, (to_next, to_previous) = random(1, 4, 4, 6, 7), flows(4)
    changed = spatial.clone()
    changed[:, 3] += 1
    before, after = net(spatial, to_next, to_previous), net(changed, to_next, to_previous)
    assert all(not torch.equal(before[name][0], after[name][0]) for name in net.names)
    changed = spatial.clone()
    changed[:, 0] += 1
    after = net(changed, to_next, to_previous)
    assert torch.equal(before["backward_1"][3], after["backward_1"][3]), "nothing comes from earlier frames yet"
    assert not torch.equal(before["forward_1"][3], after["forward_1"][3])


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    net, spatial = grid(), random(3, 3, 4, 5, 9)
    to_next, to_previous = flows(3, (5, 9), batch=3)
    together = net(spatial, to_next, to_previous)
    for b in range(3):
        alone = net(spatial[b : b + 1], to_next[b : b + 1], to_previous[b : b + 1])
        for name in net.names:
            assert torch.allclose(torch.stack(alone[name])[:, 0], torch.stack(together[name])[:, b], atol=1e-5)


@pytest.mark.parametrize("settings", [{"offload": True}, {"checkpointing": True}])
def test_saving_memory_changes_neither_features_nor_gradients(settings: dict[str, object]) -> None:
    found = []
    for chosen in ({}, settings):
        net = grid(**chosen).requires_grad_(True)
        branches = net(random(1, 3, 4, 6, 7), *flows(3))
        torch.stack(branches["forward_2"]).square().sum().backward()
        found.append([torch.stack(branches["backward_2"]), *(p.grad for p in net.parameters())])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))


def test_advance_is_told_of_every_frame_of_every_branch() -> None:
    told: list[int] = []
    grid("warp", 1)(random(1, 3, 4, 6, 7), *flows(3), advance=lambda: told.append(1))
    assert len(told) == 4 * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alignment": "flow"}, "method.alignment=flow: use dcn or warp"),
        ({"order": 3}, "method.order=3: use 1 or 2"),
        ({"groups": 3}, "method.groups=3"),
        ({"groups": 1, "order": 2}, "method.groups=1"),
        ({"branches": 0}, "method.branches=0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GridPropagation(**{"channels": 4, "groups": 2, "blocks": 1, **settings})


# --- flow ------------------------------------------------------------------------------------------


def test_flows_go_to_the_next_and_to_the_previous_frame() -> None:
    """A network that answers with the frames' difference says who is first; grouping changes nothing."""
    lr = random(2, 4, 3, 6, 7)

    def network(a: Tensor, b: Tensor) -> Tensor:
        return (b - a)[:, :2]

    to_next, to_previous = neighbour_flows(network, lr)
    assert torch.equal(to_next, (lr[:, 1:] - lr[:, :-1])[:, :, :2])
    assert torch.equal(to_previous, -to_next)
    assert all(map(torch.equal, neighbour_flows(network, lr, batch=4), (to_next, to_previous)))


def test_a_single_frame_has_no_flow() -> None:
    to_next, to_previous = neighbour_flows(PyramidFlow(2, (4,)), random(2, 1, 3, 6, 7))
    assert to_next.shape == to_previous.shape == (2, 0, 2, 6, 7)


@pytest.mark.parametrize("size", [(6, 9), (64, 80), (30, 70)])
def test_small_frames_are_enlarged_for_the_flow_alone(size: tuple[int, int]) -> None:
    seen: list[tuple[int, ...]] = []

    def network(a: Tensor, b: Tensor) -> Tensor:
        """Everything moves by a hundredth of the width and of the height."""
        height, width = a.shape[-2:]
        seen.append((height, width))
        return a.new_tensor([width / 100, height / 100]).view(1, 2, 1, 1).expand(len(a), 2, height, width)

    to_next, _ = neighbour_flows(network, random(1, 2, 3, *size), minimum=64)
    assert min(seen[0]) >= 64 and (size[0] < 64 or seen[0] == size)
    expected = torch.tensor([size[1] / 100, size[0] / 100]).view(1, 1, 2, 1, 1).expand(1, 1, 2, *size)
    assert torch.allclose(to_next, expected, rtol=1e-4)


def test_every_parameter_of_the_thin_pyramid_learns() -> None:
    torch.manual_seed(0)
    network = PyramidFlow(3, (4, 4))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.01)
    a, b = random(1, 3, 33, 40, seed=1).sigmoid(), random(1, 3, 33, 40, seed=2).sigmoid()
    network(a, b).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_thin_pyramid_starts_at_no_flow_and_scales_its_corrections() -> None:
    """c at every level of a pyramid from 1/8 to 1/2 gives 2 (4 + 2 + 1) c in pixels, brought to the frame's size."""
    net = PyramidFlow(3, (4,)).requires_grad_(False)
    a, b = random(1, 3, 17, 24, seed=1), random(1, 3, 17, 24, seed=2)
    assert torch.equal(net(a, b), torch.zeros(1, 2, 17, 24))
    for level in net.levels:
        level[-1].bias.copy_(torch.tensor([0.5, -0.25]))
    expected = torch.tensor([7.0, -3.5 * 17 / 24]).view(1, 2, 1, 1).expand(1, 2, 17, 24)
    assert torch.allclose(net(a, b), expected, atol=1e-5)
    assert sum(p.numel() for p in PyramidFlow().parameters()) == 4 * (8 * 400 + 16 + 2 * (16 * 400 + 16) + 16 * 50 + 2)
