import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsrbench import command_line, config, help
from vsrbench.command_line import expand_arguments
from vsrbench.config import build, build_method, compose
from vsrbench.errors import ConfigError, WeightsError

CONF = command_line.home() / "conf"
REPOSITORY = Path(__file__).resolve().parents[1]


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def refused(*overrides: str, verb: str = "train") -> str:
    with pytest.raises(ConfigError) as caught:
        compose(overrides, verb)
    return str(caught.value)


# --- composing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", options("method"))
def test_every_method_size_and_data_set_composes(method: str) -> None:
    sizes = compose([f"method={method}"], verb="eval").supports.size or options("size")
    for size, data in itertools.product(sizes, options("data")):
        cfg = compose([f"method={method}", f"size={size}", f"data={data}"], verb="eval")
        assert (cfg.method.name, cfg.size, cfg.data.set) == (method, size, data)


@pytest.mark.parametrize("method", ["dgaf", "stablevsr"])
@pytest.mark.parametrize("size", ["tiny", "mini", "paper"])
def test_the_released_variant_composes_over_every_size(method: str, size: str) -> None:
    cfg = compose([f"method={method}", f"size={size}", "variant=released"])
    assert cfg.method.align == "released" and cfg.module.posterior == "sample" and cfg.weights is None
    assert cfg.optimiser._target_ == "torch.optim.AdamW" and cfg.trainer.gradient_clip_val == 1.0
    assert cfg.flow.get("batch_statistics", True), "RAFT, where the size has it, is left in train mode"


@pytest.mark.parametrize("group", ["sampler", "degradation", "protocol", "trainer", "logger", "debug", "flow"])
def test_every_option_of_a_group_composes(group: str) -> None:
    for option in options(group):
        compose([f"{group}={option}", "size=paper"], verb="eval" if group == "protocol" else "train")


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmpp"])
@pytest.mark.parametrize("method", ["ldm", "dgaf", "stablevsr"])
def test_sampler_choice_keeps_what_the_size_set(method: str, kind: str) -> None:
    before = compose([f"method={method}", "size=mini"]).sampler
    after = compose([f"method={method}", "size=mini", f"sampler={kind}"]).sampler
    assert after == {**before, "kind": kind}
    assert compose([f"method={method}", f"sampler={kind}", "sampler.steps=7"]).sampler.steps == 7


def test_flow_follows_the_size_and_can_be_replaced() -> None:
    assert compose(["size=tiny"]).flow._target_.endswith("DIS")
    assert compose(["size=paper"]).flow._target_.endswith("RAFT")
    assert compose(["size=paper", "flow=exact"]).method.flow._target_.endswith("Exact")


def test_every_experiment_composes() -> None:
    for file in sorted((CONF / "experiments").glob("mini/*.yaml")):  # the others: tests/test_experiments.py
        name = f"{file.parent.name}/{file.stem}"
        cfg = compose(
            [f"experiments={name}"], verb=compose([f"experiments={name}"], verb="smoke_test").command or "train"
        )
        assert cfg == compose([f"experiment={name}"], verb=cfg.verb), "experiment= means experiments="


def test_the_command_line_comes_last() -> None:
    assert compose(["size=paper", "train.crop=24", "optimiser.lr=1"]).train.crop == 24
    assert compose(["debug=limit", "trainer.max_steps=9"]).trainer.max_steps == 9


@pytest.mark.parametrize(
    ("method", "sampler", "rate", "sample", "own"),
    [
        # DGAF-VSR Sec. 5.1 and Supp. 7
        ("dgaf", ("ddpm", 50), 5e-5, (64, 32, True), {"rescale": 4, "flow_input": "nearest", "guidance": "dense"}),
        # StableVSR Sec. 5.1, Eq. 8, Table 4's last row
        ("stablevsr", ("ddpm", 50), 1e-5, (64, 32, True), {"guidance": "x0", "compensation": "pixel", "refresh": 1}),
        # the thesis, 4.1.1 and 4.1.4; Table 4.5's first row
        ("adapter", ("ddim", 30), 1e-7, (80, 1, False), {"condition": True, "window": 8, "start": "gaussian"}),
    ],
)
def test_papers_values_are_the_defaults_at_size_paper(
    method: str, sampler: tuple[str, int], rate: float, sample: tuple[int, int, bool], own: dict[str, object]
) -> None:
    cfg = compose([f"method={method}", "size=paper"])
    assert (cfg.sampler.kind, cfg.sampler.steps, cfg.sampler.start, cfg.sampler.low_band) == (*sampler, "noise", 0)
    assert (cfg.optimiser._target_, cfg.optimiser.lr) == ("torch.optim.Adam", rate)
    assert (cfg.optimiser.betas, cfg.trainer.max_steps) == ([0.9, 0.999], 20000)
    assert (cfg.train.crop, cfg.train.effective_batch, cfg.train.flip) == sample
    assert {name: cfg.method[name] for name in own} == own
    assert {term: weight for term, weight in cfg.module.objective.items() if weight} == {"prediction": 1.0}


