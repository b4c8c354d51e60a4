"""The launcher that Hydra's sweepers hand their jobs to. Hydra takes launchers from ``hydra_plugins`` only."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class SweepLauncher(Launcher):
    """Composes each job, then lets ``vsrbench.cluster.sweep`` run what the manifest says is missing."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """One return value per job: its objective, None where there is none or the job failed."""
        from vsrbench import config  # not above: Hydra imports every plugin at each start
        from vsrbench.cluster import sweep

        kept = [o for o in self.config.hydra.overrides.hydra if o.startswith("hydra.searchpath")]
        composed = [(list(overrides), self._compose(overrides)) for overrides in job_overrides]
        config.composed()
        waits = "optuna" in self.config.hydra.sweeper._target_
        values = sweep.launch(composed, kept, self.task, waits)
        return [self._returned(overrides, v) for overrides, v in zip(job_overrides, values, strict=True)]

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    @staticmethod
    def _returned(overrides: Sequence[str], value: Any) -> JobReturn:
        # COMPLETED for failed jobs too: Hydra's sweepers stop at the first failure that they are told of.
        return JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=value)
