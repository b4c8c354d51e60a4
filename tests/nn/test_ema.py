import pytest
import torch

from vsrbench.errors import ConfigError
from vsrbench.nn.ema import EMA


def test_average_follows_its_formula() -> None:
    value = {"w": torch.zeros(3)}
    ema = EMA(0.9, value)
    expected = 0.0
    for n in range(1, 200):
        value["w"].fill_(float(n))
        ema.update(value)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert ema.shadow["w"][0].item() == pytest.approx(expected, rel=1e-5)


def test_constant_weights_are_their_own_average() -> None:
    value = {"w": torch.randn(5), "count": torch.tensor(3)}
    ema = EMA(0.999, {k: v.clone() for k, v in value.items()})
    for _ in range(10):
        ema.update(value)
    assert torch.allclose(ema.shadow["w"], value["w"])


def test_integers_are_copied() -> None:
    ema = EMA(0.5, {"count": torch.tensor(0)})
    ema.update({"count": torch.tensor(7)})
    assert ema.shadow["count"] == 7


def test_applied_swaps_and_restores_even_after_an_error() -> None:
    value = {"w": torch.ones(2)}
    ema = EMA(0.5, {"w": torch.zeros(2)})

    def fail() -> None:
        with ema.applied(value):
            assert value["w"].tolist() == [0, 0]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert value["w"].tolist() == [1, 1]


def test_state_goes_on() -> None:
    steps = [{"w": torch.full((2,), float(n))} for n in range(6)]
    whole = EMA(0.9, steps[0])
    part = EMA(0.9, steps[0])
    for value in steps[1:]:
        whole.update(value)
    for value in steps[1:3]:
        part.update(value)
    rest = EMA(0.9, {"w": torch.zeros(2)})
    rest.load_state_dict(part.state_dict())
    for value in steps[3:]:
        rest.update(value)
    assert torch.equal(whole.shadow["w"], rest.shadow["w"])
    assert whole.updates == rest.updates


@pytest.mark.parametrize("decay", [0, 1, 1.5])
def test_impossible_decay_is_named(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"ema\.decay"):
        EMA(decay, {})
