from pathlib import Path

import pytest
import torch
from torch import nn

from vsrbench.errors import WeightsError
from vsrbench.flow.network import full_precision, load_strictly, read_state


def test_read_state_takes_tensors_out_of_their_wrapper(tmp_path: Path) -> None:
    for number, wrap in enumerate(({}, {"params": 0}, {"state_dict": 0, "meta": {}})):
        state = {"a": torch.ones(2)}
        torch.save({key: value or state for key, value in wrap.items()} or state, tmp_path / f"{number}.pth")
        assert torch.equal(read_state(tmp_path / f"{number}.pth")["a"], torch.ones(2))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_read_state_refuses_what_is_no_state(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{suffix}"
    with pytest.raises(WeightsError, match="no such file"):
        read_state(file)
    for content in (b"", b"<html>not found</html>", b"PK\x03\x04 cut", b"hello"):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"weights\.{suffix} cannot be read: it may be truncated"):
            read_state(file)


def test_read_state_refuses_a_bare_tensor(tmp_path: Path) -> None:
    torch.save(torch.zeros(2), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds a Tensor, not a state dict"):
        read_state(tmp_path / "weights.pth")


def test_load_strictly_copies_or_reports() -> None:
    layer = nn.Linear(2, 1)
    load_strictly(layer, {"weight": torch.ones(1, 2).half(), "bias": torch.zeros(1)}, "file", "a layer")
    assert torch.equal(layer.weight, torch.ones(1, 2)) and layer.weight.dtype == torch.float32
    with pytest.raises(WeightsError) as told:
        load_strictly(layer, {"weight": torch.ones(2, 2), "extra": torch.zeros(1)}, "file", "a layer")
    assert str(told.value) == (
        "file does not hold a layer: 0 of 2 keys match; 1 missing ['bias']; 1 unexpected ['extra']; "
        "1 of another shape ['weight']"
    )
    assert torch.equal(layer.weight, torch.ones(1, 2)), "nothing is loaded by half"


def test_full_precision_ends_autocast_where_there_is_one() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        with full_precision(x.device):
            assert layer(x).dtype == torch.float32
    with full_precision(torch.device("meta")):
        assert nn.Linear(2, 2, device="meta")(x.to("meta")).shape == (1, 2)
