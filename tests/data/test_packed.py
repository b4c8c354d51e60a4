import fcntl
import json
import multiprocessing
import os
import pickle
import shutil
import signal
from collections import namedtuple
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from vsrbench.config import build, compose
from vsrbench.data import packing, shards
from vsrbench.data.catalog import Settings
from vsrbench.data.degradations import Bicubic
from vsrbench.data.finder import find
from vsrbench.data.packed import PackedSource, mapped, read_index
from vsrbench.data.packing import pack, verify
from vsrbench.data.sources import Window
from vsrbench.errors import ConfigError, DataError
from vsrbench.types import Clip

TRAIN = {"partition": ["000", "001", "002"]}
SPLITS = {"train": TRAIN, "val": {"partition": "001", "frames": 2}, "test": None}


@pytest.fixture
def reds(make_tree, settings) -> Settings:
    """Three clips of five, four and three frames with their LR, in one tree."""
    lengths = {"000": 5, "001": 4, "002": 3}
    make_tree({f"train_sharp/{c}": t for c, t in lengths.items()})
    root = make_tree({f"train_sharp_bicubic/X4/{c}": t for c, t in lengths.items()}, size=(12, 16))
    return settings("reds", root)


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "pack"


def reading(settings: Settings, folder: Path, root: str | None = None, **other) -> Settings:
    return replace(settings, root=root, packed=str(folder), **other)


def same(one: Clip, other: Clip) -> bool:
    pairs = [(one.lr, other.lr), (one.hr, other.hr), (one.index, other.index)]
    equal = all(a.equal(b) if a is not None and b is not None else a is b for a, b in pairs)
    return equal and (one.name, one.scale) == (other.name, other.scale)


def check_equal(files: Settings, folder: Path, split) -> None:
    """Every clip of the split, its names, and a window of it are what the image files give."""
    stored, packed = find(files, split), find(reading(files, folder), split)
    assert [s.name for s in packed.sources] == [s.name for s in stored.sources]
    assert (packed.absent, packed.short, packed.unit) == (stored.absent, stored.short, stored.unit)
    for one, other in zip(stored.sources, packed.sources, strict=True):
        assert isinstance(other, PackedSource)
        assert (one.frame_names, one.size, one.has_hr, one.scored) == (
            other.frame_names, other.size, other.has_hr, other.scored
        )  # fmt: skip
        assert same(one.read(0, one.frames), other.read(0, other.frames))
        positions, window = [one.frames - 1, 0], Window(1, 2, 5, 7)
        assert same(one.load(positions, window), other.load(positions, window))


@pytest.mark.parametrize("workers", [0, 2])
def test_packed_clips_are_the_stored_ones(reds, out, workers) -> None:
    pack(reds, SPLITS, out, workers)
    check_equal(reds, out, TRAIN)
    check_equal(reds, out, {"partition": "001", "frames": 2})
    assert read_index(out).entries["000"].hr == [48, 64]


@pytest.mark.parametrize("path", ["double", "uint8"])
def test_lr_that_was_made_when_packing(make_tree, settings, out, path) -> None:
    made = replace(settings("reds", make_tree({"train_sharp/000": 3})))
    made = replace(made, pairing=replace(made.pairing, degradation=Bicubic(path)))
    pack(made, {"train": {"partition": "000"}}, out)
    check_equal(made, out, {"partition": "000"})


def test_hr_that_was_cropped_to_a_multiple(make_tree, settings, out) -> None:
    cropped = settings("folder", make_tree({"GT/a": 2, "GT/b": 1}, size=(50, 67)), crop_to_multiple=True)
    pack(cropped, {"test": {"partition": "all"}}, out)
    check_equal(cropped, out, {"partition": "all"})
    check_equal(cropped, out, {"partition": "b"})


def test_lr_without_hr(make_tree, settings, out) -> None:
    lone = settings("folder", make_tree({"LR/a": 2}))
    pack(lone, {"test": {"partition": "all"}}, out)
    check_equal(lone, out, {"partition": "all"})