def test_composing_inside_a_running_hydra_command() -> None:
    first = compose(["method=bicubic"], verb="eval")
    assert compose(["method=bicubic"], verb="eval") == first


# --- early checks --------------------------------------------------------------------------------


def test_unsupported_variant_scale_size_and_stage() -> None:
    assert refused("method=ldm", "variant=released") == "method=ldm has no variant=released: use one of paper"
    assert refused("scale=3") == "method=dgaf has no scale=3: use one of 4, 8, 16"
    assert refused("stage=vae") == "stage=vae is not one of default, guide"
    assert refused("method=bicubic", "scale=5", verb="eval").endswith("use one of 2, 3, 4, 8, 16")
    compose(["method=bicubic", "scale=3"], verb="eval")
    compose(["method=ldm", "stage=vae"])


def test_nothing_to_train() -> None:
    assert "method=bicubic has nothing to train" in refused("method=bicubic")


def test_precision() -> None:
    assert refused("inference.precision=fp64") == "inference.precision=fp64: use auto, fp32, bf16 or fp16"


def test_a_setting_without_a_value_is_named() -> None:
    assert refused("data.root=???") == "the setting 'data.root' has no value: add data.root=... to the command"
    assert "'tags'" in refused("tags=${oc.env:VSRBENCH_NO_SUCH_VARIABLE}")


def test_bad_values_reach_the_user_as_one_error() -> None:
    """What an object refuses while it is built comes out as itself, not wrapped."""
    with pytest.raises(ConfigError, match=r"sampler\.steps=0: give a whole number from 1 to 1000"):
        build(compose(["sampler.steps=0"]).sampler)
    with pytest.raises(ConfigError, match=r"method\.flow_input=lanczos"):
        build(compose(["size=tiny", "method.flow_input=lanczos"]).method)


def test_paper_size_without_weights_says_where_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VSRBENCH_PRIOR", raising=False)
    with pytest.raises(WeightsError, match=r"prior\.path=DIR .* prior\.random=true"):
        build(compose(["method=ldm", "size=paper"]).method)


def test_environment_names_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSRBENCH_PRIOR", "/data/upscaler")
    monkeypatch.setenv("VSRBENCH_RAFT", "/data/raft.pth")
    cfg = compose(["size=paper"])
    assert (cfg.prior.path, cfg.flow.weights) == ("/data/upscaler", "/data/raft.pth")


# --- what users type -----------------------------------------------------------------------------

