"""experiments/: every file composes, every printed row has one, and a file sets what its row is about."""

import re
from collections import Counter
from functools import cache
from typing import Any

import pytest
from omegaconf import OmegaConf

from vsrbench import experiments, published
from vsrbench.command_line import expand_arguments, home
from vsrbench.config import compose
from vsrbench.errors import ConfigError
from vsrbench.evaluation import protocol
from vsrbench.experiment_run import SHORT

ROOT = home() / "conf" / "experiments"


def found(pattern: str = "**/*") -> list[str]:
    """What follows ``experiments=``, for every printed row: ``FILE``, or ``FILE row=ROW``."""
    return [
        f"{name} row={row}" if row else name
        for name in experiments.names(ROOT, pattern)
        for row in experiments.rows(ROOT, name) or [""]
    ]


NAMES = found()
DGAF, STABLE, VIDEO = found("dgaf/*"), found("stablevsr/*"), found("videogigagan/*")
OTHERS = (
    "dgaf/f5",
    "dgaf/literal_st8",
    "stablevsr/f6",
    "stablevsr/fewstep",
    "stablevsr/t1",
)  # figures, a sweep, halves of a table
PAPERS = {"dgaf": "dgaf_vsr", "stablevsr": "stablevsr"}
TABLES = {  # what a name begins with: the table whose rows the files are for
    "dgaf/t1_reds4": "table1_reds4", "dgaf/t1_vid4": "table1_vid4", "dgaf/t2": "table2", "dgaf/t3": "table3",
    "dgaf/st3_x8": "s_table3_x8", "dgaf/st3_x16": "s_table3_x16", "dgaf/st4": "s_table4", "dgaf/st5": "s_table5",
    "dgaf/st6": "s_table6", "dgaf/st7": "s_table7", "dgaf/st8": "s_table8",
    "stablevsr/t2": "table2", "stablevsr/t3": "table3", "stablevsr/t4": "table4",
}  # fmt: skip


def within(name: str, *tables: str) -> bool:
    """Whether a row is of one of these tables: in its file, or in a file of its own, ``TABLE_ROW``."""
    return any(name.split()[0] == table or name.startswith(f"{table}_") for table in tables)


@cache
def composed(name: str) -> Any:
    """The row's configuration as plain dicts, with what it needs left open."""
    file = name.split()[0]
    quoted = "quoted_only" in (ROOT / f"{file}.yaml").read_text()
    cfg = compose(
        [*f"experiments={name}".split(), *(["published.quoted_only=null"] if quoted else [])], verb="smoke_test"
    )
    return OmegaConf.to_container(cfg, resolve=True)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, value in node.items() for k, v in flat(value, f"{prefix}.{key}".lstrip(".")).items()}


def differences(name: str, other: str) -> dict[str, Any]:
    """Settings of a file that another has not or has otherwise; what it is called and quotes does not count."""
    ours, theirs = flat(composed(name)), flat(composed(other))
    changed = {key: value for key, value in ours.items() if key not in theirs or theirs[key] != value}
    return {key: value for key, value in changed.items() if key.split(".")[0] not in ("published", "rows", "row")}


def row_of(name: str) -> dict[str, published.Value]:
    reference = composed(name)["published"]
    return published.row(reference["paper"], reference["table"], reference["row"])


# --- all files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", experiments.names(ROOT))
def test_every_file_composes_and_says_how_it_is_run(name: str) -> None:
    first = next(iter(experiments.rows(ROOT, name)), None)
    command = composed(f"{name} row={first}" if first else name)["command"]
    assert command in SHORT
    text = (ROOT / f"{name}.yaml").read_text()
    assert f"\n# python -m vsrbench.{command} experiments={name}" in text


def test_what_files_share_is_no_experiment() -> None:
    shared = [path.stem for path in (ROOT / "dgaf").glob("_*.yaml")]
    assert shared and not {f"dgaf/{stem}" for stem in shared} & set(NAMES)
    [expanded] = expand_arguments(["experiments=dgaf/*"], "eval")
    assert expanded == "experiments=" + ",".join(experiments.names(ROOT, "dgaf/*"))


