import cv2
import numpy as np
import pytest
import torch

from vsrbench.data.degradations import Bicubic
from vsrbench.data.renderer import Motion, Scene, Thing, grid, render, sample
from vsrbench.errors import DataError
from vsrbench.flow.warp import warp

SIZE = (96, 128)
CAMERA = Motion((130.0, 110.0), velocity=(3.3, -1.7), zoom=1.2, growth=1.015, angle=4, spin=1.5, sway=1.0)
THING = Thing(Motion((50, 40), velocity=(6.3, 2.2), spin=2.0), radii=(24, 18), texture=(100, 90))


def smooth_photo(key: int = 0, blur: float = 4.0) -> np.ndarray:
    noise = np.random.default_rng(key).integers(0, 255, (220, 260, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def scene(thing: bool = True, camera: Motion = CAMERA, blur: float = 4.0) -> Scene:
    return Scene(smooth_photo(0, blur), camera, *((THING, smooth_photo(1, blur)) if thing else ()))


def shrunk(mask: torch.Tensor, by: int) -> torch.Tensor:
    """True where no True pixel lies within ``by`` pixels."""
    near = torch.nn.functional.max_pool2d(mask.float(), 2 * by + 1, 1, by)
    return near == 0


def test_a_camera_at_rest_sees_the_photograph_itself() -> None:
    photo = smooth_photo(blur=0.5)
    rest = Motion((100.5, 80.5))
    rendering = render(Scene(photo, rest), [0, 1], (80, 100), 4)
    cut = torch.from_numpy(photo[41:121, 51:151].copy()).permute(2, 0, 1)
    assert rendering.hr[0].equal(cut)
    assert rendering.hr[1].equal(cut)
    assert rendering.flow_forward.abs().max() < 1e-6
    assert not rendering.occlusion.any()


def test_a_pan_of_whole_pixels_is_a_shifted_crop_with_constant_flow() -> None:
    pan = Motion((100.5, 80.5), velocity=(8, -4))
    rendering = render(Scene(smooth_photo(), pan), [0, 1], (80, 100), 4)
    assert rendering.hr[1][:, 4:, :-8].equal(rendering.hr[0][:, :-4, 8:])
    expected = torch.tensor([-2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 20, 25)
    torch.testing.assert_close(rendering.flow_forward, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(rendering.flow_backward, -expected, atol=1e-5, rtol=0)
    occluded = torch.ones(20, 25, dtype=torch.bool)
    occluded[:19, 2:] = False
    assert rendering.occlusion[0, 0].equal(occluded)


@pytest.mark.parametrize("thing", [False, True])
@pytest.mark.parametrize("scale", [1, 4])
def test_flow_brings_the_next_frame_onto_this_one(thing: bool, scale: int) -> None:
    rendering = render(scene(thing, blur=3.0 * scale), range(4), SIZE, scale)
    frames = (rendering.hr if scale == 1 else Bicubic()(rendering.hr, scale)).float()
    pairs = [
        (frames[1:], frames[:-1], rendering.flow_forward, rendering.occlusion[:, :1]),
        (frames[:-1], frames[1:], rendering.flow_backward, rendering.occlusion[:, 1:]),
    ]
    for other, own, flow, occlusion in pairs:
        error = (warp(other, flow) - own).abs().mean(1, keepdim=True)
        shown = shrunk(occlusion, 2)  # the LR kernel spreads an outline over two pixels
        assert shown.float().mean() > 0.4
        assert error[shown].mean() < 1.5
        assert error[shown].mean() < 0.2 * (other - own).abs().mean()
        if thing:
            assert error[occlusion].mean() > 5 * error[shown].mean()


def test_forward_and_backward_flow_are_inverse() -> None:
    rendering = render(scene(thing=False), [0, 1], SIZE, 4)
    forward, backward = rendering.flow_forward, rendering.flow_backward
    returned = forward + warp(backward, forward)
    assert returned.abs().mul(~rendering.occlusion[:, :1]).max() < 1e-4


def test_time_backwards_swaps_the_flows() -> None:
    there, back = render(scene(), [0, 1, 2], SIZE, 4), render(scene(), [2, 1, 0], SIZE, 4)
    assert back.hr.equal(there.hr.flip(0))
    assert back.flow_forward.equal(there.flow_backward.flip(0))
    assert back.occlusion.equal(there.occlusion.flip(0).flip(1))


def test_frames_do_not_depend_on_their_neighbours() -> None:
    together, alone = render(scene(), [0, 1, 2], SIZE, 4), render(scene(), [2], SIZE, 4)
    assert alone.hr[0].equal(together.hr[2])
    assert alone.flow_forward.shape == (0, 2, 24, 32)


def test_what_a_thing_uncovers_is_occluded() -> None:
    """Behind it lies what the other frame hides; its own inside is seen in both."""
    still = Motion((130.0, 110.0))
    moving = Thing(Motion((40, 48), velocity=(16, 0)), radii=(20, 20), texture=(100, 90))
    rendering = render(Scene(smooth_photo(), still, moving, smooth_photo(1)), [0, 1], SIZE, 4)
    ahead, behind, inside = (12, 16), (12, 6), (12, 10)
    assert rendering.occlusion[0, 0][ahead]
    assert not rendering.occlusion[0, 1][ahead]
    assert rendering.occlusion[0, 1][behind]
    assert not rendering.occlusion[0, 0][inside]
    assert rendering.flow_forward[0, :, 12, 10].tolist() == pytest.approx([4, 0])
    assert rendering.flow_forward[0, :, 2, 2].tolist() == pytest.approx([0, 0])


def test_reduced_photographs_do_not_alias() -> None:
    """A checkerboard of single pixels, seen from far away, is grey."""
    board = (np.indices((220, 260)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    near = sample(board, grid((32, 32)) + 50, 1.0)
    far = sample(board, grid((32, 32)) * 2.3 + 50, 2.3)
    assert near.std() > 100
    assert far.std() < 0.1 * near.std()
    assert abs(far.mean() - 127.5) < 2


def test_a_path_that_leaves_the_photograph() -> None:
    away = Motion((130.0, 110.0), velocity=(40, 0))
    with pytest.raises(DataError, match=r"the camera leaves its photograph of 260x220 pixels"):
        render(scene(camera=away), range(4), SIZE, 4)