PATHS = [
    "a b.mp4", "it's.mp4", 'say "hi".mp4', "./x=y.mp4", "[0]{1}(2).mp4", "a,b.mp4", "漢字 ü.mp4", "a\\b", "a\\'b",
    "end\\", "$HOME", "${seed}", "\\${seed}", "#1", "null", "true", "12", "1e3", " lead", "a:b", "%x", "*.png", "'",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_odd_file_names_reach_the_command_unchanged(path: str) -> None:
    cfg = compose([path, "out put.mp4", "method=bicubic"], verb="upscale")
    assert (cfg.input, cfg.output) == (path, "out put.mp4")


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_any_printable_name_is_quoted_so_that_hydra_reads_it_back(path: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    value = OverridesParser.create().parse_override(f"input={command_line._quoted(path)}").value()
    assert OmegaConf.create({"input": str(value)}).input == path


@pytest.mark.parametrize("name", ["gpu", "cuda", "cuda:3", "mps", "foo", "cpu:x"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert config.device("auto") == config.device("cpu") == "cpu"
    with pytest.raises(ConfigError, match=f"inference.device={name} is not there: this machine has cpu"):
        config.device(name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert config.device("auto") == config.device("cuda") == "cuda" and config.device("cuda:1") == "cuda:1"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore")])
def test_memory_that_ran_out_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), config.one_line():
        raise error
    told = capsys.readouterr().err
    assert told.startswith("error: memory ran out: upscale in smaller pieces") and told.count("\n") == 1
    with pytest.raises(RuntimeError, match="else"), config.one_line():
        raise RuntimeError("else")


@pytest.mark.parametrize("folder", ["数据", "a#b", "a&b", "a;b!", "a(1)", "a,b", "it's", "a=b", "[x]", "plain"])
@pytest.mark.parametrize("written", ["{root}/{folder}", "~/{folder}", '"~/{folder}"'])
def test_a_folder_of_any_name_is_taken_as_a_value(
    folder: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / folder).mkdir()
    if written.startswith('"') and set(folder) & set(",'"):
        return  # in quotes of its own: Hydra's rules hold
    if written == "~/{folder}" and set(folder) & set(",'"):
        written = "{root}/{folder}"
    value = written.format(root=tmp_path, folder=folder)
    assert compose([f"data.root={value}", "data=reds"], verb="data").data.root == str(tmp_path / folder)


@pytest.mark.parametrize(
    "argument", ["seed=1,2", "method=dgaf,bicubic", "protocol=[a,b]", "data.root=/nosuch,/other", "name='a b'", "~seed"]
)
def test_sweeps_lists_and_quoted_values_stay_as_they_are(argument: str) -> None:
    assert argument in expand_arguments([argument], "train")


def test_an_existing_file_with_an_equals_sign_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "x=y.mp4" in expand_arguments(["x=y.mp4", "out.mp4"], "upscale")
    (tmp_path / "x=y.mp4").touch()
    assert "input='x=y.mp4'" in expand_arguments(["x=y.mp4", "out.mp4"], "upscale")
    assert "x=y.mp4" in expand_arguments(["x=y.mp4"], "train"), "only paths are taken that way"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("upscale", ["in.mp4", "out.mp4", "method=bicubic"]),
        ("upscale", ["same", "same"]),
        ("train", ["experiment=mini/dgaf", "-m", "seed=1,2"]),
        ("data", ["check", "data=reds"]),
        ("eval", ["--info", "searchpath", "+new=1", "~tags"]),
    ],
)
def test_expanding_twice_changes_nothing(verb: str, arguments: list[str]) -> None:
    once = expand_arguments(arguments, verb)
    assert expand_arguments(once, verb) == once


def test_words_become_keys() -> None:
    expanded = expand_arguments(["in.mp4", "seed=1", "out.mp4"], "upscale")
    assert expanded[:3] == ["seed=1", "input='in.mp4'", "output='out.mp4'"]
    assert "task='check'" in expand_arguments(["check"], "data")


def test_flags_and_their_values_are_left_to_hydra() -> None:
    arguments = ["--info", "defaults", "--multirun", "-cd", "folder", "--cfg", "job"]
    assert expand_arguments([*arguments, "seed=1"], "train") == ["seed=1", *arguments]
    assert expand_arguments(["in.mp4", "-m", "out.mp4"], "upscale")[-1] == "-m"


def test_words_too_many() -> None:
    with pytest.raises(ConfigError, match="cannot use 'dgaf': settings are written key=value"):
        expand_arguments(["dgaf"], "train")
    with pytest.raises(ConfigError, match="cannot use 'c'"):
        expand_arguments(["a", "b", "c"], "upscale")


def test_experiment_patterns() -> None:
    found = expand_arguments(["experiments=mini/*"], "train")[0].removeprefix("experiments=").split(",")
    assert "mini/dgaf" in found
    assert found == sorted(found)
    with pytest.raises(ConfigError, match=r"experiments=none/\* matches no file"):
        expand_arguments(["experiments=none/*"], "train")


# --- the commands --------------------------------------------------------------------------------


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["train", "eval", "bench"])
def test_both_spellings_of_a_command_print_one_configuration(verb: str, tmp_path: Path) -> None:
    settings = ["method=dgaf", "--cfg", "job", "size=tiny"]
    one = command("vsrbench", verb, *settings, cwd=tmp_path)
    other = command(f"vsrbench.{verb}", *settings, cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    assert f"verb: {verb}" in one.stdout
    assert one.stdout == other.stdout
    assert list(tmp_path.iterdir()) == [], "printing a configuration leaves nothing behind"


def test_errors_of_the_command_line_are_one_line(tmp_path: Path) -> None:
    for arguments in (["vsrbench", "fly"], ["vsrbench.train", "dgaf"], ["vsrbench.train", "scale=3"]):
        told = command(*arguments, cwd=tmp_path)
        assert told.returncode == 2
        assert told.stderr.startswith("error: ")
        assert len(told.stderr.splitlines()) == 1


def test_help_names_every_command_that_exists(tmp_path: Path) -> None:
    from vsrbench.help import VERBS

    told = command("vsrbench", "--help", cwd=tmp_path)
    for verb in VERBS:
        assert f"  {verb} " in told.stdout
        module = command_line.PACKAGE / verb
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), verb


def test_the_help_of_a_command_begins_with_how_it_is_written(tmp_path: Path) -> None:
    told = command("vsrbench.upscale", "--help", cwd=tmp_path)
    assert told.stdout.startswith("usage: vsrbench upscale INPUT OUTPUT [key=value ...]")


def test_composing_loads_nothing_heavy() -> None:
    code = (
        "import sys; from vsrbench.config import compose; compose(['size=paper'])\n"
        "heavy = {'torch', 'torchvision', 'diffusers', 'pytorch_lightning', 'cv2', 'av', 'wandb', 'numpy', 'kornia'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


# --- files of a method ---------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ in which files may be spoiled."""
    shutil.copytree(CONF, tmp_path / "conf")
    for module in (config, command_line, help):
        monkeypatch.setattr(module, "home", lambda: tmp_path)
    return tmp_path / "conf"


def spoil(file: Path, pattern: str) -> None:
    text = re.sub(pattern, "", file.read_text(), count=1, flags=re.MULTILINE)
    assert text != file.read_text()
    file.write_text(text)


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("method/dgaf.yaml", r"^# @package .*\n", "conf/method/dgaf.yaml has no line `# @package _global_`: write it"),
        ("method/dgaf.yaml", r"^  name: .*\n", "has no method.name: write `name: dgaf` below `method:`"),
        ("method/dgaf.yaml", r"^  _target_: .*\n", "conf/method/dgaf.yaml has no method._target_: write `_target_: "),
        ("training/dgaf.yaml", r"^# @package .*\n", "conf/training/dgaf.yaml has no line `# @package _global_`"),
    ],
)
def test_a_file_of_a_method_that_hides_its_settings_is_named(conf: Path, file: str, line: str, says: str) -> None:
    spoil(conf / file, line)
    with pytest.raises(ConfigError) as caught:
        compose(["method=dgaf", "size=tiny"])
    assert says in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=re.escape(says)):
        help.page("train", ["method=dgaf"])
    assert compose(["method=stablevsr", "size=tiny"]).method.name == "stablevsr", "the others go on"


