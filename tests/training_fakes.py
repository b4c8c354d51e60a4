"""A method and a data set that train in milliseconds and keep the contracts of the real ones."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import vsrbench  # noqa: F401  # isort: skip  (before Lightning: see vsrbench.compat)
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from vsrbench import config, train
from vsrbench.data.datamodule import ValidationClips, validation_loader
from vsrbench.diffusion.noise import Noise
from vsrbench.methods.base import Method, Stage
from vsrbench.methods.module import MethodModule
from vsrbench.types import Clip

SCALE, SIZE, EPOCH = 2, 12, 20  # EPOCH: samples; no multiple of the batches that tests use


def fake_clip(name: str, frames: int = 2) -> Clip:
    """Smooth frames that depend on the name alone; nothing moves."""
    small = Noise(0).uniform((1, 3, 4, 4), "picture", name)
    hr = nn.functional.interpolate(small, scale_factor=SCALE * SIZE / 4, mode="bilinear").expand(frames, -1, -1, -1)
    lr = nn.functional.avg_pool2d(hr, SCALE)
    still = torch.zeros(1, frames - 1, 2, SIZE, SIZE)
    index = torch.arange(frames)[None]
    return Clip(lr[None], hr[None], [name], index, SCALE, still, still, still.bool())


class FakeSource:
    def __init__(self, name: str) -> None:
        self.name, self.frames = name, 3

    def read(self, start: int, stop: int) -> Clip:
        return fake_clip(self.name, 3).window(start, stop)


class Numbers(Sampler[int]):
    """Sample numbers of one rank, epoch by epoch."""

    def __init__(self, first: int, rank: int, world: int) -> None:
        self.next, self.rank, self.world = first, rank, world

    def __iter__(self) -> Iterator[int]:
        first = self.next
        self.next = (first // EPOCH + 1) * EPOCH
        return iter(range(first + self.rank, self.next, self.world))


class Samples(Dataset[Clip]):
    def __getitem__(self, k: int) -> Clip:
        return fake_clip(f"{k % 7}#{k}")


def collate(clips: list[Clip]) -> Clip:
    fields = ("lr", "hr", "index", "flow_forward", "flow_backward", "occlusion")
    joined = {f: torch.cat([getattr(c, f) for c in clips]) for f in fields}
    return Clip(name=[n for c in clips for n in c.name], scale=SCALE, **joined)


class FakeData(pl.LightningDataModule):
    def __init__(self, recipe: dict, workers: int = 0, set: str = "fake") -> None:
        super().__init__()
        self.batch, self.workers, self.first_sample = recipe["batch"], workers, 0
        self.validation: dict[str, int | None] = {"clips": None, "frames": None}

    def train_dataloader(self) -> DataLoader[Clip]:
        trainer = self.trainer
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        numbers = Numbers(self.first_sample, rank, world)
        return DataLoader(Samples(), self.batch, sampler=numbers, collate_fn=collate, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Clip]:
        sources = self.clips("val")[: self.validation["clips"]]
        return validation_loader(ValidationClips(sources, self.validation["frames"]))

    def clips(self, split: str) -> list[FakeSource]:
        return [FakeSource(f"{split}/{n}") for n in range(3)]


class FakeMethod(Method):
    """A convolution that learns to upscale, behind a frozen one."""

    stages = {"learn": Stage(trainable=("learner",), losses=("pixel", "mean"))}
    scale = SCALE

    def __init__(self, name: str = "fake") -> None:
        super().__init__()
        self.frozen = nn.Conv2d(3, 3, 1)
        nn.init.dirac_(self.frozen.weight)  # the same in every instance: weights are trained beside it
        nn.init.zeros_(self.frozen.bias)
        self.learner = nn.Conv2d(3, 3 * SCALE**2, 3, padding=1)

    def parts(self) -> dict[str, nn.Module]:
        return {"frozen": self.frozen, "learner": self.learner}

    def frames(self, lr: Tensor) -> Tensor:
        flat = lr.flatten(0, 1)
        change = nn.functional.pixel_shuffle(self.learner(self.frozen(flat)), SCALE)
        bigger = nn.functional.interpolate(flat, scale_factor=SCALE, mode="bilinear")
        return (bigger + 0.1 * change).unflatten(0, lr.shape[:2])

    def upscale(self, clip: Clip, noise: Noise, trace: object = None, progress: object = None) -> Tensor:
        return self.frames(clip.lr).clamp(0, 1)


class FakeModule(MethodModule):
    """Its training.

    Accidents, counted in training batches of this process and set by ``monkeypatch.setattr(FakeModule, ...)``:
    broken_at: the loss is not a number; crash_at: an exception; signal_at: ``signal_number`` arrives.
    """

    method: FakeMethod
    broken_at = crash_at = signal_at = -1
    signal_number = signal.SIGTERM

    def __init__(self, method: FakeMethod, from_scratch: bool = False) -> None:
        super().__init__(method, from_scratch)
        self.batches = 0

    def losses(self, clip: Clip, noise: Noise) -> dict[str, Tensor]:
        self._accidents()
        disturbed = clip.lr + 0.1 * torch.stack([noise.normal(clip.lr.shape[1:], "lr", n) for n in clip.name])
        assert clip.hr is not None
        error = self.method.frames(disturbed) - clip.hr
        factor = float("nan") if self.batches == self.broken_at + 1 else 1
        return {"pixel": error.square().mean() * factor, "mean": error.flatten(1).mean(1).abs().mean()}

    def _accidents(self) -> None:
        self.batches += 1
        if self.batches == self.crash_at + 1:
            raise RuntimeError("power failure")
        if self.batches == self.signal_at + 1:
            os.kill(os.getpid(), self.signal_number)


def tiny(runs: Path, *overrides: str, name: str = "run") -> DictConfig:
    """The configuration of the tiny method with its run folder ``<runs>/<name>``."""
    return config.compose([*tiny_arguments(runs, name), *overrides])


def tiny_arguments(runs: Path, name: str = "run") -> list[str]:
    search = f"hydra.searchpath=[file://{Path(__file__).parent / 'training_conf'}]"
    return [search, "method=fake", "data=fake", "size=tiny", f"runs={runs}", f"name={name}"]


def trained(runs: Path, *overrides: str, name: str = "run") -> Path:
    """Train the tiny method as the command would; returns the run folder."""
    train.run(tiny(runs, *overrides, name=name))
    return runs / name


def same(a: object, b: object) -> bool:
    """Equality to the bit of nested containers and tensors."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


class FakeChain(FakeMethod):
    """Three stages, each on top of the ones before it: a gain, the convolution, an offset."""

    stages = {
        "gain": Stage(trainable=("gain",), losses=("pixel",)),
        "learn": Stage(trainable=("learner",), losses=("pixel",), needs=("gain",)),
        "offset": Stage(trainable=("offset",), losses=("pixel",), needs=("learn",), unless="module.from_scratch=true"),
    }

    def __init__(self, name: str = "chain") -> None:
        super().__init__()
        self.gain, self.offset = nn.Conv2d(3, 3, 1, groups=3), nn.Conv2d(3, 3, 1)

    def parts(self) -> dict[str, nn.Module]:
        return {**super().parts(), "gain": self.gain, "offset": self.offset}

    def frames(self, lr: Tensor) -> Tensor:
        flat = super().frames(lr).flatten(0, 1)
        return (flat + 0.1 * self.gain(flat) + 0.1 * self.offset(flat)).unflatten(0, lr.shape[:2])
