"""``python -m vsrbench.demo``: tunes, evaluates and uses the miniature on photographs that move; writes a page.

Takes ``runs= name= seed= size= force= inference.device= inference.precision=``; what is finished is used again.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench import eval as evaluate
from vsrbench import train, upscale
from vsrbench.config import build, launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.demonstration import Steps
    from vsrbench.reports.demo import Video

TUNE = [
    "method=dgaf", "trainer.max_steps=60", "trainer.log_every_n_steps=1", "train.crop=32", "train.batch=4",
    "train.effective_batch=4", "optimiser.lr=1e-4", "validation.every=0", "validation.clips=1", "validation.frames=3",
    "data.workers=1",
]  # fmt: skip
TUNED = "DGAF, fine-tuned"
EVALUATED = {
    "bicubic": ("bicubic", "bicubic interpolation, the baseline"),
    "diffusion baseline": ("ldm", "the diffusion prior by itself, frame by frame"),
    "DGAF": ("dgaf", "DGAF: the prior, guided by neighbouring frames"),
    TUNED: ("dgaf", "DGAF with the weights of step 1"),
}


def run(cfg: "DictConfig") -> Path:
    """The whole demo; returns the page's path. Raises what the single commands raise."""
    from vsrbench.demonstration import Steps
    from vsrbench.runs import open_run

    demo = open_run(cfg, "demo")
    verbs = {"train": train.run, "eval": evaluate.run, "upscale": upscale.run}
    steps = Steps(cfg, verbs, demo.folder / "runs", total=len(EVALUATED) + 4)
    start = [f"ckpt_path={cfg.weights}"] if cfg.weights else []
    tuned = steps.do("fine-tune DGAF on the sample's training photographs", "train", [*TUNE, *start])
    folders = {}
    for label, (method, what) in EVALUATED.items():
        weights = [f"ckpt_path={tuned}"] if label == TUNED else []
        folders[label] = steps.do(f"evaluate {what}", "eval", [f"method={method}", *weights])
    video = make_video(cfg, demo.folder, steps)
    steps.say("write the page")
    return demo.write_text("index.html", render(cfg, demo.folder / "truth", folders, tuned, video, steps))


def make_video(cfg: "DictConfig", folder: Path, steps: "Steps") -> "Video":
    """Ground truth as PNG files, a short low-resolution video of the first test clip, and that video upscaled."""
    from vsrbench import demonstration
    from vsrbench.evaluation.protocol import split_of
    from vsrbench.reports.demo import Video

    before, after = folder / "video_lr.mp4", folder / "video_dgaf.mp4"
    steps.say("render the ground truth and a short low-resolution video")
    sources = build(cfg.data).clips(split_of(cfg))
    demonstration.save_truth(sources, folder / "truth")
    if not before.is_file():
        clip = sources[0].read(0, sources[0].frames)
        demonstration.save_video(before, demonstration.there_and_back(clip.lr[0], times=2), {**cfg.video, "crf": 10})
    exists = after.is_file() and not cfg.force
    steps.do("upscale the video with DGAF", "upscale", [str(before), str(after), "method=dgaf"], skip=exists)
    facts = demonstration.facts(before), demonstration.facts(after)
    return Video(before, after, [(what, facts[0][what], facts[1][what]) for what in facts[0]])


def render(
    cfg: "DictConfig", truth: Path, folders: dict[str, Path], tuned: Path, video: "Video", steps: "Steps"
) -> str:
    """The page's text. folders: run folder of each label in EVALUATED; tuned: of the fine-tuning."""
    from vsrbench.reports import demo as page

    rows = {label: page.read_row(label, folder) for label, folder in folders.items()}
    untrained = f"No trained guide is shipped for size={cfg.size}: DGAF's is untrained and changes nothing."
    remarks = [] if cfg.weights else [untrained]
    content = page.Content([*rows.values()], rows["DGAF"], rows[TUNED], truth, tuned, video, steps.commands, remarks)
    return page.render(content)


def main() -> None:
    """The command: refuses settings that the demo cannot pass on, and prints the page's path last."""
    arguments = [argument for argument in sys.argv[1:] if "=" in argument]

    def checked(cfg: "DictConfig") -> None:
        from vsrbench.demonstration import check_arguments

        check_arguments(arguments)
        print(run(cfg))

    launch(checked, "demo")


if __name__ == "__main__":
    main()
