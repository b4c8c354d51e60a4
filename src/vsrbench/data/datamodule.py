"""All data sets behind one data module, which needs no Lightning: only a training has a trainer."""

import hashlib
import json
import logging
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch.utils.data import DataLoader, Dataset

from vsrbench.data.catalog import Catalog, Settings
from vsrbench.data.degradations import Degradation
from vsrbench.data.finder import clip_names, find
from vsrbench.data.loading import Batches
from vsrbench.data.paths import Paths
from vsrbench.data.samples import ClipSamples, PhotoSamples, Recipe, TrainingSamples
from vsrbench.data.sampling import SampleNumbers, collate
from vsrbench.data.sources import CentreSource, Source
from vsrbench.errors import ConfigError, DataError
from vsrbench.types import Clip

log = logging.getLogger(__name__)


def leave_signals_to_the_parent(worker: int) -> None:
    """A scheduler's SIGTERM reaches every process of a job; the batch that is running still needs its workers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class VideoData:
    """Clips for evaluation and samples for training (conf/data/<set>.yaml builds it).

    splits: {train, val, test: {partition, clips, frames, window} or null}; clips of the validation split are taken
    out of the training split; window: side in HR pixels of the centre square that is all there is of a clip. recipe:
    see ``Recipe``; other settings: see ``catalog.Settings`` and ``Pairing``. first_sample: number of the next
    training sample, set before a resumed run asks for its loader. validation: how many of the first validation clips,
    and how many of the first frames of each, ``val_dataloader`` gives; null: all. Nothing is read before it is asked
    for. Trainers must not replace the sampler: ``use_distributed_sampler=False``.
    """

    def __init__(
        self,
        set: str,
        root: str | None,
        splits: Mapping[str, Any],
        degradation: Degradation,
        scale: int,
        seed: int,
        recipe: Mapping[str, Any] | None = None,
        workers: Annotated[int, Ge(0)] = 2,
        packed: str | None = None,
        lr: Literal["auto", "disk", "made"] = "auto",
        role: Literal["hr", "lr"] = "hr",
        crop_to_multiple: bool = False,
        frame_size: Sequence[int] = (192, 320),
        motion: Mapping[str, Any] | None = None,
    ) -> None:
        self.trainer: Any = None  # of a training; it knows the rank
        reading = {"packed": packed, "lr": lr, "role": role, "frame_size": frame_size, "motion": motion}
        node = {"set": set, "root": root, "scale": scale, "crop_to_multiple": crop_to_multiple, **reading}
        self.settings = Settings.of(node, degradation)
        self.splits, self.seed, self.workers = splits, seed, workers
        self._recipe = None if recipe is None else Recipe.of(recipe)
        self.first_sample = 0
        self.validation: dict[str, int | None] = {"clips": None, "frames": None}
        self._catalogs: dict[str, Catalog] = {}

    @property
    def recipe(self) -> Recipe:
        """What a training sample is. Raises ConfigError in commands that do not train."""
        if self._recipe is None:
            raise ConfigError("data.recipe is null: samples are drawn by commands that train")
        return self._recipe

    def clips(self, split: str) -> list[Source]:
        """The clips of a split in the protocol's order. Raises DataError where data are absent or broken."""
        return self._catalog(split).sources

    def coverage(self, split: str) -> dict[str, Any]:
        """{"set", "clips": {name: frames}, "absent": [names], "short": {name: [have, expected]}, lr, truth, list}.

        lr: where LR frames come from, "disk BIx4" or "made bicubic (path=double)". truth: suffixes of the ground
        truth's files, empty where it is no files. list: hash of all names of clips and frames.
        """
        catalog = self._catalog(split)
        return catalog.coverage(self.settings.set) | {
            "lr": lr_origin(catalog.sources, self.settings),
            "truth": sorted({Path(f).suffix.lower() for s in catalog.sources for f in _names(s)}),
            "list": short_digest([[s.name, s.frame_names] for s in catalog.sources]),
        }

    @property
    def samples_per_epoch(self) -> int:
        """Training samples until every unit was drawn once, or as many as the recipe says."""
        return len(self.training_samples)

    @cached_property
    def training_samples(self) -> TrainingSamples:
        """Sample number -> Clip. Raises DataError where there is nothing to train on."""
        catalog = self._catalog("train")
        if catalog.photos is not None:
            paths, pairing = Paths.of(self.settings.motion), self.settings.pairing
            return PhotoSamples(catalog.photos, paths, self.recipe, self.seed, pairing.scale, pairing.degradation)
        if not catalog.sources:
            raise DataError(f"data={self.settings.set} has no training split: set data.splits.train")
        if catalog.absent:
            log.warning(
                "training without %d absent clips, the first is %s; `python -m vsrbench.data check` lists them",
                len(catalog.absent),
                catalog.absent[0],
            )
        return ClipSamples(catalog.sources, self.recipe, self.seed, catalog.unit == "frames")

    def train_dataloader(self) -> Batches:
        """Batches of ``recipe.batch`` samples; world x batch consecutive numbers make one global step.

        A Lightning epoch holds the whole steps that fit ``samples_per_epoch``, at least one.
        """
        rank, world = self._rank_and_world()
        steps = max(1, self.samples_per_epoch // (world * self.recipe.batch))
        numbers = SampleNumbers(steps, self.recipe.batch, rank, world, self.first_sample)
        return Batches(
            self.training_samples,
            batch_size=self.recipe.batch,
            sampler=numbers,
            drop_last=True,
            collate_fn=collate,
            num_workers=self.workers,
            worker_init_fn=leave_signals_to_the_parent,
            persistent_workers=self.workers > 0,
        )

    def val_dataloader(self) -> DataLoader[Clip]:
        """One Clip (B = 1) per validation clip; the same on every rank."""
        clips = ValidationClips(self.clips("val")[: self.validation["clips"]], self.validation["frames"])
        return validation_loader(clips)

    def _catalog(self, split: str) -> Catalog:
        if split not in self._catalogs:
            if split not in (self.splits or ()):
                known = ", ".join(self.splits or ["none"])
                raise ConfigError(f"data={self.settings.set} has no split {split!r}: it has {known}")
            try:
                catalog = find(self.settings, self.splits[split])
            except DataError as error:
                if split != "val":
                    raise
                raise DataError(f"{error}; data.splits.val=null trains without validation clips") from error
            window = (self.splits[split] or {}).get("window")
            if window is not None:
                catalog.sources = [CentreSource(source, window) for source in catalog.sources]
            self._catalogs[split] = self._without_validation(catalog) if split == "train" else catalog
        return self._catalogs[split]

    def _without_validation(self, catalog: Catalog) -> Catalog:
        """What is trained on: the clips of the training split that the validation split does not have.

        Where that would leave none (one clip or video of a user's own), all stay, which is said.
        """
        held_out = set(clip_names(self.settings, self.splits.get("val"))) if catalog.sources else set()
        sources = [source for source in catalog.sources if source.name not in held_out]
        if catalog.sources and not sources:
            log.warning(
                "validation clips are training clips (%s), so validation measures nothing but progress: give more "
                "clips, or train without validation (data.splits.val=null)",
                ", ".join(source.name for source in catalog.sources),
            )
            return catalog
        absent = [name for name in catalog.absent if name not in held_out]
        return replace(catalog, sources=sources, absent=absent)

    def _rank_and_world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class ValidationClips(Dataset[Clip]):
    """The first ``frames`` frames of clips (None: all) by number. They are few and wanted often: read once.

    Raises DataError for a clip without ground truth to compare with.
    """

    def __init__(self, sources: Sequence[Source], frames: int | None = None) -> None:
        self.sources, self.frames = sources, frames
        self._read: dict[int, Clip] = {}

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, number: int) -> Clip:
        if number not in self._read:
            source = self.sources[number]
            clip = source.read(0, min(self.frames or source.frames, source.frames))
            if clip.hr is None:
                raise DataError(f"validation clip {source.name} has no ground truth (HR): choose another data set")
            self._read[number] = clip
        return self._read[number]