@pytest.mark.parametrize(("prefix", "table"), TABLES.items())
def test_every_printed_row_has_exactly_one_file(prefix: str, table: str) -> None:
    references = [composed(name)["published"] for name in NAMES if within(name, prefix)]
    paper = PAPERS[prefix.split("/")[0]]
    assert {(r["paper"], r["table"]) for r in references} == {(paper, table)}
    assert Counter(r["row"] for r in references) == Counter(published.rows(paper, table))


@pytest.mark.parametrize(("half", "column"), [("reds4", "reds_psnr"), ("vimeo", "vimeo_psnr")])
def test_every_printed_row_of_a_half_has_exactly_one_file(half: str, column: str) -> None:
    """StableVSR's Table 1 prints Vimeo-90K and REDS side by side, with gaps."""
    rows = published.rows("stablevsr", "table1")
    printed = [r for r in rows if published.row("stablevsr", "table1", r)[column].printed is not None]
    references = [composed(name)["published"] for name in STABLE if within(name, f"stablevsr/t1_{half}")]
    assert {(r["paper"], r["table"]) for r in references} == {("stablevsr", "table1")}
    assert Counter(r["row"] for r in references) == Counter(printed)


def test_no_file_is_for_anything_else() -> None:
    assert [name for name in DGAF + STABLE if not within(name, *TABLES, *OTHERS)] == []


# --- rows of this framework's methods --------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in DGAF if within(n, "dgaf/t3", "dgaf/st7", "dgaf/st8")])
def test_an_ablation_sets_what_its_row_prints_and_nothing_else(name: str) -> None:
    row = row_of(name)
    printed: dict[str, Any] = {}
    if "factor" in row:
        printed = {"method.rescale": row["factor"].value}
    if "interp" in row:
        printed = {"method.rescale_mode": row["interp"].value}
        printed["method.guidance"] = "dense" if row["dense"].value else "encoder"
    if "inpair" in row:
        printed = {"method.in_pair": row["inpair"].value, "method.flow_upscaling": row["upscaling"].value}
    settings = flat(composed(name))
    assert {key: settings[key] for key in printed} == printed
    if "flow" in row:
        assert settings["flow._target_"].lower().endswith(str(row["flow"].value).lower())
    own = {key: value for key, value in differences(name, "dgaf/t1_reds4_dgaf").items() if "flow." not in key}
    assert own.items() <= printed.items() and len(own) <= 1


@pytest.mark.parametrize("row", ["s1", "s2_5", "s6_4"])
def test_table_8_by_the_letter_differs_from_table_8_in_the_frames_for_flow_alone(row: str) -> None:
    own = differences(f"dgaf/literal_st8 row={row}", f"dgaf/st8 row={row}")
    assert own == {"method.flow_factor": "rescale"}


def test_rows_of_the_papers_own_configuration_are_the_same_run() -> None:
    for name in ("dgaf/t3_case4", "dgaf/st7_case5", "dgaf/st8 row=s4", "dgaf/f5_dgaf"):
        assert differences(name, "dgaf/t1_reds4_dgaf") == {}
    for name in ("stablevsr/t2_bidirectional", "stablevsr/t4_proposed", "stablevsr/f6 row=50"):
        assert differences(name, "stablevsr/t1_reds4_stablevsr") == {}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("t2_single_frame", {"method.strategy": "single_frame", "untrained": True}),
        ("t2_auto_regressive", {"method.strategy": "auto_regressive"}),
        ("t2_unidirectional", {"method.strategy": "unidirectional"}),
        ("t4_baseline", {"method.strategy": "single_frame", "untrained": True}),
        ("t4_no_x0", {"method.guidance": "x_t"}),
        ("t4_no_mc", {"method.compensation": "none"}),
        ("t4_no_rgb", {"method.compensation": "latent", "method.tcm_input": "latent"}),
        *((f"f6 row={steps}", {"sampler.steps": steps}) for steps in (10, 20, 30, 40, 60, 70, 80, 90, 100)),
        ("fewstep_ddim", {"sampler.kind": "ddim", "sampler.steps": 10}),
        ("fewstep_dpmpp", {"sampler.kind": "dpmpp", "sampler.steps": 10}),
    ],
)
def test_stablevsrs_rows_set_what_they_are_called_for_and_nothing_else(name: str, settings: dict[str, Any]) -> None:
    own = differences(f"stablevsr/{name}", "stablevsr/t1_reds4_stablevsr")
    assert {key: value for key, value in own.items() if not key.startswith("method.sampler.")} == settings


