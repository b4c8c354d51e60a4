import pytest

from vsrbench.config import build, compose
from vsrbench.data.datamodule import VideoData
from vsrbench.data.sources import CentreSource
from vsrbench.errors import ConfigError, DataError
from vsrbench.types import Clip

TRAIN = ["train.crop=8", "train.frames=2", "train.batch=2", "train.samples_per_epoch=8", "data.workers=0"]


def data(*overrides: str) -> VideoData:
    return build(compose([*TRAIN, *overrides]).data)


def reds(make_tree) -> str:
    return str(make_tree({"train/train_sharp/000": 4, "train/train_sharp/001": 4, "val/val_sharp/003": 3}))


@pytest.mark.parametrize("name", ["sample", "photos", "reds", "vimeo", "vid4", "folder", "video"])
def test_every_data_set_composes_and_reads_nothing_early(name: str) -> None:
    built = data(f"data={name}", "data.root=absent")
    assert built.settings.set == name
    assert built.settings.pairing.scale == 4
    assert set(built.splits) == {"train", "val", "test"}


def stream(module: VideoData, batches: int) -> list[Clip]:
    found: list[Clip] = []
    loader = module.train_dataloader()
    while len(found) < batches:
        found += list(loader)
    return found[:batches]


def test_a_resumed_run_sees_what_it_would_have_seen(make_tree) -> None:
    root = reds(make_tree)
    whole = stream(data("data=reds", f"data.root={root}"), 10)
    resumed = data("data=reds", f"data.root={root}")
    resumed.first_sample = 6
    for expected, got in zip(whole[3:], stream(resumed, 7), strict=True):
        assert got.name == expected.name
        assert got.lr.equal(expected.lr)


def test_workers_change_nothing(make_tree) -> None:
    root = reds(make_tree)
    alone, helped = (stream(data("data=reds", f"data.root={root}", f"data.workers={n}"), 3) for n in (0, 2))
    for one, other in zip(alone, helped, strict=True):
        assert one.name == other.name
        assert one.hr.equal(other.hr)


class FakeTrainer:
    def __init__(self, rank: int) -> None:
        self.global_rank, self.world_size = rank, 2


def test_ranks_share_a_global_step(make_tree) -> None:
    root = reds(make_tree)
    alone = stream(data("data=reds", f"data.root={root}", "train.batch=4"), 4)
    shares = []
    for rank in (0, 1):
        module = data("data=reds", f"data.root={root}")
        module.trainer = FakeTrainer(rank)
        shares.append(stream(module, 4))
    for step, batch in enumerate(alone):
        together = sorted(n for share in shares for n in share[step].name)
        assert together == sorted(batch.name)


def test_batches_and_validation_clips(make_tree) -> None:
    module = data("data=reds", f"data.root={reds(make_tree)}", "data.splits.val={partition: official_val, frames: 2}")
    (batch, *_) = module.train_dataloader()
    assert batch.lr.shape == (2, 2, 3, 8, 8)
    assert module.samples_per_epoch == 8
    (clip,) = module.val_dataloader()
    assert (clip.name, clip.lr.shape) == (["243"], (1, 2, 3, 12, 16))
    assert module.coverage("val")["short"] == {"243": [2, 100]}
    assert len(module.coverage("val")["absent"]) == 29


def test_an_epoch_of_photographs_counts_paths(make_tree) -> None:
    root = make_tree({"": 2}, size=(64, 64))
    module = data("data=photos", f"data.root={root}", "train.samples_per_epoch=null", "data.splits.val=null")
    assert module.samples_per_epoch == 40
    assert module.clips("val") == []
    assert list(module.val_dataloader()) == []


def training_clips(*overrides: str) -> tuple[list[str], list[str]]:
    """Names of the clips that train, and of those of the set that are not there."""
    module = data(*overrides)
    return [source.name for source in module.clips("train")], module.coverage("train")["absent"]


def test_validation_clips_of_reds_do_not_train_and_one_switch_lets_them(make_tree) -> None:
    official = {f"val/val_sharp/{name}": 2 for name in ("000", "001", "006", "017", "002")}
    root = f"data.root={make_tree({'train/train_sharp/000': 2, 'train/train_sharp/001': 2, **official})}"
    val = [clip.name for clip in data("data=reds", root).clips("val")]
    assert val == ["240", "241", "246", "257"]
    here, absent = training_clips("data=reds", root)
    assert here == ["001", "242"] and len(here) + len(absent) == 262
    here, absent = training_clips("data=reds", root, "data.splits.val=null")
    assert here == ["001", "240", "241", "242", "246", "257"] and len(here) + len(absent) == 266
    here, absent = training_clips("data=reds", root, "data.splits.train.partition=stablevsr_train")
    assert here == ["001"] and len(here) + len(absent) == 236


def test_reds_without_its_validation_folder_says_how_to_train_on(make_tree) -> None:
    root = f"data.root={make_tree({'train/train_sharp/001': 4, 'train/train_sharp/002': 4})}"
    with pytest.raises(DataError, match=r"none of the 4 clips of reds redsval4 is in .*; data\.splits\.val=null"):
        data("data=reds", root).val_dataloader()
    alone = data("data=reds", root, "data.splits.val=null")
    assert len(alone.training_samples) == 8 and len(alone.val_dataloader()) == 0


