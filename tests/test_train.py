import json
from pathlib import Path

import pytest
import torch

from training_fakes import FakeModule, same, tiny_arguments, trained
from vsrbench import config, train
from vsrbench.errors import RunError


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_result_and_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path, "train.effective_batch=4")
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    result = json.loads((folder / "result.json").read_text())
    assert result["schema"] == "vsrbench.train/1"
    assert (result["method"], result["size"], result["stage"], result["steps"]) == ("fake", "tiny", "learn", 6)
    assert result["effective_batch"] == 4
    assert result["best"]["metric"] == "val/psnr_y"
    assert (folder / result["best"]["file"]).is_file()
    assert (folder / result["last"]).is_file()
    assert result["provenance"]["seed"] == 42
    assert (folder / "config.yaml").is_file()


def test_finished_run_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path)
    before = (folder / "result.json").read_bytes()
    capsys.readouterr()
    trained(tmp_path)
    told = capsys.readouterr().out.splitlines()
    assert told == ["finished at step 6: raise trainer.max_steps to go on, or force=true to train anew", str(folder)]
    assert (folder / "result.json").read_bytes() == before


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    (folder / "result.json").write_text('{"st')
    with pytest.raises(RunError, match=r"result\.json is damaged .*: delete it, and the same command makes it again"):
        trained(tmp_path)


def test_raised_max_steps_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path)
    folder = trained(tmp_path, "trainer.max_steps=8", "ckpt_path=last")
    assert "resuming at step 6 of 8" in capsys.readouterr().out
    assert json.loads((folder / "result.json").read_text())["steps"] == 8


def test_force_trains_anew_and_leaves_foreign_files(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_steps=4")
    (folder / "notes.txt").write_text("mine")
    first = last(folder)
    trained(tmp_path, "trainer.max_steps=2", "force=true")
    assert last(folder)["global_step"] == 2
    shown = sorted(file.name for file in (folder / "samples").iterdir())
    assert len(shown) == 3 and all(name.startswith("step_000002_") for name in shown), "nothing of the first training"
    assert (folder / "notes.txt").read_text() == "mine"
    trained(tmp_path, "trainer.max_steps=4")
    assert same(last(folder)["state_dict"], first["state_dict"])


def test_a_run_that_ends_by_itself_is_as_finished_as_one_that_reaches_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enough(self: FakeModule, *args: object) -> None:
        if self.trainer.global_step == 2:
            self.ended, self.trainer.should_stop = "having learnt enough", True

    monkeypatch.setattr(FakeModule, "on_train_batch_end", enough, raising=False)
    folder = trained(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert (result["steps"], result["ended"]) == (2, "having learnt enough")
    assert (folder / "README.md").is_file(), "its card, and with it what goes to the loggers"


def test_ckpt_path_last_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"ckpt_path=last: there is no checkpoint in .*run/checkpoints"):
        trained(tmp_path, "ckpt_path=last")


def test_ckpt_path_starts_a_new_run_from_weights_and_resumes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(tmp_path, name="first")
    settings = (f"ckpt_path={first}", "optimiser.lr=0")
    second = trained(tmp_path, *settings, "trainer.max_steps=2", name="second")
    best = torch.load(first / "checkpoints" / "best.ckpt", weights_only=True)
    assert last(second)["global_step"] == 2
    assert same(last(second)["state_dict"], best["state_dict"])
    monkeypatch.setattr(FakeModule, "crash_at", 0)
    with pytest.raises(RuntimeError):
        trained(tmp_path, *settings, "trainer.max_steps=3", name="second")
    monkeypatch.undo()
    trained(tmp_path, *settings, "trainer.max_steps=3", name="second")
    assert last(second)["global_step"] == 3


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, "trainer.max_steps=1")
    with pytest.raises(RunError, match=r"optimiser\.lr"):
        trained(tmp_path, "optimiser.lr=0.5")


def test_command_says_a_users_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeModule, "broken_at", 1)
    monkeypatch.setattr("sys.argv", ["train", *tiny_arguments(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        config.launch(train.run, "train")
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: loss term 'pixel' is nan at step 1")
