import pytest

from vsrbench.data.catalog import Settings
from vsrbench.data.degradations import Bicubic, BlurDown
from vsrbench.data.finder import find
from vsrbench.data.trees import SETS, expected_tree, full_size, load_list, partition_names
from vsrbench.errors import ConfigError, DataError

REDS4 = ["000", "011", "015", "020"]


def names(set_name: str, partition, root=None) -> list[str]:
    return partition_names(set_name, load_list(set_name), partition, root)[0]


@pytest.mark.parametrize(
    ("partition", "count"),
    [
        ("all", 270),
        ("reds4", 4),
        ("redsval4", 4),
        ("official_val", 30),
        ("official_train", 240),
        ("reds4_train", 266),
        ("basicvsr_train", 266),
        ("videogigagan_train", 262),
        ("stablevsr_train", 236),
        ("dgaf_train", 266),
        ("sateco_train", 266),
    ],
)
def test_reds_partitions_have_their_known_sizes(partition: str, count: int) -> None:
    clips = names("reds", partition)
    assert len(clips) == len(set(clips)) == count
    assert (
        partition == "all"
        or not partition.endswith("_train")
        or partition == "official_train"
        or not {*REDS4} & {*clips}
    )


PAPERS = {  # protocols of the papers: where each trains, validates and tests
    "stablevsr": ["reds train test", "vimeo train test"],
    "sateco": ["reds train test", "vimeo train", "vid4 test"],
    "videogigagan": ["reds train val test", "vimeo train test", "vid4 test", "udm10 test"],
    "dgaf": ["reds train test", "vid4 test", "videolq test"],
}


@pytest.mark.parametrize(("paper", "uses"), PAPERS.items())
def test_every_paper_has_its_partitions_and_no_clip_in_two_of_them(paper: str, uses: list[str], tmp_path) -> None:
    for listing, lines in (("sep_trainlist.txt", "00001/0001\n"), ("sep_testlist.txt", "00001/0266\n")):
        (tmp_path / listing).write_text(lines)
    for use in uses:
        set_name, *roles = use.split()
        clips = [names(set_name, f"{paper}_{role}", tmp_path) for role in roles]
        assert all(clips)
        assert sum(map(len, clips)) == len({clip for part in clips for clip in part})


def test_every_partition_resolves() -> None:
    for name in SETS:
        for partition in load_list(name)["partitions"]:
            if name != "vimeo":
                assert names(name, partition)
                assert full_size(name, partition)[0] == len(names(name, partition))


def test_partitions_are_composed_from_names_ranges_and_others() -> None:
    assert names("reds", "reds4") == REDS4
    assert names("reds", ["redsval4", "005..007", 11]) == ["240", "241", "246", "257", "005", "006", "007", "011"]
    assert names("reds", "reds4 without 011 015") == ["000", "020"]
    assert names("vid4", ["walk", "city"]) == ["walk", "city"]


@pytest.mark.parametrize(
    ("set_name", "partition"), [("reds", "reds5"), ("reds", "270"), ("vid4", "rocket"), ("vimeo", "test")]
)
def test_an_unknown_partition_lists_the_known(set_name: str, partition: str) -> None:
    with pytest.raises(
        DataError,
        match=f"{set_name} has no partition or clip '{partition}': .*{next(iter(load_list(set_name)['partitions']))}",
    ):
        names(set_name, partition)


def test_an_empty_partition() -> None:
    for nothing in ([], None, "", "reds4 without reds4"):
        with pytest.raises(DataError, match=r"is empty: use one of all, reds4"):
            names("reds", nothing)


def test_reds_as_downloaded_equals_reds_as_regrouped(make_tree, settings) -> None:
    """Validation clip 001 is 241."""
    downloaded = make_tree({"down/train/train_sharp/000": 3, "down/val/val_sharp/001": 3}) / "down"
    regrouped = downloaded.parent / "re/train_sharp"
    regrouped.mkdir(parents=True)
    (regrouped / "000").symlink_to(downloaded / "train/train_sharp/000")
    (regrouped / "241").symlink_to(downloaded / "val/val_sharp/001")
    split = {"partition": ["000", "241"]}
    ones, others = (find(settings("reds", root), split) for root in (downloaded, regrouped.parent))
    assert ones.coverage("reds") == others.coverage("reds")
    for one, other in zip(ones.sources, others.sources, strict=True):
        assert one.name == other.name
        assert one.read(0, 3).lr.equal(other.read(0, 3).lr)