def validation_loader(clips: ValidationClips) -> DataLoader[Clip]:
    """One clip after the other, in this process. torch's loader draws a seed each time; this one from its own state,
    so that validating does not change the random numbers of a training."""
    return DataLoader(clips, batch_size=1, collate_fn=single, generator=torch.Generator())


def single(clips: list[Clip]) -> Clip:
    (clip,) = clips
    return clip


def lr_origin(sources: Sequence[Source], settings: Settings) -> str:
    """Where the LR frames of these clips come from, in a few words."""
    degradation = settings.pairing.degradation
    if not sources:
        return ""
    files = getattr(sources[0], "lr_files", None)
    if files is not None:
        folder, root = Path(files.folder), Path(settings.folder)
        inner = folder.relative_to(root) if folder.is_relative_to(root) else folder
        parts = [part for part in inner.parts if part != sources[0].name]
        return f"disk {'/'.join(parts) or root.name}"
    if settings.packed:
        return f"packed as {settings.lr} {degradation.kind}"
    if not sources[0].has_hr:
        return f"disk {Path(settings.folder).name}"
    others = {key: value for key, value in vars(degradation).items() if key != "name" and value is not None}
    return f"made {degradation.name}" + (f" ({', '.join(f'{k}={v}' for k, v in others.items())})" if others else "")


def short_digest(content: object) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def _names(source: Source) -> Sequence[str]:
    files = getattr(source, "hr_files", None)
    return files.files if files is not None else ()
