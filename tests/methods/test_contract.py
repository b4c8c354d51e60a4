"""What every method promises. A method is tested by being there: each file of conf/method is one."""

from functools import cache
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import latent
from inference_fakes import SETTINGS, Memory
from vsrbench import help as texts
from vsrbench.config import build, build_method, check_nodes, compose, home
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.inference.chunks import upscale_source
from vsrbench.methods.padding import padded_size, upscale_padded
from vsrbench.schema import targets
from vsrbench.schema.verbs import leaves
from vsrbench.types import FULL_CLIP, Clip

CONF = home() / "conf"
ALL = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
COPIES = ["gt"]  # of the ground truth: nothing is computed
UPSCALERS = [name for name in ALL if name not in COPIES]
# Loss terms that are on without a weight in module.objective, or are meant for another size than tiny.
REGRESSION = ["module.lpips=1", "module.flow_loss=1", "module.features=random_features"]
TERMS = {"adapter": ["module.objective.language=0"], "basicvsr": REGRESSION, "basicvsrpp": REGRESSION}
ELSEWHERE = {"adapter": {"language"}}
MIXED = {"videogigagan": {"gan"}}  # by intent: the discriminator's minibatch deviation compares clips


@cache
def settings(name: str, verb: str = "eval", *overrides: str) -> Any:
    size = ["size=tiny"] if (CONF / "method" / name / "tiny.yaml").is_file() else []
    return compose([f"method={name}", *size, *overrides], verb=verb)


def method(name: str, *overrides: str) -> Any:
    """At size=tiny with seeded random weights everywhere: zero initialisations would hide what a part does."""
    torch.manual_seed(0)
    built = build(settings(name, "eval", *overrides).method).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            if not parameter.any():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return built


def bare(clip: Clip) -> Clip:
    return Clip(clip.lr, None, clip.name, clip.index, clip.scale)


def upscale(built: Any, clip: Clip) -> Tensor:
    with torch.inference_mode():
        return built.upscale(bare(clip), Noise(0)).float()


def assert_same_frames(frames: Tensor, expected: Tensor) -> None:
    """Equal to rounding. A method that quantises to 8 bits on its way may round a pixel in ten thousand elsewhere."""
    difference = (frames - expected).abs()
    assert difference.max() <= 2.5 / 255 and (difference > 2e-5).double().mean() < 2e-4, difference.max()


def stages() -> list[tuple[str, str]]:
    """Every stage of every method. One whose files are faulty has none here: the first test says what is wrong."""
    result = []
    for name in UPSCALERS:
        try:
            result += [(name, stage) for stage in targets.load(settings(name).method._target_, name).stages]
        except ConfigError:
            continue
    return result


@pytest.mark.parametrize("name", ALL)
def test_its_files_say_what_it_is_and_what_each_setting_means(name: str) -> None:
    """The comment of a setting is its line in --help; the file's first comment is that of `vsrbench list methods`."""
    cfg = settings(name)
    check_nodes(cfg)  # what the constructor takes
    assert cfg.method.name == name
    assert texts.first_comment(CONF / "method" / f"{name}.yaml")
    nodes = {"method": cfg.method}
    if (CONF / "training" / f"{name}.yaml").is_file():
        check_nodes(settings(name, "train"))
        nodes["module"] = settings(name, "train").module
    for node, content in nodes.items():
        values = OmegaConf.to_container(content)
        entries = texts.of_node(node, values, texts.comments(node, values), everything=True)
        unexplained = [key for key, _, meaning in entries if not meaning]
        assert unexplained == [], "write what it means behind it, `key: value  # meaning`"


@pytest.mark.parametrize("name", UPSCALERS)
@pytest.mark.parametrize("size", [(17, 23), (3, 5)])
def test_any_size_comes_out_enlarged_padded_to_the_multiple_alone(name: str, size: tuple[int, int]) -> None:
    clip, built = latent.make_clip(frames=2, size=size), method(name)
    assert all(padded_size(n, built.multiple, built.minimum) - n < built.multiple for n in size)
    frames = upscale_padded(built, bare(clip), Noise(0))
    assert frames.shape == (1, 2, 3, 4 * size[0], 4 * size[1])
    assert frames.dtype == torch.float32 and frames.min() >= 0 and frames.max() <= 1
    assert frames.std() > 0.01