@pytest.mark.parametrize("base", ["train/", ""])
def test_reds_takes_lr_from_disk(make_tree, settings, base: str) -> None:
    root = make_tree({f"{base}train_sharp/000": 2})
    make_tree({f"{base}train_sharp_bicubic/X4/000": 2}, size=(12, 16))
    clip = find(settings("reds", root), {"partition": "000"}).sources[0]
    made = find(settings("reds", root, lr="made"), {"partition": "000"}).sources[0]
    assert clip.lr_files.folder.endswith("X4/000")
    assert not clip.read(0, 1).lr.equal(made.read(0, 1).lr)


def test_absent_and_short_clips_are_listed(make_tree, settings) -> None:
    root = make_tree({"train_sharp/000": 100, "train_sharp/015": 4}, size=(4, 4))
    catalog = find(settings("reds", root), {"partition": "reds4"})
    coverage = {"set": "reds", "clips": {"000": 100, "015": 4}, "absent": ["011", "020"], "short": {"015": [4, 100]}}
    assert catalog.coverage("reds") == coverage
    limited = find(settings("reds", root), {"partition": "reds4", "frames": 3})
    assert limited.coverage("reds")["short"] == {"000": [3, 100], "015": [3, 100]}
    assert [s.name for s in find(settings("reds", root), {"partition": "reds4", "clips": 1}).sources] == ["000"]


def test_a_hole_is_an_error(make_tree, settings) -> None:
    root = make_tree({"train_sharp/000": 5})
    (root / "train_sharp/000/00000002.png").unlink()
    with pytest.raises(DataError, match=r"000/00000002.png is missing"):
        find(settings("reds", root), {"partition": "reds4"})


def test_missing_first_and_surplus_frames_are_errors(make_tree, settings) -> None:
    root = make_tree({"train_sharp/000": 3}, first=1)
    with pytest.raises(DataError, match=r"000/00000000.png is missing"):
        find(settings("reds", root), {"partition": "000"})
    root = make_tree({"GT/city": 35}, size=(4, 4))
    with pytest.raises(DataError, match=r"city has 35 frames, the data set's clip has 34"):
        find(settings("vid4", root), {"partition": "all"})


def test_nothing_there(tmp_path, settings) -> None:
    with pytest.raises(DataError, match=r"no folder .*absent.*data check data=reds"):
        find(settings("reds", tmp_path / "absent"), {"partition": "reds4"})
    with pytest.raises(DataError, match=r"none of the 4 clips of reds reds4"):
        find(settings("reds", tmp_path), {"partition": "reds4"})
    with pytest.raises(DataError, match=r"data=vimeo needs data.root"):
        find(settings("vimeo"), {"partition": "sep_testlist"})


def test_lr_must_be_there_for_all_clips_or_for_none(make_tree, settings) -> None:
    root = make_tree({"train_sharp/000": 2, "train_sharp/011": 2})
    with pytest.raises(DataError, match=r"clip 000 has no LR frames"):
        find(settings("reds", root, lr="disk"), {"partition": "reds4"})
    make_tree({"train_sharp_bicubic/X4/000": 2}, size=(12, 16))
    with pytest.raises(DataError, match=r"clip 011 has no LR frames.*data.lr=made"):
        find(settings("reds", root), {"partition": "reds4"})
    assert find(settings("reds", root, lr="made"), {"partition": "reds4"}).sources[0].lr_files is None
    make_tree({"train_sharp_bicubic/X4/020": 2}, size=(12, 16))
    with pytest.raises(DataError, match=r"clip 020 has LR but no HR"):
        find(settings("reds", root), {"partition": "reds4"})


def vimeo(make_tree, hr: str = "sequences", lists: str = "."):
    root = make_tree({f"{hr}/00001/0002": 7, f"{hr}/00003/0001": 7}, name="im{}.png", first=1)
    (root / lists).mkdir(exist_ok=True)
    (root / lists / "sep_testlist.txt").write_text("00001/0002\n00002/0001\n00003/0001\n\n")
    return root


@pytest.mark.parametrize(
    ("hr", "lr", "lists"),
    [
        ("sequences", "vimeo_septuplet_matlabLRx4/sequences", "."),
        ("GT", "BIx4", "."),
        ("vimeo_septuplet/sequences", "vimeo_septuplet_matlabLRx4/sequences", "vimeo_septuplet"),
    ],
)
def test_vimeo_follows_the_list_and_scores_the_centre(make_tree, settings, hr: str, lr: str, lists: str) -> None:
    root = vimeo(make_tree, hr, lists)
    make_tree({f"{lr}/00001/0002": 7, f"{lr}/00003/0001": 7}, size=(12, 16), name="im{}.png", first=1)
    catalog = find(settings("vimeo", root), {"partition": "sep_testlist"})
    assert [s.name for s in catalog.sources] == ["00001/0002", "00003/0001"]
    assert catalog.absent == ["00002/0001", "7821 clips that sep_testlist.txt does not list"]
    clip = catalog.sources[0]
    assert (clip.scored, clip.frame_names[3]) == ([3], "im4")
    assert clip.lr_files is not None
    assert clip.read(0, 7).index.tolist() == [list(range(7))]


