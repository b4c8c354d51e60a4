import torch
from torch import nn

from vsrbench.flow.network import full_precision


def test_full_precision_ends_autocast_where_there_is_one() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        with full_precision(x.device):
            assert layer(x).dtype == torch.float32
    with full_precision(torch.device("meta")):
        assert nn.Linear(2, 2, device="meta")(x.to("meta")).shape == (1, 2)
