"""However a clip is cut, the frames are those of the whole."""

import pytest
import torch

import latent
from inference_fakes import SETTINGS, Counter, Fake, Memory, noise_clip
from vsrbench.config import compose
from vsrbench.errors import ConfigError
from vsrbench.inference.chunks import upscale_source


def frames(method: Fake, source: Memory, done: object = (), **changed: object) -> dict[int, torch.Tensor]:
    return dict(upscale_source(method, source, None, {**SETTINGS, **changed}, done=done))


@pytest.mark.parametrize("context", [0, 1, 3])
@pytest.mark.parametrize("chunk", [1, 3, 4, 10, 50])
@pytest.mark.parametrize("known", [True, False])
def test_chunks_equal_the_whole_clip(context: int, chunk: int, known: bool) -> None:
    lr = noise_clip(10)
    method = Fake(context=context)
    whole = method.upscale(Memory(lr).read(0, 10), None)[0]
    chunked = frames(method, Memory(lr, known), chunk=chunk)
    assert list(chunked) == list(range(10))
    for number, frame in chunked.items():
        torch.testing.assert_close(frame, whole[number])


@pytest.mark.parametrize("length", [1, 7, 8, 9])
def test_a_stream_ends_where_it_ends(length: int) -> None:
    assert list(frames(Fake(context=1), Memory(noise_clip(length), known=False))) == list(range(length))


def test_a_method_sees_true_frame_numbers_and_never_more_than_a_chunk_with_its_context() -> None:
    method = Fake(context=2)
    frames(method, Memory(noise_clip(30)), chunk=5)
    assert all(clip.frames <= 5 + 2 * 2 for clip in method.seen)
    assert method.seen[2].index.tolist() == [list(range(8, 17))]


@pytest.mark.parametrize(("length", "seen"), [(19, [19]), (20, [20]), (21, [9, 13, 14, 14, 10, 6])])
def test_a_clip_is_whole_where_chunks_would_overlap_by_more_than_they_have(length: int, seen: list[int]) -> None:
    method = Fake(context=5)
    whole = method.upscale(Memory(noise_clip(length)).read(0, length), None)[0]
    method.seen.clear()
    made = frames(method, Memory(noise_clip(length)), chunk=4, whole=20)
    assert [clip.frames for clip in method.seen] == seen
    for number, frame in made.items():
        torch.testing.assert_close(frame, whole[number])


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_dgaf_takes_reds_clips_whole_at_the_papers_size(variant: str) -> None:
    paper = compose(["method=dgaf", "size=paper", f"variant={variant}"], verb="eval")
    bound = "null" if paper.method.max_context is None else paper.method.max_context
    words = [f"variant={variant}", f"sampler.steps={paper.sampler.steps}", f"method.max_context={bound}"]
    method, settings = Fake(context=latent.method("dgaf", *words).context), paper.inference
    made = dict(upscale_source(method, Memory(noise_clip(100, (2, 2))), None, settings))
    assert len(made) == 100 and [clip.frames for clip in method.seen] == [100]


def test_independent_frames_are_taken_a_batch_at_a_time() -> None:
    method = Fake(context=0)
    frames(method, Memory(noise_clip(10)), chunk=8, batch=3)
    assert [clip.frames for clip in method.seen] == [3, 3, 3, 1]


@pytest.mark.parametrize("known", [True, False])
def test_max_frames_makes_a_shorter_clip_of_it(known: bool) -> None:
    lr = noise_clip(10)
    method = Fake(context=2)
    short = frames(method, Memory(lr[:6]))
    cut = frames(method, Memory(lr, known), max_frames=6)
    assert list(cut) == list(range(6))
    assert all(torch.equal(cut[n], short[n]) for n in cut)


@pytest.mark.parametrize("known", [True, False])
def test_finished_frames_are_neither_yielded_nor_computed(known: bool) -> None:
    lr = noise_clip(12)
    method = Fake(context=1)
    whole = frames(method, Memory(lr))
    method.seen.clear()
    missing = frames(method, Memory(lr, known), done={0, 1, 2, 3, 5, 8, 9, 10, 11})
    assert list(missing) == [4, 6, 7]
    assert all(torch.equal(frame, whole[n]) for n, frame in missing.items())
    assert len(method.seen) == 1


def test_the_methods_own_work_is_reported() -> None:
    counter = Counter()
    list(upscale_source(Fake(), Memory(noise_clip(10)), None, SETTINGS, counter))
    assert counter.total == counter.done == 2  # the last chunk


@pytest.mark.parametrize("setting", ["chunk", "batch", "max_frames"])
def test_settings_that_cannot_work_are_refused_before_the_first_frame(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"inference\.{setting}=0"):
        upscale_source(Fake(), Memory(noise_clip()), None, {**SETTINGS, setting: 0})
    with pytest.raises(ConfigError, match=r"method\.max_context=-1"):
        upscale_source(Fake(context=-1), Memory(noise_clip()), None, SETTINGS)
    with pytest.raises(ConfigError, match=r"inference\.overlap"):
        upscale_source(Fake(), Memory(noise_clip()), None, {**SETTINGS, "tile": 4})