def test_figure_6_is_quoted_in_words_for_it_prints_no_number() -> None:
    quoted = published.quote(composed("stablevsr/f6 row=20")["published"])
    assert (
        quoted is not None and quoted["values"] == {} and "NIQE and worsen PSNR" in quoted["claims"]["figure6"]["text"]
    )


def test_paper_size_and_data() -> None:
    for name in DGAF:
        cfg = composed(name)
        assert cfg["size"] == "paper" or cfg["method"]["name"] == "bicubic", name
        assert cfg["command"] == "bench" or cfg["data"]["set"] == (
            "vid4" if "vid4" in name else "videolq" if within(name, "dgaf/t2") else "reds"
        )
    for name in STABLE:
        cfg = composed(name)
        assert cfg["size"] == "paper" or cfg["method"]["name"] == "bicubic", name
        assert cfg["command"] == "bench" or cfg["data"]["set"] == ("vimeo" if "vimeo" in name else "reds")


@pytest.mark.parametrize("scale", [8, 16])
def test_larger_scales_rescale_by_the_scale_and_make_their_frames(scale: int) -> None:
    """Supp. Sec. 5: s is 8 and 16 for x8 and x16."""
    cfg = composed(f"dgaf/st3_x{scale}_dgaf")
    assert (cfg["scale"], cfg["method"]["rescale"], cfg["data"]["lr"]) == (scale, scale, "made")
    assert protocol.from_settings(cfg)[0].published == f"dgaf_reds4_x{scale}"


def test_the_command_line_wins_over_the_file() -> None:
    cfg = compose(["experiments=dgaf/t3_case1", "size=tiny", "data=sample"], verb="eval")
    assert (cfg.size, cfg.data.set, cfg.prior.random, cfg.sampler.steps) == ("tiny", "sample", True, 2)
    assert cfg.method.guidance == "encoder"


def test_the_guide_of_a_row_is_trained_by_the_same_file() -> None:
    cfg = compose(["experiments=dgaf/t3_case2"], verb="train")
    assert (cfg.method.rescale_mode, cfg.data.splits.train.partition) == ("none", "reds4_train")
    assert cfg.train.effective_batch == 32
    cfg = compose(["experiments=stablevsr/t1_vimeo_stablevsr"], verb="train")
    assert (cfg.data.splits.train.partition, cfg.train.crop, cfg.trainer.max_steps) == ("sep_trainlist", 64, 20000)


# --- rows of other software ------------------------------------------------------------------------


def test_rows_of_other_software_ask_for_its_frames() -> None:
    for name in DGAF + STABLE:
        cfg, title = composed(name), str((composed(name)["published"] or {}).get("row"))
        foreign = cfg["method"]["name"] == "bicubic" and title != "Bicubic" and cfg["command"] == "eval"
        assert ("predictions" in cfg["needs"]) == foreign, name
        assert not foreign or title == "None" or title in cfg["needs"]["predictions"]


def test_without_frames_such_a_row_is_refused_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["experiments=dgaf/t1_vid4", "row=rvrt"], verb="eval")
    assert str(caught.value).startswith("the setting 'predictions' has no value: add predictions=... to the command (")
    assert "RVRT" in str(caught.value)
    assert compose(["experiments=dgaf/t1_vid4", "row=rvrt", "predictions=x"], verb="eval").predictions == "x"


def test_the_other_papers_rows_of_a_method_that_is_here_are_runs_of_its_published_weights() -> None:
    for name in ("t1_reds4", "t1_vid4", "f5"):
        cfg = composed(f"dgaf/{name}_stablevsr")
        assert (cfg["method"]["name"], cfg["size"], cfg["variant"]) == ("stablevsr", "paper", "released")
    assert (composed("dgaf/st4_stablevsr")["method"]["name"], composed("dgaf/st4_stablevsr")["task"]) == (
        "stablevsr", "memory",
    )  # fmt: skip


def test_memory_of_other_software_can_only_be_quoted() -> None:
    with pytest.raises(published.QuotedOnlyError, match=r"24.42 GB; STAR is not part of this framework"):
        compose(["experiments=dgaf/st4", "row=star"], verb="bench")


