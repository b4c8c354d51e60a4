"""What guides a frame is its neighbour, brought to the frame by the flow that lives on the frame and points into it."""

from dataclasses import replace

import pytest
import torch

import latent
from vsrbench.diffusion.noise import Noise
from vsrbench.parity.replays import Recorder
from vsrbench.types import Clip

STEPS = ["sampler.kind=ddpm", "sampler.steps=4", "flow=exact"]


@pytest.fixture
def clip() -> Clip:
    """Four frames; each pair has a flow of its own in each direction, in whole latent pixels."""
    clip = latent.make_clip(4, (16, 16))
    forward, backward = torch.zeros(2, 1, 3, 2, 16, 16)
    for pair in range(3):
        forward[:, pair, 0], backward[:, pair, 1] = pair + 1, -(pair + 1)
    return replace(clip, flow_forward=forward, flow_backward=backward)


def flow(clip: Clip, frame: int, neighbour: int) -> torch.Tensor:
    """flow[frame→neighbour], as ``Clip`` defines its flows."""
    assert clip.flow_forward is not None and clip.flow_backward is not None
    return clip.flow_forward[:, frame] if neighbour > frame else clip.flow_backward[:, neighbour]


def test_dgaf_aligns_the_neighbours_of_the_last_step(clip: Clip) -> None:
    method, trace = latent.method("dgaf", *STEPS), Recorder()
    method.upscale(clip, Noise(0), trace)
    compared = 0
    for step in range(1, 4):
        shift = method.guidance.direction(step)
        aligned, before = trace.tensors[step, None]["aligned"], trace.tensors[step - 1, None]["x0"]
        for frame in range(4):
            if 0 <= frame + shift < 4:
                expected = method.guidance.align_neighbour(before[:, frame + shift], flow(clip, frame, frame + shift))
                assert torch.allclose(aligned[:, frame], expected, atol=1e-6)
                compared += 1
    assert compared == 9


def test_dgaf_as_released_aligns_the_frame_visited_before(clip: Clip) -> None:
    method, trace = latent.method("dgaf", *STEPS, "method.neighbours=same_step"), Recorder()
    method.upscale(clip, Noise(0), trace)
    for step in range(4):
        order = trace.visits(step)
        for before, frame in zip(order, order[1:], strict=False):
            x0 = trace.tensors[step, before]["x0"]
            expected = method.guidance.align_neighbour(x0, flow(clip, frame, before))
            assert torch.allclose(trace.tensors[step, frame]["aligned"], expected, atol=1e-6)


@pytest.mark.parametrize("guidance", ["x0", "x_t"])
def test_stablevsr_decodes_and_warps_the_frame_visited_before(clip: Clip, guidance: str) -> None:
    method, trace = latent.method("stablevsr", *STEPS, f"method.guidance={guidance}"), Recorder()
    method.upscale(clip, Noise(0), trace)
    for step in range(4):
        order = trace.visits(step)
        assert order == (list(range(4)) if step % 2 == 0 else [3, 2, 1, 0])
        for before, frame in zip(order, order[1:], strict=False):
            seen = trace.tensors[step, before]
            expected = method.texture.make(method.prior, seen["x0"], seen["x"], flow(clip, frame, before))
            assert torch.allclose(trace.tensors[step, frame]["texture"], expected, atol=1e-5)


def test_stablevsr_frame_after_frame_is_guided_by_the_finished_frame_before(clip: Clip, monkeypatch) -> None:
    method, flows = latent.method("stablevsr", *STEPS, "method.strategy=auto_regressive"), []
    make = type(method.texture).make

    def spy(self, prior, x0, x_t, given):
        flows.append(given)
        return make(self, prior, x0, x_t, given)

    monkeypatch.setattr(type(method.texture), "make", spy)
    method.upscale(clip, Noise(0))
    assert len(flows) == 3
    for frame, given in enumerate(flows, 1):
        assert torch.allclose(given.mean((2, 3)) / flow(clip, frame, frame - 1).mean((2, 3)).abs().max(), torch.tensor(
            [[0.0, -given.shape[-1] / 16]]), atol=1e-5)  # fmt: skip


def test_the_texture_is_the_decoded_neighbour_in_minus_one_to_one(clip: Clip) -> None:
    """Eq. 8 with no motion: D(x0), on the scale that the ControlNet's frames have."""
    method = latent.method("stablevsr", *STEPS)
    x0 = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    texture = method.texture.make(method.prior, x0, x0, torch.zeros(1, 2, 16, 16))
    assert torch.allclose(texture, 2 * method.prior.decode(x0) - 1, atol=1e-5) and texture.min() < -0.2


@pytest.mark.parametrize(("refresh", "decodes"), [(1, 18), (2, 12)])
def test_the_texture_is_made_anew_at_every_kth_guided_step(clip: Clip, monkeypatch, refresh: int, decodes: int) -> None:
    """Three steps guide a frame from either side: with k = 2 the first and the last of them decode."""
    method, calls = latent.method("stablevsr", *STEPS, "sampler.steps=6", f"method.refresh={refresh}"), []
    make = type(method.texture).make
    monkeypatch.setattr(type(method.texture), "make", lambda self, *a: calls.append(1) or make(self, *a))
    method.upscale(clip, Noise(0))
    assert len(calls) == decodes
