"""Replaying recordings of released code: equal within the tolerance, and nothing broken passes."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vsrbench import verify
from vsrbench.config import compose
from vsrbench.errors import ConfigError, DataError

GOLDEN = Path(__file__).parent / "golden"
DGAF = ["method=dgaf", "variant=released", "size=tiny"]
STABLE = ["method=stablevsr", "variant=released", "size=tiny"]
RUNS = {"dgaf_infer": DGAF, "dgaf_train": DGAF, "stablevsr_infer": STABLE, "stablevsr_train": STABLE}
TRAINED = {"dgaf_train": 322, "stablevsr_train": 336}  # tensors of the trained part


def run(*overrides: str) -> None:
    verify.run(compose([*overrides], verb="verify"))


@pytest.mark.parametrize("name", RUNS)
def test_a_method_equals_its_released_code(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*RUNS[name], f"reference={GOLDEN / name}")
    told = capsys.readouterr().out
    assert "all within" in told and "not replayed" not in told
    assert all(tensor in told for tensor in load_file(GOLDEN / name / "trace.safetensors"))
    assert told.count(" weights_after.") == TRAINED.get(name, 0)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for name in RUNS:
        shutil.copytree(GOLDEN / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file", "tensor"),
    [
        ("dgaf_infer", "trace", "guide_s0_f1_up14"),
        ("dgaf_infer", "trace", "timesteps"),
        ("dgaf_infer", "inputs", "flow_backward"),
        ("dgaf_infer", "weights", "dgafnet.dgafnet_down_blocks.0.bias"),
        ("dgaf_train", "trace", "s1.loss"),
        ("dgaf_train", "weights_after", "dgafnet.conv_in_condition.bias"),
        ("stablevsr_infer", "trace", "tcm_s1_f2_mid"),
        ("stablevsr_infer", "weights", "controlnet.controlnet_mid_block.bias"),
        ("stablevsr_train", "trace", "s0.guide_rgb"),
        ("stablevsr_train", "inputs", "s1.flow"),
    ],
)
def test_a_tampered_recording_fails(
    copied: Path, name: str, file: str, tensor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / name / f"{file}.safetensors"
    content = load_file(path)
    content[tensor] = content[tensor] + 1
    save_file(content, path)
    with pytest.raises(SystemExit) as stopped:
        run(*RUNS[name], f"reference={copied / name}")
    assert stopped.value.code == 1
    assert "BEYOND" in capsys.readouterr().out


def test_a_tensor_that_is_not_replayed_fails(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "dgaf_infer" / "trace.safetensors"
    save_file({**load_file(path), "surplus": torch.zeros(1)}, path)
    with pytest.raises(SystemExit):
        run(*DGAF, f"reference={copied / 'dgaf_infer'}")
    assert "recorded but not replayed: surplus" in capsys.readouterr().out


@pytest.mark.parametrize(
    "knob",
    ["align=exact", "pick=centre", "neighbours=last_step", "in_pair=false", "rescale=2", "rescale_mode=bicubic"],
)
def test_the_printed_variants_knobs_do_not_pass(knob: str) -> None:
    """Every switch of the released variant matters to the recording."""
    with pytest.raises((SystemExit, DataError)):
        run(*DGAF, f"method.{knob}", f"reference={GOLDEN / 'dgaf_infer'}")


@pytest.mark.parametrize(
    "knob", ["align=exact", "guidance=x_t", "compensation=none", "strategy=unidirectional", "guidance_precision=bf16"]
)
def test_stablevsrs_knobs_do_not_pass(knob: str) -> None:
    with pytest.raises((SystemExit, DataError)):
        run(*STABLE, f"method.{knob}", f"reference={GOLDEN / 'stablevsr_infer'}")


def test_what_cannot_be_replayed_is_told() -> None:
    with pytest.raises(ConfigError, match="reference=DIR"):
        run(*DGAF)
    with pytest.raises(ConfigError, match="variant=paper follows the text: add variant=released"):
        run("method=dgaf", "size=tiny", f"reference={GOLDEN / 'dgaf_infer'}")
    with pytest.raises(ConfigError, match=r"trajectory=true is ours"):
        run(*DGAF, "module.trajectory=true", f"reference={GOLDEN / 'dgaf_train'}")
    with pytest.raises(ConfigError, match="method=bicubic has no released code"):
        run("method=bicubic", "reference=x")
    with pytest.raises(ConfigError, match="is a recording of stablevsr_infer, not of dgaf"):
        run(*DGAF, f"reference={GOLDEN / 'stablevsr_infer'}")
    with pytest.raises(DataError, match=r"is no recording: it has no config\.json"):
        run(*DGAF, "reference=/")