def test_a_row_is_chosen_among_those_of_its_file() -> None:
    with pytest.raises(ConfigError, match="row=NAME is missing: use one of edvr, mgldvsr, rvrt, star, uav"):
        compose(["experiments=dgaf/t1_vid4"], verb="eval")
    with pytest.raises(ConfigError, match="row=vrt is no row of this experiment: use one of edvr, mgldvsr"):
        compose(["experiments=dgaf/t1_vid4", "row=vrt"], verb="eval")
    with pytest.raises(ConfigError, match="row=rvrt chooses a row of an experiment that has several"):
        compose(["row=rvrt"], verb="eval")


def test_a_row_that_is_a_file_now_is_answered_with_its_new_spelling() -> None:
    with pytest.raises(ConfigError, match=r"is a file of its own now: use experiments=dgaf/t1_vid4_basicvsr$"):
        compose(["experiments=dgaf/t1_vid4", "row=basicvsr"], verb="eval")


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("dgaf/t1_reds4_edvr", "dgaf/t1_reds4 row=edvr"),
        ("dgaf/st5_ogwm_up", "dgaf/st5 row=ogwm_up"),
        ("adapter/t3_reds_upscale_on", "adapter/t3_reds row=upscale_on"),
        ("adapter/t1_frames_16", "adapter/t1_frames row=16"),
        ("stablevsr/f6_*", "stablevsr/f6 row=10,20,30,40,50,60,70,80,90,100"),
    ],
)
def test_a_row_that_was_a_file_is_answered_with_its_new_spelling(name: str, spelling: str) -> None:
    with pytest.raises(ConfigError, match=f"use experiments={re.escape(spelling)}$"):
        compose([f"experiments={name}"], verb="eval")


def test_as_many_printed_rows_as_ever_are_within_reach() -> None:
    """Rows in files of their own and rows of files that hold several."""
    assert len(NAMES) == 347
    quoted = {(r["paper"], r["table"], r["row"]) for n in NAMES if (r := composed(n)["published"]) and r.get("table")}
    assert len(quoted) == 198
    assert {paper for paper, *_ in quoted} == {"dgaf_vsr", "stablevsr", "sateco", "videogigagan", "adapter_thesis"}


def test_a_wrong_reference_is_refused_with_near_names() -> None:
    with pytest.raises(ConfigError, match="near are case 1"):
        compose(["experiments=dgaf/t3_case1", "published.row=case1"], verb="eval")


# --- VideoGigaGAN ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("prefix", "table"), [("t1", "table1"), ("t3", "table3"), ("f6", "figure6")])
def test_videogigagans_rows_have_exactly_one_file_each(prefix: str, table: str) -> None:
    references = [composed(name)["published"] for name in VIDEO if within(name, f"videogigagan/{prefix}")]
    assert {(r["paper"], r["table"]) for r in references} == {("videogigagan", table)}
    assert Counter(r["row"] for r in references) == Counter(published.rows("videogigagan", table))


@pytest.mark.parametrize("place", ["reds4", "vimeo_bi", "vid4_bi", "udm10_bd", "vimeo_bd", "vid4_bd"])
def test_table_2_has_a_file_for_each_printed_cell(place: str) -> None:
    column = f"{place.removesuffix('_bd') if 'udm10' in place else place}_psnr"
    rows = published.rows("videogigagan", "table2")
    printed = [r for r in rows if published.row("videogigagan", "table2", r)[column].printed is not None]
    names = [name for name in VIDEO if within(name, f"videogigagan/t2_{place}")]
    assert Counter(composed(name)["published"]["row"] for name in names) == Counter(printed)
    for name in names:
        cfg = composed(name)
        kind = "blur_down" if place.endswith("bd") else "bicubic"
        assert (cfg["data"]["set"], cfg["degradation"]["name"]) == (place.split("_")[0].replace("reds4", "reds"), kind)


@pytest.mark.parametrize("ladder", ["base", "temporal", "propagation", "antialias", "hf"])
def test_the_ladder_sets_its_rung_and_nothing_else(ladder: str) -> None:
    own = differences(f"videogigagan/t1 row={ladder}", "videogigagan/t2_reds4_videogigagan")
    assert own == ({} if ladder == "hf" else {"method.ladder": ladder})


def test_videogigagan_trains_on_each_data_set_by_the_same_file() -> None:
    for row, partition in (
        ("reds4", "videogigagan_train"),
        ("vimeo_bi", "sep_trainlist"),
        ("vimeo_bd", "sep_trainlist"),
    ):
        cfg = compose([f"experiments=videogigagan/t2_{row}_videogigagan", "stage=image"], verb="train")
        assert (cfg.data.splits.train.partition, cfg.trainer.max_steps) == (partition, 100000)
        assert cfg.degradation.name == ("blur_down" if row.endswith("bd") else "bicubic")


