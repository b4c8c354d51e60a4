import pytest
from omegaconf import OmegaConf

from vsrbench import published
from vsrbench.config import compose
from vsrbench.errors import ConfigError
from vsrbench.evaluation.protocol import blocks_of, from_settings, select, shipped, split_of

PAPERS = ("adapter", "dgaf", "sateco", "stablevsr", "videogigagan")
SETS = {"REDS4": "reds", "Vimeo-90K-T": "vimeo", "Vid4": "vid4", "UDM10": "udm10", "VideoLQ": "videolq"}
BI = {"name": "bicubic", "path": "double"}
BD = {"name": "blur_down", "flavour": "basicvsr"}


def chosen(*overrides: str):
    cfg = compose(["method=bicubic", *overrides], verb="eval")
    return from_settings(OmegaConf.to_container(cfg, resolve=True))


# --- the shipped files -----------------------------------------------------------------------------


def test_the_projects_own_protocol_judges_every_data_set():
    for data in ("sample", "reds", "vimeo", "vid4", "udm10", "videolq", "folder", "video", "photos"):
        [protocol] = chosen(f"data={data}")
        assert (protocol.id, protocol.block, protocol.published) == ("vsrbench", "other", None)
    assert protocol.metrics == ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y", "sharpness", "consistency")
    assert protocol.scale == 4 and protocol.degradation == BI


def test_there_is_a_protocol_per_paper_and_every_block_can_be_judged():
    nodes = shipped()
    assert sorted(nodes) == sorted([*PAPERS, "vsrbench"])
    for node in nodes.values():
        for name, block in node["blocks"].items():
            data = (block or {}).get("set", name)
            for under in (block or {}).get("published") or {"bicubic_x4": None}:
                if data is None:
                    continue
                degradation = BD if under.startswith("blur") else BI
                scale = 4 if under == "any" else int(under.rpartition("_x")[2])
                assert select(node, data, degradation, scale, block=name).id == node["id"]


@pytest.mark.parametrize("identity", published.load()["protocols"])
def test_every_published_protocol_is_stated_by_a_block_that_agrees_with_it(identity):
    stated, nodes = published.load()["protocols"][identity], shipped()
    found = blocks_of(identity, nodes)
    assert found
    for protocol, name, _ in found:
        block = nodes[protocol]["blocks"][name]
        data = block.get("set", name)
        if data is None:
            assert "bench" in block
            continue
        degradation = BD if "BD" in str(stated["degradation"]) else BI
        made = select(nodes[protocol], data, degradation, stated["scale"] or 4, block=name)
        assert made.published == identity
        if stated["dataset"] in SETS:
            assert data == SETS[stated["dataset"]]
        if stated["color"] in ("RGB", "Y") and "psnr" in " ".join(made.metrics):
            assert f"psnr_{stated['color'].lower()}"[:6] in [metric[:6] for metric in made.metrics]
        crop = {"centre 512": 512}.get(str(stated["crop"]))
        assert crop is None or made.window == crop
        assert "im4" not in str(stated["frames"]) or made.frames == "convention"
        assert made.averaging == "clips" and made.crop == 0


def test_what_the_papers_differ_in():
    """Traps 2, 3, 14, 17, 18, 21 and 22 of the switches that change numbers silently."""
    nodes = shipped()
    vid4 = {name: select(nodes[name], "vid4", BI, 4) for name in PAPERS}
    reds = {name: select(nodes[name], "reds", BI, 4) for name in PAPERS}
    assert [p for p in PAPERS if "psnr_rgb" in reds[p].metrics] == list(PAPERS)
    assert [p for p in PAPERS if "psnr_y" in vid4[p].metrics] == ["dgaf", "sateco", "videogigagan"]
    assert [p for p in PAPERS if "lpips_vgg" in reds[p].metrics] == ["sateco", "videogigagan"]
    assert (vid4["dgaf"].luma, vid4["dgaf"].channel) == ("opencv_i420", "luma")
    assert {vid4[p].luma for p in PAPERS if p != "dgaf"} == {"bt601_studio"} and reds["dgaf"].channel == "rgb"
    assert "niqe_basicsr" in vid4["sateco"].metrics and "niqe" in reds["stablevsr"].metrics
    assert vid4["sateco"].bicubic == {"PSNR": "matlab", "SSIM": "matlab", "NIQE": "cv2"}
    assert {"tof_stablevsr", "tlpips_stablevsr"} <= set(reds["dgaf"].metrics) & set(reds["stablevsr"].metrics)
    assert {"ewarp", "rwe"} <= set(reds["videogigagan"].metrics) and reds["videogigagan"].flow == "raft"
    assert (reds["adapter"].window, reds["adapter"].frames) == (320, 8)


# --- choosing --------------------------------------------------------------------------------------


def test_several_protocols_come_in_the_order_in_which_they_are_named():
    assert [p.id for p in chosen("data=vid4", "protocol=[videogigagan,stablevsr]")] == ["videogigagan", "stablevsr"]


def test_a_replaced_switch_wins_over_the_block_in_every_protocol():
    found = chosen("data=vid4", "protocol=[dgaf,sateco]", "protocol.luma=bt601_studio", "protocol.metrics=[psnr_y]")
    assert [(p.luma, p.metrics) for p in found] == [("bt601_studio", ("psnr_y",))] * 2