def test_a_set_without_ground_truth_and_with_clips_of_any_size(make_tree, settings, out) -> None:
    make_tree({"000": 2}, size=(24, 32))
    lone = settings("videolq", make_tree({"001": 3}, size=(20, 36)), lr="disk")
    pack(lone, {"train": None, "test": {"partition": "all"}}, out)
    check_equal(lone, out, {"partition": "all"})


def test_a_set_with_list_files(make_tree, settings, out) -> None:
    """The pack is enough without the data set's folder; only the centre frame is scored."""
    root = make_tree({"sequences/00001/0001": 7, "sequences/00001/0002": 7}, name="im{}.png", first=1)
    (root / "sep_trainlist.txt").write_text("00001/0001\n00001/0002\n00001/0003\n")
    split = {"partition": "sep_trainlist"}
    pack(settings("vimeo", root), {"train": split}, out)
    check_equal(settings("vimeo", root), out, split)
    packed = find(reading(settings("vimeo", root), out), split)
    assert packed.absent[0] == "00001/0003"
    assert packed.sources[0].scored == [3]


def test_clips_fill_shards(reds, out, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 40_000)
    pack(reds, SPLITS, out)
    assert [e.shard for e in read_index(out).entries.values()] == [0, 1, 1]
    check_equal(reds, out, TRAIN)


def training(root, packed, workers: int) -> list[Clip]:
    recipe = [
        "train.crop=8",
        "train.frames=2",
        "train.batch=3",
        "train.samples_per_epoch=12",
        "train.time_reversal=true",
    ]
    places = [f"data.root={root or 'null'}", f"data.packed={packed or 'null'}"]
    split = "data.splits.train.partition=[000,001,002]"
    cfg = compose([*recipe, *places, split, "data=reds", f"data.workers={workers}"])
    return list(build(cfg.data).train_dataloader())


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_are_the_same(reds, out, workers) -> None:
    pack(reds, SPLITS, out)
    batches = training(reds.root, None, 0), training(None, out, workers)
    assert len(batches[0]) == 4
    assert all(same(one, other) for one, other in zip(*batches, strict=True))


def test_a_source_travels_without_pixels(reds, out) -> None:
    pack(reds, SPLITS, out)
    source = find(reading(reds, out), TRAIN).sources[0]
    whole = source.read(0, 5)
    sent = pickle.dumps(source)
    assert len(sent) < 3000 < whole.hr.numel()
    mapped.cache_clear()
    assert same(pickle.loads(sent).read(0, 5), whole)


def test_packing_twice_changes_nothing(reds, out, monkeypatch) -> None:
    pack(reds, SPLITS, out)
    shard, entries = (out / "shard-00000.bin").read_bytes(), read_index(out).entries
    monkeypatch.setattr("vsrbench.data.readers.read_image", None)  # no frame is decoded again
    pack(reds, SPLITS, out)
    assert (out / "shard-00000.bin").read_bytes() == shard
    assert read_index(out).entries == entries


def test_other_splits_are_added(reds, out) -> None:
    pack(reds, {"test": {"partition": "002"}}, out)
    with pytest.raises(DataError, match=r"lacks clip 000 of .*2 such clips.*vsrbench.data pack` again"):
        find(reading(reds, out), TRAIN)
    pack(reds, SPLITS, out)
    check_equal(reds, out, TRAIN)