def test_no_published_set_validates_on_clips_that_train_or_test(make_tree) -> None:
    root = make_tree({f"sequences/00001/{n:04d}": 7 for n in range(1, 6)}, name="im{}.png", first=1)
    (root / "sep_trainlist.txt").write_text("00001/0001\n00001/0002\n00001/0003\n00001/0004\n")
    (root / "sep_testlist.txt").write_text("00001/0005\n")
    module = data("data=vimeo", f"data.root={root}")
    train, val, test = ({clip.name for clip in module.clips(split)} for split in ("train", "val", "test"))
    assert len(train) == len(val) == 2 and test == {"00001/0005"} and not train & val
    assert training_clips("data=vimeo", f"data.root={root}", "data.splits.val=null")[0] == sorted(train | val)
    (root / "sep_trainlist.txt").write_text("00001/0001\n")
    with pytest.raises(DataError, match=r"none can be held out: train without validation \(data.splits.val=null\)"):
        data("data=vimeo", f"data.root={root}").train_dataloader()


def test_a_folder_holds_its_validation_clips_out_where_it_has_others(make_tree, caplog) -> None:
    many = f"data.root={make_tree({'a': 2, 'b': 2, 'c': 2})}"
    assert training_clips("data=folder", many)[0] == ["c"] and not caplog.text
    few = f"data.root={make_tree({'a': 2, 'b': 2})}"
    assert training_clips("data=folder", few, "data.splits.val.clips=2", "data.splits.train.partition=a")[0] == ["a"]
    assert "validation clips are training clips (a)" in caplog.text


def test_what_a_data_set_does_not_have(make_tree) -> None:
    module = data("data=vid4", f"data.root={make_tree({'GT/city': 2})}")
    with pytest.raises(DataError, match=r"data=vid4 has no training split"):
        module.train_dataloader()
    with pytest.raises(ConfigError, match=r"no split 'tset': it has train, val, test"):
        module.clips("tset")
    with pytest.raises(DataError, match=r"no folder"):
        data("data=reds", "data.root=absent").clips("test")
    with pytest.raises(ConfigError, match=r"train.crop=0"):
        data("train.crop=0")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.splits.test.clips=0", "a split's clips=0: give a whole number from 1, or null"),
        ("data.splits.test.clips=-1", "a split's clips=-1: give"),
        ("data.splits.test.frames=1.5", "a split's frames=1.5: give"),
        ("data.splits=null", "no split 'test': it has none"),
        ("data.splits.test.partition=[a]", "no partition ..a..: it has train, val, test"),
        ("data.splits.test.partition={a: 1}", "partition={'a': 1}: give a name or a list"),
        ("data.root=2024", r"data\.root=2024: give a path; one that is a number is \./2024"),
        ("data.frame_size=[5]", r"data\.frame_size=\[5\]: give two whole numbers"),
        ("data.frame_size=[0,8]", r"data\.frame_size=\[0, 8\]: give two whole numbers"),
    ],
)
def test_values_of_another_kind_are_refused_in_one_line(override: str, told: str) -> None:
    with pytest.raises((ConfigError, DataError), match=told):
        data(override).clips("test")


def test_a_clip_whose_name_is_a_number_can_be_chosen(make_tree) -> None:
    """Hydra reads the word as a number."""
    module = data("data=reds", f"data.root={make_tree({'val/val_sharp/001': 2})}", "data.splits.test.partition=241")
    assert [source.name for source in module.clips("test")] == ["241"]
    with pytest.raises(DataError, match="no partition or clip '999'"):
        data("data=reds", f"data.root={make_tree({})}", "data.splits.test.partition=999").clips("test")


def test_absent_training_clips_are_said(make_tree, caplog) -> None:
    data("data=reds", f"data.root={reds(make_tree)}").train_dataloader()
    assert "training without 260 absent clips, the first is 002" in caplog.text


def test_a_split_may_be_the_centre_of_its_clips(make_tree) -> None:
    root = str(make_tree({"val/val_sharp/000": 3}))
    asked = ["data=reds", f"data.root={root}", "data.splits.test.partition=official_val"]
    [whole], [centre] = data(*asked).clips("test"), data(*asked, "data.splits.test.window=32").clips("test")
    assert whole.size == (12, 16) and centre.size == (8, 8)
    assert centre.read(0, 3).lr.equal(whole.read(0, 3).lr[..., 2:10, 4:12])
    with pytest.raises(ConfigError, match=r"is rendered; set data\.frame_size"):
        CentreSource(data("data=sample").clips("test")[0], 32)


@pytest.mark.parametrize(
    ("folders", "settings", "origin"),
    [
        (("GT/city", "BIx4/city"), {}, "disk BIx4"),
        (("GT/city",), {}, "made bicubic (path=double)"),
        (("GT/city", "BIx4/city"), {"lr": "made"}, "made bicubic (path=double)"),
        (("city/truth",), {}, "made bicubic (path=double)"),
    ],
)
def test_a_result_says_where_lr_frames_came_from(make_tree, folders, settings, origin: str) -> None:
    for folder in folders:
        root = make_tree({folder: 2}, size=(12, 16) if folder.startswith("BI") else (48, 64))
    words = [f"data.{key}={value}" for key, value in settings.items()]
    coverage = data("data=vid4", f"data.root={root}", *words).coverage("test")
    assert coverage["lr"] == origin and coverage["truth"] == [".png"] and len(coverage["list"]) == 16
    make_tree({folders[0]: 3})
    assert data("data=vid4", f"data.root={root}", "data.lr=made").coverage("test")["list"] != coverage["list"]