def test_the_degradation_chooses_what_is_printed_and_an_unknown_one_is_refused():
    [bi], [bd] = (
        chosen("data=vid4", "protocol=videogigagan"),
        chosen("data=vid4", "protocol=videogigagan", "degradation=blur_down"),
    )
    assert (bi.published, bd.published) == ("vgg_vid4_bi", "vgg_vid4_bd") and bi.hash != bd.hash
    with pytest.raises(ConfigError, match="under bicubic_x4, blur_down_basicvsr_x4, not blur_down_duf_x4"):
        chosen("data=vid4", "protocol=videogigagan", "degradation=blur_down", "degradation.flavour=duf")
    with pytest.raises(ConfigError, match="not bicubic_x8"):
        chosen("data=reds", "protocol=sateco", "scale=8")
    assert chosen("data=reds", "protocol=dgaf", "scale=8")[0].published == "dgaf_reds4_x8"


def test_a_data_set_that_a_paper_does_not_judge_is_refused_unless_its_code_takes_any_folder():
    with pytest.raises(
        ConfigError, match="protocol=sateco has no block sample for data=sample: it evaluates reds, vid4"
    ):
        chosen("data=sample", "protocol=sateco")
    assert chosen("data=sample", "protocol=stablevsr")[0].block == "other"


def test_a_block_can_be_named_and_one_without_frames_is_refused():
    [crops] = chosen("data=reds", "protocol=stablevsr", "protocol.block=reds_crop512")
    assert (crops.window, crops.published) == (512, "stablevsr_crop512")
    with pytest.raises(ConfigError, match="vid4: its blocks for it are vid4, other"):
        chosen("data=vid4", "protocol=dgaf", "protocol.block=reds")
    with pytest.raises(ConfigError, match=r"evaluates no frames: vsrbench bench task=params"):
        chosen("data=reds", "protocol=dgaf", "protocol.block=cost")


def test_one_command_judges_one_split(make_protocol):
    cfg = compose(["method=bicubic", "protocol=[vsrbench,stablevsr]"], verb="eval")
    assert split_of(cfg) == "test"
    cfg.protocols.stablevsr.switches.split = "val"
    with pytest.raises(ConfigError, match="different splits"):
        from_settings(OmegaConf.to_container(cfg, resolve=True))


# --- clips -----------------------------------------------------------------------------------------


def coverage(*clips: str, absent=()) -> dict:
    return {"set": "memory", "clips": dict.fromkeys(clips, 3), "absent": list(absent), "short": {}}


def test_clips_that_the_protocol_names_and_the_data_do_not_are_absent(make_protocol):
    protocol = make_protocol(block={"clips": ["a", "b", "c"]})
    assert protocol.complete(coverage("a", absent=["b"]))["absent"] == ["b", "c"]
    assert protocol.complete(coverage("a", "b", "c"))["absent"] == []
    assert make_protocol(block={"clips": 5}).complete(coverage("a", "b"))["absent"] == ["3 of the 5 clips"]
    assert make_protocol().complete(coverage("a"))["absent"] == []


def test_clips_of_another_partition_are_refused(make_protocol):
    with pytest.raises(ConfigError, match=r"protocol=test evaluates a, b of memory, not z: set data.splits.test"):
        make_protocol(block={"clips": ["a", "b"]}).complete(coverage("a", "z"))


# --- switches --------------------------------------------------------------------------------------


def test_equal_switches_have_equal_hashes_whatever_the_names(make_protocol):
    assert make_protocol().hash == make_protocol(id="other").hash
    assert len(make_protocol().hash) == 16


@pytest.mark.parametrize(
    "change",
    [{"crop": 4}, {"averaging": "frames"}, {"frames": "all"}, {"frames": 8}, {"scale": 4}, {"scene_flow": "exact"},
     {"metrics": ["psnr_y"]}, {"degradation": {"name": "bicubic", "path": "uint8"}}, {"window": 16}, {"trim": 2},
     {"luma": "opencv_i420"}, {"channel": "luma"}, {"flow": "raft"}, {"mask": "ruder"}, {"block": {"clips": ["a"]}}],
)  # fmt: skip
def test_every_switch_changes_the_hash(make_protocol, change):
    assert make_protocol(**change).hash != make_protocol().hash


def test_the_class_behind_a_degradation_is_no_switch(make_protocol):
    assert make_protocol(degradation={"_target_": "a.B", "name": "x"}) == make_protocol(degradation={"name": "x"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"luma": "full_range"}, "protocol.luma=full_range: use bt601_studio"),
        ({"averaging": "median"}, "protocol.averaging=median: use clips or frames"),
        ({"metrics": ["psnr"]}, "unknown 'psnr'; known are psnr_rgb"),
        ({"metrics": []}, "protocol.metrics is empty"),
        ({"crop": -1}, "protocol.crop=-1"),
        ({"window": 0}, "protocol.window=0: use 1 or more"),
        ({"frames": "some"}, "protocol.frames=some: use convention, all, or how many"),
        ({"colour": "red"}, r"unknown switches \['colour'\]"),
    ],
)
def test_refuses_what_it_does_not_know(make_protocol, change, message):
    with pytest.raises(ConfigError, match=message):
        make_protocol(**change)


def test_refuses_a_protocol_that_leaves_a_switch_open():
    node = shipped()["vsrbench"]
    del node["switches"]["crop"]
    with pytest.raises(ConfigError, match=r"missing switches \['crop'\]"):
        select(node, "vid4", BI, 4)


def test_an_unknown_switch_on_the_command_line_is_refused():
    with pytest.raises(Exception, match="colour"):
        compose(["method=bicubic", "protocol.colour=red"], verb="eval")
