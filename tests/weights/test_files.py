"""Weights files of every kind: read, refused, written, and loaded strictly."""

from pathlib import Path

import pytest
import torch
from torch import nn

from vsrbench.errors import WeightsError
from vsrbench.weights.files import Header, read, read_checkpoint, read_headers, write
from vsrbench.weights.report import load_strictly


def test_read_takes_tensors_out_of_their_wrapper(tmp_path: Path) -> None:
    for number, wrap in enumerate(({}, {"params": 0}, {"state_dict": 0, "meta": {}})):
        state = {"a": torch.ones(2)}
        torch.save({key: value or state for key, value in wrap.items()} or state, tmp_path / f"{number}.pth")
        assert torch.equal(read(tmp_path / f"{number}.pth").tensors["a"], torch.ones(2))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_read_refuses_what_is_no_state(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{suffix}"
    with pytest.raises(WeightsError, match="no such file"):
        read(file)
    for content in (b"", b"<html>not found</html>", b"PK\x03\x04 cut", b"hello"):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"weights\.{suffix} cannot be read .*: it may be truncated"):
            read(file)


def test_read_refuses_a_bare_tensor(tmp_path: Path) -> None:
    torch.save(torch.zeros(2), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds a Tensor and no state dict"):
        read(tmp_path / "weights.pth")


def test_load_strictly_copies_or_reports() -> None:
    layer = nn.Linear(2, 1)
    load_strictly(layer, {"weight": torch.ones(1, 2).half(), "bias": torch.zeros(1)}, "file does not hold a layer")
    assert torch.equal(layer.weight, torch.ones(1, 2)) and layer.weight.dtype == torch.float32
    with pytest.raises(WeightsError) as told:
        load_strictly(layer, {"weight": torch.ones(2, 2), "extra": torch.zeros(1)}, "file does not hold a layer")
    assert str(told.value) == (
        "file does not hold a layer: 0 of 2 tensors fit; 1 missing ['bias'], 1 unexpected ['extra'], "
        "1 of wrong shape ['weight (2, 2) for (1, 2)']"
    )
    quantised = {"weight": torch.ones(1, 2, dtype=torch.int8), "bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 tensors are no floating-point numbers \(weight torch.int8 for"):
        load_strictly(layer, quantised, "file does not hold a layer")
    assert torch.equal(layer.weight, torch.ones(1, 2)), "nothing is loaded by half"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_flipped_byte_in_a_checkpoint_is_noticed(share: float, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.randn(1000)}}, file)
    assert read_checkpoint(file)["state_dict"]["a"].shape == (1000,)
    content = bytearray(file.read_bytes())
    content[int(share * len(content))] ^= 255
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"last.ckpt is damaged \(.*data/0 is not what was written\)"):
        read_checkpoint(file)


def test_averaged_weights_come_first_and_the_rest_is_kept(tmp_path: Path) -> None:
    content = {"params": {"a": torch.zeros(2)}, "params_ema": {"a": torch.ones(2)}, "iter": 3}
    torch.save(content, tmp_path / "x.pth")
    tensors, metadata = read(tmp_path / "x.pth")
    assert torch.equal(tensors["a"], torch.ones(2)) and metadata["iter"] == 3


def test_headers_of_every_kind_are_the_same(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3).half(), "b": torch.zeros(4, dtype=torch.int64)}
    write(tmp_path / "x.safetensors", tensors)
    torch.save(tensors, tmp_path / "x.pth")
    torch.save({"state_dict": tensors}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    expected = {"a": Header((2, 3), "float16"), "b": Header((4,), "int64")}
    for name in ("x.safetensors", "x.pth", "old.bin"):
        assert read_headers(tmp_path / name) == expected, name


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.rand(3, 2).t()}
    write(tmp_path / "folder.safetensors", tensors, {"format": "pt"})
    assert torch.equal(read(tmp_path / "folder.safetensors").tensors["a"], tensors["a"])


def test_a_checkpoint_is_read_as_it_was_saved(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "global_step": 3}, tmp_path / "last.ckpt")
    assert read_checkpoint(tmp_path / "last.ckpt") == {"state_dict": {}, "global_step": 3}
    torch.save([1], tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match="no checkpoint of this project"):
        read_checkpoint(tmp_path / "last.ckpt")