@pytest.mark.parametrize("name", UPSCALERS)
def test_the_same_call_gives_the_same_frames_and_another_seed_only_where_noise_is_drawn(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=3)
    first = upscale(built, clip)
    assert torch.equal(first, upscale(built, clip))
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("name", UPSCALERS)
def test_a_clip_does_not_see_the_others_of_its_batch(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=3, batch=2)
    together = upscale(built, clip)
    for row in range(2):
        assert_same_frames(together[[row]], upscale(built, clip.rows([row])))


@pytest.mark.parametrize("name", UPSCALERS)
def test_frames_do_not_depend_on_how_many_the_networks_take_at_once(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=4)
    built.batch = 4
    whole = upscale(built, clip)
    built.batch = 1
    assert_same_frames(upscale(built, clip), whole)


@pytest.mark.parametrize("name", UPSCALERS)
def test_chunks_with_their_context_are_the_whole_clip(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=7)
    source = Memory(clip.lr[0])
    whole = dict(upscale_source(built, source, Noise(0), {**SETTINGS, "whole": 7, "chunk": 7}))
    longest = 7 if built.context == FULL_CLIP else 1  # 1: in chunks even where these cost more than the whole clip
    chunked = dict(upscale_source(built, source, Noise(0), {**SETTINGS, "whole": longest, "chunk": 2}))
    assert list(chunked) == list(range(7))
    for number, frame in chunked.items():
        assert_same_frames(frame, whole[number])


@pytest.mark.parametrize("name", UPSCALERS)
def test_every_parameter_belongs_to_one_part(name: str) -> None:
    built = method(name)
    of_parts = [id(p) for part in built.parts().values() for p in part.parameters()]
    assert len(of_parts) == len(set(of_parts))
    assert {id(p) for p in built.parameters()} == set(of_parts)


@pytest.mark.parametrize("name", UPSCALERS)
def test_the_miniature_is_built_and_upscales(name: str) -> None:
    """As `upscale` builds it, with the weights that size=mini ships, and as `train` does."""
    if "mini" not in (settings(name).supports.size or ["mini"]):
        pytest.skip(f"method={name} has no size=mini")
    built = build_method(compose([f"method={name}", "size=mini", "untrained=true"], verb="upscale"))
    frames = upscale_padded(built, bare(latent.make_clip(frames=2, size=(16, 16))), Noise(0))
    assert frames.shape == (1, 2, 3, 64, 64) and torch.isfinite(frames).all()
    if built.stages:
        cfg = compose([f"method={name}", "size=mini", f"stage={next(iter(built.stages))}"], verb="train")
        assert build(cfg.module, method=built).stages


@pytest.mark.parametrize("name", sorted({name for name, _ in stages()}))
def test_weights_that_were_saved_load_and_give_the_same_frames(name: str) -> None:
    built, clip = method(name), latent.make_clip(frames=2)
    state = {key: value.clone() for key, value in built.trained_state().items()}
    assert state
    before = upscale(built, clip)
    with torch.no_grad():
        for part in {key.partition(".")[0] for key in state}:
            for parameter in built.parts()[part].parameters():
                parameter.mul_(0.5)
    built.load_trained_state(state)
    assert torch.equal(upscale(built, clip), before)
    key = next(iter(state))
    with pytest.raises(WeightsError, match=key.partition(".")[2].split(".")[0]):
        built.load_trained_state({**state, f"{key}_of_another_network": state[key]})


@pytest.mark.parametrize(("name", "stage"), stages())
def test_a_step_of_training_lowers_the_loss_of_its_batch(name: str, stage: str) -> None:
    """Twenty steps on one batch with the same draws; the mean of the last losses lies below the first."""
    module, clip = training(name, stage)
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(20):
        loss = total(module, clip)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(losses[-3:]) / 3 < losses[0]


