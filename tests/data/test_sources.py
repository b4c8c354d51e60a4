import pytest
import torch

from vsrbench.data.degradations import Bicubic
from vsrbench.data.readers import list_frames, read_image
from vsrbench.data.sources import CentreSource, FolderSource, Pairing, Window
from vsrbench.errors import ConfigError, DataError


def source(root, lr: str | None = None, hr: str | None = "hr", **pairing) -> FolderSource:
    folders = [None if f is None else list_frames(root / f) for f in (hr, lr)]
    return FolderSource("000", Pairing(4, Bicubic(), **pairing), *folders)


def test_reads_a_range_of_frames(make_tree) -> None:
    clip = source(make_tree({"hr": 5})).read(1, 4)
    assert clip.lr.shape == (1, 3, 3, 12, 16)
    assert clip.hr.shape == (1, 3, 3, 48, 64)
    assert clip.index.tolist() == [[1, 2, 3]]
    assert clip.name == ["000"]


def test_lr_on_disk_is_taken_as_it_is(make_tree) -> None:
    root = make_tree({"hr": 2})
    make_tree({"lr": 2}, size=(12, 16))
    stored = torch.from_numpy(read_image(root / "lr/00000001.png").copy()).permute(2, 0, 1).float() / 255
    assert source(root, "lr").read(1, 2).lr[0, 0].equal(stored)


def test_lr_is_made_where_it_is_absent(make_tree) -> None:
    root = make_tree({"hr": 2})
    clip = source(root).read(0, 2)
    expected = Bicubic()((clip.hr[0] * 255).round().to(torch.uint8), 4)
    assert (clip.lr[0] * 255).round().to(torch.uint8).equal(expected)


def test_lr_alone_has_no_ground_truth(make_tree) -> None:
    lone = source(make_tree({"lr": 2}), "lr", hr=None)
    assert not lone.has_hr
    assert lone.size == (48, 64)
    assert lone.read(0, 2).hr is None


@pytest.mark.parametrize("window", [(0, 0, 8, 8), (2, 3, 8, 8), (4, 8, 8, 8), (0, 5, 12, 6), (3, 0, 1, 1)])
@pytest.mark.parametrize("lr", [None, "lr"])
def test_a_crop_is_part_of_the_whole_frame(make_tree, window, lr) -> None:
    """Also where LR is made: the crop sees the pixels around it, as a whole degraded frame does."""
    root = make_tree({"hr": 1})
    make_tree({"lr": 1}, size=(12, 16))
    y, x, h, w = window
    whole, crop = source(root, lr).load([0]), source(root, lr).load([0], Window(*window))
    assert crop.lr.equal(whole.lr[..., y : y + h, x : x + w])
    assert crop.hr.equal(whole.hr[..., 4 * y : 4 * (y + h), 4 * x : 4 * (x + w)])


def test_only_the_frames_asked_for_are_read(make_tree) -> None:
    root = make_tree({"hr": 3})
    (root / "hr/00000002.png").write_bytes(b"broken")
    clip = source(root)
    assert clip.read(0, 2).frames == 2
    with pytest.raises(DataError, match=r"00000002.png"):
        clip.read(0, 3)


def test_sizes_that_do_not_fit_the_scale(make_tree) -> None:
    root = make_tree({"hr": 1})
    make_tree({"lr": 1}, size=(24, 32))
    for use in (lambda s: s.size, lambda s: s.read(0, 1)):
        with pytest.raises(DataError, match=r"00000000.png do not fit scale=4: HR 64x48, LR 32x24 instead of 16x12"):
            use(source(root, "lr"))


def test_hr_that_is_no_multiple_of_the_scale(make_tree) -> None:
    root = make_tree({"hr": 1}, size=(50, 67))
    with pytest.raises(DataError, match=r"67x50, no multiple of scale=4.*crop_to_multiple"):
        source(root).read(0, 1)
    cropped = source(root, crop_to_multiple=True)
    whole = torch.from_numpy(read_image(root / "hr/00000000.png").copy()).permute(2, 0, 1)
    clip = cropped.read(0, 1)
    assert cropped.size == clip.lr.shape[-2:] == (12, 16)
    assert (clip.hr[0, 0] * 255).round().to(torch.uint8).equal(whole[:, :48, :64])


def test_frames_of_different_size(make_tree) -> None:
    root = make_tree({"hr": 1})
    make_tree({"hr": 1}, size=(24, 32), first=1)
    with pytest.raises(DataError, match=r"different sizes"):
        source(root).read(0, 2)


def test_hr_and_lr_are_paired_by_name(make_tree) -> None:
    root = make_tree({"hr": 3})
    make_tree({"lr": 2}, size=(12, 16))
    with pytest.raises(DataError, match=r"lr has no frame 00000002, which .*hr has"):
        source(root, "lr")


def test_a_clip_can_be_cut(make_tree) -> None:
    clip = source(make_tree({"hr": 4}))
    clip.scored = [1, 3]
    short = clip.first(2)
    assert (short.frames, short.scored, clip.frames, clip.scored) == (2, [1], 4, [1, 3])
    assert clip.first(None) is clip
    with pytest.raises(DataError, match=r"000 has 2 frames"):
        short.read(0, 3)


def test_the_centre_of_a_clip_is_what_its_whole_frames_have_there(make_tree) -> None:
    """LR pixels around the square are not in it, and made LR pixels know the HR pixels around it."""
    root = make_tree({"hr": 3})
    whole, centre = source(root).load([1, 2]), CentreSource(source(root), 32)
    clip = centre.read(1, 3)
    assert centre.size == (8, 8) and centre.frames == 3 and centre.has_hr
    assert clip.lr.equal(whole.lr[..., 2:10, 4:12]) and clip.hr.equal(whole.hr[..., 8:40, 16:48])
    assert clip.index.equal(whole.index)
    part = centre.load([1], Window(1, 2, 3, 4))
    assert part.lr.equal(whole.lr[:, :1, :, 3:6, 6:10]) and part.hr.equal(whole.hr[:, :1, :, 12:24, 24:40])


def test_centres_that_cannot_be(make_tree) -> None:
    whole = source(make_tree({"hr": 1}))
    with pytest.raises(ConfigError, match=r"a split's window=30: give HR pixels, a multiple of scale=4"):
        CentreSource(whole, 30)
    with pytest.raises(DataError, match=r"window=64 is larger than 000: 64x48"):
        CentreSource(whole, 64).read(0, 1)