def test_a_folder_is_packed_to_its_end_or_not_read(make_tree, settings, out) -> None:
    """The index alone says what "all" is."""
    root = make_tree({"GT/a": 2, "GT/b": 2})
    (root / "GT/b/00000001.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"cannot"):
        pack(settings("folder", root), {"test": {"partition": "all"}}, out)
    with pytest.raises(DataError, match=r"packing into .* was interrupted: run"):
        find(reading(settings("folder", root), out), {"partition": "all"})


def die_within(settings: Settings, folder: Path, writes: int) -> None:
    written, left = shards.Writer._write, iter(range(writes))

    def write(self, pixels) -> None:
        written(self, pixels[: pixels.shape[0] // 2])
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        written(self, pixels[pixels.shape[0] // 2 :])

    shards.Writer._write, shards.SYNC = write, 1
    pack(settings, SPLITS, folder)


@pytest.mark.parametrize("writes", [0, 5, 8, 12])
def test_a_killed_writer_leaves_whole_clips_alone(reds, out, tmp_path, writes) -> None:
    """Killed in the first clip, at its LR, in the second, in the third; what is packed then equals one go."""
    process = multiprocessing.get_context("fork").Process(target=die_within, args=(reds, out, writes))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = read_index(out)
    assert len(left.entries) == {0: 0, 5: 0, 8: 1, 12: 2}[writes]
    assert verify(out)[1] == {}
    pack(reds, SPLITS, out)
    pack(reds, SPLITS, tmp_path / "one go")
    assert (out / "shard-00000.bin").read_bytes() == (tmp_path / "one go/shard-00000.bin").read_bytes()
    assert read_index(out).entries == read_index(tmp_path / "one go").entries


def test_a_line_cut_short_does_not_count(reds, out) -> None:
    pack(reds, SPLITS, out)
    lines = (out / "index.jsonl").read_bytes().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if line.startswith(b'["clip"'))
    (out / "index.jsonl").write_bytes(b"".join(lines[:last]) + lines[last][:-9])
    assert list(read_index(out).entries) == ["000", "001"]
    pack(reds, SPLITS, out)
    check_equal(reds, out, TRAIN)


def test_what_is_written_before_an_error_counts(reds, out) -> None:
    broken = Path(reds.root) / "train_sharp/001/00000002.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-200])
    for workers in (0, 2):
        with pytest.raises(DataError, match=r"cannot decode .*001/00000002.png"):
            pack(reds, SPLITS, out, workers)
    assert list(read_index(out).entries) == ["000"]
    broken.write_bytes(whole)
    pack(reds, SPLITS, out)
    check_equal(reds, out, TRAIN)


def test_a_damaged_byte_is_found_named_and_mended(reds, out, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 50_000)
    pack(reds, SPLITS, out)
    assert verify(out) == (3, {})
    entry = read_index(out).entries["002"]
    with (out / "shard-00001.bin").open("r+b") as file:
        file.seek(entry.end - 1)
        value = file.read(1)[0]
        file.seek(entry.end - 1)
        file.write(bytes([value ^ 1]))
    assert verify(out) == (3, {"002": "shard-00001.bin"})
    (out / "shard-00001.bin").unlink()
    with pytest.raises(DataError, match=r"shard-00001.bin is missing or cut off.*vsrbench.data pack` again"):
        find(reading(reds, out), TRAIN)
    pack(reds, SPLITS, out)
    assert verify(out) == (3, {})
    check_equal(reds, out, TRAIN)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lr": "made"}, "data.lr=auto, not made"),
        ({"degradation": Bicubic("uint8")}, "degradation.path=double, not uint8"),
        ({"scale": 2}, "scale=4, not 2"),
        ({"set": "folder"}, "data=reds, not folder"),
    ],
)
def test_a_pack_of_other_settings_is_refused(reds, out, change, told) -> None:
    pack(reds, SPLITS, out)
    ours = {k: v for k, v in change.items() if k in ("degradation", "scale")}
    other = replace(reds, pairing=replace(reds.pairing, **ours), **{k: v for k, v in change.items() if k not in ours})
    with pytest.raises(DataError, match=f"was packed with {told}: use the same settings"):
        find(reading(other, out), TRAIN)
    if "set" not in change and "scale" not in change:
        with pytest.raises(DataError, match=told):
            pack(other, SPLITS, out)


def test_a_changed_source_is_noticed_where_it_is_given(reds, out) -> None:
    pack(reds, SPLITS, out)
    find(reading(reds, out, root=reds.root), TRAIN)
    file = Path(reds.root) / "train_sharp/001/00000001.png"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"train_sharp/001 is not what clip 001 of .*remove shard-00000.bin"):
        find(reading(reds, out, root=reds.root), TRAIN)
    with pytest.raises(DataError, match=r"is not what clip 001"):
        pack(reds, SPLITS, out)
    (out / "shard-00000.bin").unlink()
    pack(reds, SPLITS, out)
    find(reading(reds, out, root=reds.root), TRAIN)


def test_what_is_no_pack(reds, out) -> None:
    with pytest.raises(DataError, match=r"has no index.jsonl\): make one with `python -m vsrbench.data pack"):
        find(reading(reds, out), TRAIN)
    pack(reds, SPLITS, out)
    with pytest.raises(DataError, match=r"is a packed data set: give it as data.packed="):
        find(replace(reds, root=str(out)), TRAIN)
    lines = (out / "index.jsonl").read_text().splitlines()
    header = json.loads(lines[0])
    header[1]["version"] = 7
    (out / "index.jsonl").write_text("\n".join([json.dumps(header), *lines[1:], ""]))
    with pytest.raises(DataError, match=r"packed in format 7, this release reads format 1"):
        find(reading(reds, out), TRAIN)
    (out / "index.jsonl").write_text("\n".join([lines[0], "nonsense", *lines[1:], ""]))
    with pytest.raises(DataError, match=r"index.jsonl is damaged in line 2"):
        find(reading(reds, out), TRAIN)
    (out / "index.jsonl").write_text("")
    with pytest.raises(DataError, match=r"index.jsonl is empty"):
        find(reading(reds, out), TRAIN)


def test_where_packing_is_refused(reds, out, settings, make_tree, monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"data=sample is not made of stored frames"):
        pack(settings("sample"), {"test": {"partition": "test"}}, out)
    with pytest.raises(DataError, match=r"no split to pack"):
        pack(reds, {"train": None}, out)
    out.mkdir()
    (out / "thesis.tex").write_text("")
    with pytest.raises(DataError, match=r"holds other files \(thesis.tex\)"):
        pack(reds, SPLITS, out)
    (out / "thesis.tex").unlink()
    with (out / ".lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"another process is packing"):
            pack(reds, SPLITS, out)
    make_tree({"train_sharp/001": 1}, size=(24, 32), first=3)
    with pytest.raises(DataError, match=r"001/00000003.png do not fit scale=4"):
        pack(reds, SPLITS, out)
    with pytest.raises(DataError, match=r"clip 001 has frames of different sizes, 00000003 is one"):
        pack(replace(reds, lr="made"), SPLITS, out.with_name("made"))


def test_a_full_disk(reds, out, monkeypatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(70_000_000))
    monkeypatch.setattr(packing, "SPARE", 70_000_000)
    with pytest.raises(DataError, match=r"0.07 GB free, the pack needs 0.00 GB more"):
        pack(reds, SPLITS, out)
    monkeypatch.undo()
    synced = os.fsync

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 40_000:
            raise OSError(28, "No space left on device")
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*No space left on device; make room.*goes on behind"):
        pack(reds, SPLITS, out)
    monkeypatch.undo()
    assert list(read_index(out).entries) == []
    pack(reds, SPLITS, out)
    check_equal(reds, out, TRAIN)


def test_the_index_says_what_a_clip_is(reds, out) -> None:
    pack(reds, SPLITS, out)
    entry = asdict(read_index(out).entries["001"])
    digest = entry.pop("digest")
    frame_bytes = [sum(p.stat().st_size for p in Path(reds.root, f).iterdir()) for f in entry["origin"]]
    assert entry == {
        "name": "001",
        "frames": ["00000000", "00000001", "00000002", "00000003"],
        "shard": 0,
        "offset": 5 * 3 * (48 * 64 + 12 * 16),
        "hr": [48, 64],
        "lr": [12, 16],
        "scored": None,
        "full": 100,
        "origin": {
            "train_sharp/001": [4, frame_bytes[0]],
            "train_sharp_bicubic/X4/001": [4, frame_bytes[1]],
        },
    }
    assert len(digest) == 32
    clip = find(reading(reds, out), {"partition": "001"}).sources[0].read(0, 4)
    start = entry["offset"]
    stored = torch.frombuffer(bytearray((out / "shard-00000.bin").read_bytes()[start : start + 3]), dtype=torch.uint8)
    assert (clip.hr[0, 0, :, 0, 0] * 255).round().to(torch.uint8).equal(stored)