def test_vimeo_lists_are_needed_and_checked(make_tree, settings) -> None:
    root = vimeo(make_tree)
    with pytest.raises(DataError, match=r"no list .*sep_trainlist.txt"):
        find(settings("vimeo", root), {"partition": "sep_trainlist"})
    (root / "sep_trainlist.txt").write_text("\n")
    with pytest.raises(DataError, match=r"sep_trainlist.txt is empty"):
        find(settings("vimeo", root), {"partition": "sep_trainlist"})
    (root / "sep_testlist.txt").write_text("00001/0002\n" * 7825)
    with pytest.raises(DataError, match=r"7825 lines, the official list has 7824"):
        find(settings("vimeo", root), {"partition": "sep_testlist"})


@pytest.mark.parametrize("template", ["GT/{}", "{}/truth", "{}/original", "original/{}", "inputs/G/{}", "{}"])
def test_vid4_trees(make_tree, settings, template: str) -> None:
    root = make_tree({template.format("city"): 3}, name="Frame {:03d}.png", first=1)
    make_tree({template.format("walk"): 2}, name="Frame {:02d}.png", first=1)
    coverage = find(settings("vid4", root), {"partition": "all"}).coverage("vid4")
    assert coverage["clips"] == {"city": 3, "walk": 2}
    assert coverage["absent"] == ["calendar", "foliage"]
    assert coverage["short"] == {"city": [3, 34], "walk": [2, 47]}


def test_real_vid4_is_cut_short(shared, settings) -> None:
    catalog = find(settings("vid4", shared / "material/vid4"), {"partition": "all"})
    assert catalog.coverage("vid4")["short"] == {
        "calendar": [3, 41], "city": [3, 34], "foliage": [3, 49], "walk": [12, 47]
    }  # fmt: skip
    sizes = {s.name: s.size for s in catalog.sources}
    assert sizes == {"calendar": (144, 180), "city": (144, 176), "foliage": (120, 180), "walk": (120, 180)}


def test_unknown_set_and_settings(settings) -> None:
    with pytest.raises(ConfigError, match=r"data.set=redz: use one of .*reds"):
        find(settings("redz"), {"partition": "all"})
    with pytest.raises(ConfigError, match=r"data.lr=maybe: use one of auto, disk, made"):
        settings("reds", lr="maybe")


@pytest.mark.parametrize("name", SETS)
def test_every_set_describes_its_tree(name: str) -> None:
    text = expected_tree(name, 4)
    assert ".png" in text and "{scale}" not in text
    if name != "videolq":
        assert "X4" in text or "x4" in text


@pytest.mark.parametrize(
    ("partition", "listing", "clips"),
    [
        ("fast", "meta_info_Vimeo90K_test_fast_GT.txt", 1225),
        ("medium", "meta_info_Vimeo90K_test_medium_GT.txt", 4977),
        ("slow", "meta_info_Vimeo90K_test_slow_GT.txt", 1613),
        ("videogigagan_test", "sep_testlist.txt", 7824),
        ("stablevsr_train", "sep_trainlist.txt", 64612),
    ],
)
def test_vimeo_lists_by_name(make_tree, settings, partition: str, listing: str, clips: int) -> None:
    """BasicSR's lines, `00001/0002 7 (256,448,3)`, name the clip first."""
    root = make_tree({"sequences/00001/0002": 7}, name="im{}.png", first=1)
    with pytest.raises(DataError, match=f"no list .*{listing}: it comes with"):
        find(settings("vimeo", root), {"partition": partition})
    (root / listing).write_text("00001/0002 7 (256,448,3)\n")
    catalog = find(settings("vimeo", root), {"partition": partition})
    assert [s.name for s in catalog.sources] == ["00001/0002"]
    assert catalog.absent == [f"{clips - 1} clips that {listing} does not list"]
    assert full_size("vimeo", partition) == (clips, 7 * clips)