def test_a_method_says_at_which_sizes_it_makes_sense_untrained(conf: Path) -> None:
    spoil(conf / "method" / "dgaf.yaml", r"^  untrained: .*\n")
    with pytest.raises(WeightsError, match="the trained part of method=dgaf size=tiny variant=paper has no weights"):
        build_method(compose(["method=dgaf", "size=tiny"], verb="upscale"))
    assert not list(build_method(compose(["method=bicubic"], verb="upscale")).parameters())


@pytest.mark.parametrize("method", ["dgaf", "stablevsr", "ldm", "sateco", "videogigagan", "adapter", "basicvsrpp"])
def test_no_paper_states_bf16(method: str) -> None:
    """Two of them train on V100 and Quadro RTX 6000, which have none; bf16 is a switch."""
    cfg = compose([f"method={method}", "size=paper"], verb="train")
    plans = cfg.plan or {}
    assert {cfg.trainer.precision, *(plan.precision for plan in plans.values())} == {"32-true"}
    small = compose([f"method={method}", "size=paper", "trainer=1gpu_24g"], verb="train")
    assert small.trainer.precision == "bf16-mixed"


@pytest.mark.parametrize("method", ["dgaf", "stablevsr"])
def test_the_released_trainings_are_in_full_precision(method: str) -> None:
    cfg = compose([f"method={method}", "size=paper", "variant=released", "trainer=1gpu_24g"], verb="train")
    assert cfg.trainer.precision == "bf16-mixed", "asked for by name"
    cfg = compose([f"method={method}", "size=paper", "variant=released"], verb="train")
    assert cfg.trainer.precision == "32-true"
    assert compose(["method=stablevsr", "size=paper"], verb="eval").method.guidance_precision == "fp32"