@pytest.mark.parametrize(("name", "stage"), stages())
def test_a_stage_trains_its_parts_and_nothing_else(name: str, stage: str) -> None:
    module, clip = training(name, stage)
    total(module, clip).backward()
    parts = module.parts()
    moved = {n for n, part in parts.items() if any(p.grad is not None for p in part.parameters())}
    assert moved <= set(module.stages[stage].trainable)
    assert moved


@pytest.mark.parametrize(("name", "stage"), stages())
def test_a_stage_names_the_terms_of_its_losses(name: str, stage: str) -> None:
    """Those that come when every weight of module.objective is above 0."""
    module, clip = training(name, stage, *every_term(name, stage))
    assert set(module.losses(clip, Noise(0))) == set(module.stages[stage].losses) - ELSEWHERE.get(name, set())


@pytest.mark.parametrize(("name", "stage"), stages())
def test_the_loss_of_a_batch_is_the_mean_of_its_clips(name: str, stage: str) -> None:
    """No clip sees another one, nor another's noise: this is what makes accumulation and ranks exact."""
    module, clip = training(name, stage, *every_term(name, stage), batch=2)
    terms = module.losses(clip, Noise(0))
    single = [module.losses(clip.rows([row]), Noise(0)) for row in range(2)]
    for term in terms.keys() - MIXED.get(name, set()):
        mean = sum(losses[term] for losses in single if term in losses) / 2
        torch.testing.assert_close(terms[term], mean, atol=1e-6, rtol=1e-4, msg=lambda text, t=term: f"{t}: {text}")


@pytest.mark.parametrize(("name", "stage"), stages())
def test_the_validation_loss_of_a_stage_has_fixed_noise_and_follows_its_weights(name: str, stage: str) -> None:
    module, clip = training(name, stage)
    before = torch.get_rng_state()
    first = module.eval().validation_loss(clip)
    module.noise = Noise(1)
    assert module.validation_loss(clip) == first and torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * parameter.requires_grad
    assert module.validation_loss(clip) != first


@pytest.mark.parametrize(("name", "stage"), stages())
def test_gradient_checkpointing_changes_no_gradient(name: str, stage: str) -> None:
    if "checkpointing" not in settings(name, "train").module:
        pytest.skip(f"method={name} has no gradient checkpointing")
    gradients = []
    for switch in (False, True):
        module, clip = training(name, stage, f"module.checkpointing={str(switch).lower()}")
        total(module, clip).backward()
        gradients.append([p.grad for p in module.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, atol=1e-6, rtol=1e-4)


def every_term(name: str, stage: str) -> list[str]:
    """Overrides that give every term of module.objective a weight above 0."""
    module: Any = OmegaConf.to_container(settings(name, "train", f"stage={stage}").module)
    flat = leaves(module.get("objective", {}), "module.objective")
    off = [key for key, weight in flat.items() if weight == 0 and not isinstance(weight, bool)]
    return [*(f"{key}=1" for key in off), *TERMS.get(name, [])]


def training(name: str, stage: str, *overrides: str, batch: int = 1) -> tuple[Any, Clip]:
    """The training module at the start of a stage, and one batch as its recipe crops it."""
    cfg = settings(name, "train", f"stage={stage}", *overrides)
    torch.manual_seed(0)
    module = build(cfg.module, method=build(cfg.method))
    module.begin_stage(stage, build(cfg.optimiser, _convert_="all"), Noise(0), None)
    clip = latent.make_clip(frames=int(cfg.train.frames), size=(int(cfg.train.crop),) * 2, batch=batch)
    return module.train(), clip


def total(module: Any, clip: Clip) -> Tensor:
    terms = module.losses(clip, Noise(0))
    assert all(torch.isfinite(value) for value in terms.values()), terms
    return torch.stack(list(terms.values())).sum()