def test_the_held_out_septuplets_are_drawn_from_seed_and_names(tmp_path) -> None:
    listing = tmp_path / "sep_trainlist.txt"
    clips = [f"{folder:05d}/{n:04d}" for folder in range(1, 4) for n in range(1, 101)]
    listing.write_text("\n".join(clips))
    drawn = names("vimeo", "sep_heldout", tmp_path)
    assert len(drawn) == 64 and drawn == sorted(drawn) and {*drawn} < {*clips}
    assert drawn[:3] == ["00001/0001", "00001/0004", "00001/0014"]
    listing.write_text("\n".join(reversed(clips)))
    assert {*names("vimeo", "sep_heldout", tmp_path)} == {*drawn}
    assert full_size("vimeo", "sep_heldout") == (64, 448)


@pytest.mark.parametrize("frames", [2, 7])
def test_a_septuplet_that_ends_early_has_no_centre_to_score(make_tree, settings, frames: int) -> None:
    root = make_tree({"sequences/00001/0002": frames}, name="im{}.png", first=1)
    (root / "sep_testlist.txt").write_text("00001/0002\n")
    (source,) = find(settings("vimeo", root), {"partition": "sep_testlist"}).sources
    assert source.scored == ([3] if frames == 7 else [])


# --- UDM10 and VideoLQ ---------------------------------------------------------------------------

BLURS = [(Bicubic(), "BIx4/{}"), (BlurDown("basicvsr"), "BDx4/{}"), (BlurDown("duf"), "{}/blur4")]


@pytest.mark.parametrize(("degradation", "template"), BLURS, ids=["bicubic", "basicvsr", "duf"])
@pytest.mark.parametrize(("name", "clip"), [("udm10", "archwall"), ("vid4", "city")])
def test_every_lr_folder_belongs_to_one_degradation(make_tree, name: str, clip: str, degradation, template) -> None:
    """BDx4 is never taken for DUF's blur4, nor the other way round, nor either for bicubic."""
    root = make_tree({f"GT/{clip}": 2}, name="{:04d}.png")
    for _, other in BLURS:
        make_tree({other.format(clip): 2}, size=(12, 16), name="{:04d}.png")

    def found(lr: str = "auto") -> object:
        settings = Settings.of({"set": name, "root": str(root), "scale": 4, "lr": lr}, degradation)
        return find(settings, {"partition": clip}).sources[0].lr_files

    assert found().folder == str(root / template.format(clip))
    for file in (root / template.format(clip)).iterdir():
        file.unlink()
    (root / template.format(clip)).rmdir()
    with pytest.raises(DataError, match=f"LR frames of .*there are none of {degradation.kind}: .*data.lr=made"):
        found()
    assert found("made") is None
    with pytest.raises(DataError, match=f"clip {clip} has no LR frames of {degradation.kind}"):
        found("disk")


@pytest.mark.parametrize("template", ["GT/{}", "{}/truth"])
def test_udm10_trees(make_tree, settings, template: str) -> None:
    root = make_tree({template.format("band"): 32, template.format("lake"): 3}, name="{:04d}.png", size=(8, 8))
    catalog = find(settings("udm10", root), {"partition": "all"})
    coverage = catalog.coverage("udm10")
    assert coverage["clips"] == {"band": 32, "lake": 3}
    assert coverage["short"] == {"lake": [3, 32]}
    assert len(coverage["absent"]) == 8
    assert catalog.sources[0].frame_names[-1] == "0031"


def test_videolq_has_no_ground_truth_and_clips_of_any_length(make_tree, settings) -> None:
    root = make_tree({"000": 100, "007": 60, "049": 20}, size=(4, 6))
    catalog = find(settings("videolq", root, lr="disk"), {"partition": "all"})
    assert catalog.coverage("videolq")["clips"] == {"000": 100, "007": 60, "049": 20}
    assert not catalog.short and len(catalog.absent) == 47
    assert [s.scored for s in catalog.sources] == [[0, 50, 99], [0, 50], [0]]
    assert not any(s.has_hr for s in catalog.sources)
    assert full_size("videolq", "all") == (50, None)
    for kind in (BlurDown(), BlurDown("duf")):  # whatever degradation is chosen: nobody made these
        assert find(Settings.of({"set": "videolq", "root": str(root), "scale": 4}, kind), {"partition": "007"}).sources


def test_videolq_clips_end_at_100_frames(make_tree, settings) -> None:
    root = make_tree({"000": 101}, size=(4, 6))
    with pytest.raises(DataError, match=r"000 has 101 frames, the data set's clip has 100"):
        find(settings("videolq", root), {"partition": "all"})


def test_videolq_cannot_be_made(make_tree, settings) -> None:
    with pytest.raises(DataError, match=r"data.lr=made needs HR frames"):
        find(settings("videolq", make_tree({"000": 2}), lr="made"), {"partition": "all"})
