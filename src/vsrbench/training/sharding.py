"""``trainer=fsdp``: frozen networks lie in shards on all ranks; what trains is replicated, as under plain ddp.

The frozen prior is the larger part of a diffusion method's weights, and no rank needs more of it than the block that it
is computing. What trains stays whole (ours): its average, its checkpoints and the optimiser then are those of ddp.
"""

from typing import Any

from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vsrbench.compat import leave_to_ranks
from vsrbench.errors import ConfigError
from vsrbench.methods.module import MethodModule
from vsrbench.training.memory import name_of


class ShardedStrategy(DDPStrategy):
    """ddp with the repeated blocks of frozen networks sharded (torch's ``fully_shard``).

    Whoever runs a network needs all ranks at it, validation included. Raises ConfigError where a stage has no frozen
    network.
    """

    def _setup_model(self, model: nn.Module) -> DistributedDataParallel:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        assert isinstance(model, MethodModule)
        frozen = frozen_blocks(model)
        model.before_sharding()
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for block in frozen:
            fully_shard(block, mesh=mesh)
        ignored = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        leave_to_ranks(model, ignored)
        return super()._setup_model(model)


def frozen_blocks(module: MethodModule) -> list[nn.Module]:
    """The blocks that are sharded: repeated ones without a parameter that trains."""
    blocks = [b for b in module.repeated_blocks() if not any(p.requires_grad for p in b.parameters())]
    if not blocks:
        raise ConfigError(
            f"trainer=fsdp: {name_of(module)} stage={module.stage} calls no frozen block to shard; use trainer=ddp"
        )
    return blocks


def strategy(wanted: Any, compiled: bool) -> Any:
    """Lightning's strategy for ``trainer.strategy``. Raises ConfigError for what cannot be combined."""
    if wanted != "fsdp":
        return wanted
    if compiled:
        raise ConfigError("compile with trainer=fsdp: blocks are either sharded or compiled; choose one")
    return ShardedStrategy()
