"""Other packages: their private interfaces, their noise, and a torchvision that does not fit the installed torch.

Every private interface that this package uses is here, a section for each package, checked with the versions in
``CHECKED``; ``tests/test_compat.py`` fails where a version is another or an interface is gone. Imports are inside the
functions, because ``import vsrbench`` brings this module.

The torchvision wheel on PyPI is built for CUDA. Beside a CPU build of torch its operators cannot be
loaded, yet ``import torchvision`` registers fake kernels for two of them and fails with
``operator torchvision::nms does not exist``; Lightning, diffusers and transformers fail with it.
Declaring the two schemas (without kernels) is enough: RAFT, transforms and classifiers then work. It is a finder in
``sys.meta_path`` that does so, because those packages import torchvision themselves, from anywhere in a program, and
because declaring the schemas at once would cost every command the import of torch.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterable
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType
from typing import Any

CHECKED = {
    "torch": "2.13",
    "pytorch-lightning": "2.6",
    "submitit": "1.5",
    "tensorboard": "2.21",
    "wandb-workspaces": "0.4",
}

# --- torchvision -----------------------------------------------------------------------------------

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _TorchvisionGuard(importlib.abc.MetaPathFinder):
    """Runs once, when torchvision is first imported, then leaves the import system alone."""

    library: Any = None  # the schemas live as long as this object does

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.origin is not None and not _loads(Path(spec.origin).parent):
            _TorchvisionGuard.library = _declare_missing_operators()
        return spec


def _loads(folder: Path) -> bool:
    """True where the wheel's own operators can be loaded; then nothing has to be declared."""
    import torch

    for library in folder.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:  # linked against a CUDA runtime that this torch does not have
            return False
        return True
    return True  # no compiled part next to the package (other platforms): torchvision's own loader decides


def _declare_missing_operators() -> Any:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)
    return library


def guard_torchvision() -> None:
    """Install the guard; costs nothing until something imports torchvision."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _TorchvisionGuard) for f in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionGuard())


def quiet_libraries() -> None:
    """Notes of libraries that tell a user of this project nothing; errors stay."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # comes with pyiqa; misses kernels that nobody asked for
    warnings.filterwarnings("ignore", message=".*Transformer2DModelOutput.*")  # diffusers about its own import


# --- torch -----------------------------------------------------------------------------------------


def dead_workers(iterator: Any, timeout: float) -> list[int]:
    """Process ids of a loader iterator's workers that are gone, waiting up to ``timeout`` seconds for the first.

    Where there are any, torch's handler of SIGCHLD no longer watches this iterator. A process closes its sentinel
    before its parent gets the signal, so the handler would raise a second error while the first is being handled.
    """
    sentinels = {worker.sentinel: worker.pid for worker in iterator._workers}
    dead = [sentinels[sentinel] for sentinel in wait(list(sentinels), timeout=timeout)]
    if dead:
        _stop_watching(iterator)
    return dead


def _stop_watching(iterator: Any) -> None:
    """torch's handler of SIGCHLD, which raises when a worker ends, forgets the workers of this loader iterator."""
    from torch.utils.data._utils import signal_handling

    if iterator._worker_pids_set:
        signal_handling._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False


def kill_workers(loader: Any) -> None:
    """End the workers of a DataLoader at once; torch's own way asks them, and waits for those that do not answer."""
    iterator = loader._iterator
    if iterator is None or iterator._shutdown:
        return
    iterator._shutdown = True
    _stop_watching(iterator)
    for queue in iterator._index_queues:
        queue.cancel_join_thread()
        queue.close()
    for worker in iterator._workers:
        worker.kill()
    for worker in iterator._workers:
        worker.join()


def leave_to_ranks(model: Any, names: Iterable[str]) -> None:
    """DDP neither broadcasts nor reduces these parameters."""
    from torch.nn.parallel import DistributedDataParallel

    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(names))


def raise_compilations(count: int) -> None:
    """Let torch.compile keep ``count`` compilations of the same code, or more where it is set to more."""
    from torch._dynamo import config  # a second to import

    config.cache_size_limit = max(config.cache_size_limit, count)


def fake_tensors() -> Any:
    """A context in which new tensors have no content; the meta device lacks autocast, which RAFT asks for."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


# --- Lightning -------------------------------------------------------------------------------------


def validation_follows(trainer: Any) -> bool:
    """True where Lightning validates after the batch in hand, so that a checkpoint of its step can wait for that."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and bool(loop.epoch_loop._should_check_val_fx(fetcher))


def set_logged_step(trainer: Any, step: int) -> None:
    """The step under which Lightning and its callbacks log; it counts batches with manual optimisation otherwise."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


# --- submitit, TensorBoard, W&B --------------------------------------------------------------------


def sbatch_script(command: str, folder: Path, **parameters: Any) -> str:
    """The script that submitit would submit for a command."""
    from submitit.slurm.slurm import _make_sbatch_string

    return _make_sbatch_string(command, folder, **parameters)


def submit_command(executor: Any, command: str) -> Any:
    """The submitit job of a command; its public interface takes Python functions alone."""
    return executor._submit_command(command)


def summary_writer(experiment: Any) -> Any:
    """The writer of raw summaries of a TensorBoard ``SummaryWriter``, opened where it is closed."""
    return experiment.file_writer or experiment._get_file_writer()


def workspace_model(workspace: Any) -> Any:
    """The pydantic model that W&B would be sent of a workspace."""
    return workspace._to_model()
