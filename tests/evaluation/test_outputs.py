import json
import os

import pytest
import torch

from vsrbench.errors import DataError
from vsrbench.evaluation import outputs
from vsrbench.evaluation.frames import encode, find, pixels
from vsrbench.evaluation.outputs import (
    changed_inputs,
    cost,
    discard,
    fingerprint,
    link_foreign,
    note_inputs,
    write_clips,
)
from vsrbench.metrics.frame import quantise
from vsrbench.runs import Run


class Upscaler:
    """Yields a clip's ground truth and counts the clips it was asked for; fails in the middle where told."""

    def __init__(self, fail_in: str | None = None) -> None:
        self.asked: list[str] = []
        self.fail_in = fail_in

    def __call__(self, source):
        self.asked.append(source.name)
        for n, frame in enumerate(source.hr):
            if source.name == self.fail_in and n == 1:
                raise KeyboardInterrupt
            yield n, frame


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run")


def test_writes_exactly_the_frames_of_the_data(run, make_source, make_protocol):
    sources = [make_source("a"), make_source("b/0001", frames=2, seed=1)]
    timings = write_clips(run, sources, Upscaler())
    found = find(run.frames, sources, make_protocol()).files
    assert pixels(found["b/0001"][1]).equal(quantise(sources[1].hr[1]))
    assert {clip: entry["frames"] for clip, entry in timings.items()} == {"a": 3, "b/0001": 2}


def test_an_interrupted_run_keeps_complete_clips_and_repeats_the_others(run, make_source, make_protocol):
    sources = [make_source("a"), make_source("b")]
    with pytest.raises(KeyboardInterrupt):
        write_clips(run, sources, Upscaler(fail_in="b"))
    (run.frames / "b" / ".0001.png.half").touch()  # as a killed process leaves it
    again = Upscaler()
    timings = write_clips(run, sources, again)
    assert again.asked == ["b"] and timings.keys() == {"a", "b"}
    find(run.frames, sources, make_protocol())


def test_a_clip_that_lost_a_frame_is_made_again(run, make_source):
    source = make_source("a")
    write_clips(run, [source], Upscaler())
    (run.frames / "a" / "0002.png").unlink()
    again = Upscaler()
    write_clips(run, [source], again)
    assert again.asked == ["a"]


def test_discard_leaves_nothing_to_reuse(run, make_source):
    source = make_source("a")
    write_clips(run, [source], Upscaler())
    run.write_json("result.json", {})
    run.write_json("result_stablevsr.json", {})
    discard(run)
    assert list(run.folder.iterdir()) == []
    discard(run)  # nothing there: nothing to do


def test_frames_that_are_not_finite_are_never_written(run, make_source):
    source = make_source("a")
    source.hr[1] = torch.nan
    with pytest.raises(DataError, match="not finite"):
        write_clips(run, [source], Upscaler())
    assert not (run.folder / "timings.json").exists()


def test_cost_is_per_frame_over_all_clips(run, make_source):
    timings = {
        "a": {"frames": 1, "seconds": 4.0, "peak_memory": 10},
        "b": {"frames": 3, "seconds": 4.0, "peak_memory": 30},
    }
    summed = cost(timings, parameters=7, steps=None, device="cpu")
    assert summed["seconds_per_frame"] == 2.0 and summed["peak_memory"] == 30
    assert summed["steps"] == "not_applicable" and summed["parameters"] == 7
    json.dumps(summed, allow_nan=False)


def test_frames_of_other_weights_are_made_again(run, make_source):
    source = make_source("a")
    write_clips(run, [source], Upscaler(), {"weights": {"file": "x", "blake2b": "1"}})
    same, other = Upscaler(), Upscaler()
    write_clips(run, [source], same, {"weights": {"file": "x", "blake2b": "1"}})
    write_clips(run, [source], other, {"weights": {"file": "x", "blake2b": "2"}})
    assert (same.asked, other.asked) == ([], ["a"])


def test_frames_of_other_pictures_under_the_same_name_are_made_again(run, make_source):
    """The same settings and folder, other content: one pixel of any frame, or another length."""
    write_clips(run, [make_source("a", frames=9)], Upscaler())
    same, changed = Upscaler(), Upscaler()
    write_clips(run, [make_source("a", frames=9)], same)
    source = make_source("a", frames=9)
    source.hr[3, 0, 0, 0] = 1 - source.hr[3, 0, 0, 0]
    write_clips(run, [source], changed)
    assert (same.asked, changed.asked) == ([], ["a"])
    assert fingerprint(source.first(8)) != fingerprint(source)


def test_files_are_read_again_only_where_they_are_others(run, make_source, tmp_path, monkeypatch):
    """Names, sizes and times of files stand for their content; where they differ the content decides."""
    file, source = tmp_path / "a.png", make_source("a")
    monkeypatch.setattr(type(source), "files", lambda self: [str(file)], raising=False)
    file.write_bytes(b"one")
    note_inputs(run, [source], None)
    monkeypatch.setattr(outputs, "fingerprint", lambda source: "other")
    assert not changed_inputs(run, [source], None)
    os.utime(file, ns=(1, 1))
    assert changed_inputs(run, [source], None)


def test_foreign_frames_that_were_replaced_are_noticed(run, make_source, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.png").write_bytes(b"one")
    note_inputs(run, [make_source("a")], tmp_path / "theirs")
    assert not changed_inputs(run, [make_source("a")], tmp_path / "theirs")
    (tmp_path / "theirs" / "a.png").write_bytes(b"other")
    assert changed_inputs(run, [make_source("a")], tmp_path / "theirs")


def test_progress_covers_clips_that_were_there_already(run, make_source):
    class Counter:
        total = done = 0

        def start(self, total: int, what: str) -> None:
            self.total, self.done = total, 0

        def advance(self, count: int = 1) -> None:
            self.done += count

    counter = Counter()
    sources = [make_source("a"), make_source("b", frames=2)]
    write_clips(run, sources[:1], Upscaler(), progress=counter)
    write_clips(run, sources, Upscaler(), progress=counter)
    assert counter.total == counter.done == 5


def test_foreign_frames_are_linked_under_the_names_of_the_data(run, make_source, make_protocol, tmp_path):
    """All that are there, whichever count: a report shows clips of one length."""
    source, theirs = make_source("a", frames=12), tmp_path / "theirs" / "A"
    theirs.mkdir(parents=True)
    for n, frame in enumerate(source.hr):
        (theirs / f"frame_{n + 1}_x2.png").write_bytes(encode(frame))
    for _ in range(2):  # a second call finds its own links
        link_foreign(run, find(theirs.parent, [source], make_protocol(trim=2)), [source])
    files = sorted((run.frames / "a").iterdir())
    assert [file.stem for file in files] == source.frame_names
    assert [file.resolve().name for file in files] == [f"frame_{n + 1}_x2.png" for n in range(12)]


def test_links_never_take_the_place_of_the_frames_themselves(run, make_source, make_protocol):
    source = make_source("a")
    write_clips(run, [source], Upscaler())
    link_foreign(run, find(run.frames, [source], make_protocol()), [source])
    assert not any(file.is_symlink() for file in (run.frames / "a").iterdir())