def test_videogigagans_other_rows() -> None:
    assert composed("videogigagan/x8")["scale"] == composed("videogigagan/x8")["method"]["scale"] == 8
    widths = {kind: composed(f"videogigagan/t3_basicvsrpp_{kind}")["method"] for kind in ("small", "medium", "large")}
    assert [(m["mid_channels"], m["num_blocks"]) for m in widths.values()] == [(64, 7), (256, 25), (384, 25)]
    for name in VIDEO:
        cfg, row = composed(name), str((composed(name)["published"] or {}).get("row"))
        foreign = cfg["method"]["name"] == "bicubic" and row not in ("Bicubic", "RVRT + LPIPS")
        assert ("predictions" in cfg["needs"]) == foreign, name
        assert not foreign or row in cfg["needs"]["predictions"]
        assert cfg["size"] == "paper" or cfg["method"]["name"] == "bicubic", name


# --- protocols -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("mini/", "compare/"))])
def test_a_printed_row_is_evaluated_under_the_protocol_it_was_printed_under(name: str) -> None:
    cfg = composed(name)
    reference = cfg["published"] or {}
    if cfg["command"] != "eval" or "table" not in reference:
        return
    [own] = protocol.from_settings(cfg)
    printed = {value.protocol for value in row_of(name).values()}
    assert own.published in printed or printed == {"stablevsr_crop512"}, name  # its values are those of whole frames


# --- SATeCo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "table"),
    [("t1_reds4", "table1_reds4"), ("t1_vid4", "table1_vid4"), ("t2", "table2"), ("t3", "table3")],
)
def test_every_row_of_satecos_tables_has_exactly_one_file(prefix: str, table: str) -> None:
    references = [composed(name)["published"] for name in found("sateco/*") if within(name, f"sateco/{prefix}")]
    assert {(r["paper"], r["table"]) for r in references} == {("sateco", table)}
    assert Counter(r["row"] for r in references) == Counter(published.rows("sateco", table))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("t2_a", {"method.guidance.unet": "zero_conv", "method.guidance.vae": "zero_conv"}),
        ("t2_b", {"method.guidance.unet": "sfa", "method.guidance.vae": "zero_conv"}),
        ("t2_c", {"method.guidance.vae": "zero_conv"}),
        ("t2_d", {}),
        ("t3_pixelshuffle", {"method.upscaler.kind": "pixelshuffle"}),
        ("t3_ours", {}),
        ("t3_w0", {"method.refiner.w": 0.0}),
        ("t3_w05", {}),
        ("t3_w1", {"method.refiner.w": 1.0}),
        ("w_sweep", {"data.splits.test.partition": "redsval4"}),
    ],
)
def test_satecos_rows_set_what_they_are_called_for_and_nothing_else(name: str, settings: dict[str, Any]) -> None:
    found = differences(f"sateco/{name}", "sateco/t1_reds4_sateco")
    switches = {key for key in found if key.startswith("protocol")}
    assert {key: value for key, value in found.items() if key not in switches} == settings
    assert bool(switches) == (name == "w_sweep")  # the paper's protocol evaluates no validation set
    row = row_of(f"sateco/{name}") if composed(f"sateco/{name}")["published"] else {}
    own = composed(f"sateco/{name}")["method"]["guidance"]
    ticks = {"unet_sfa": "sfa" in own["unet"], "unet_tfa": "tfa" in own["unet"]}
    ticks |= {"vae_sfa": "sfa" in own["vae"], "vae_tfa": "tfa" in own["vae"]}
    assert all(row[key].value is ticks[key] for key in ticks if key in row)


def test_sateco_trains_for_each_test_set_on_its_own_data() -> None:
    cfg = compose(["experiments=sateco/t1_reds4_sateco", "stage=all"], verb="train")
    assert (cfg.data.splits.train.partition, cfg.train.frames, cfg.stage) == ("sateco_train", 6, "all")
    cfg = compose(["method=sateco", "size=paper", "recipe=sateco/vimeo"], verb="train")
    assert cfg.data.splits.train.partition == "sep_trainlist"
