import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

import latent
from vsrbench.config import compose
from vsrbench.diffusion.guided import Residuals, features, forward, places
from vsrbench.diffusion.prior import Prior

SIZES = [(16, 16), (13, 22), (8, 9)]


def inputs(prior: Prior, size: tuple[int, int] = (16, 16), batch: int = 2, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    tokens, width = prior.prompt.shape[1:]
    return {
        "x": torch.randn(batch, 7, *size, generator=generator),
        "t": torch.tensor([3, 700])[:batch],
        "context": torch.randn(batch, tokens, width, generator=generator),
        "labels": prior.labels(torch.device("cpu")),
    }


def stock(unet: nn.Module, given: dict, **more: object) -> Tensor:
    labels = given["labels"]
    labels = None if labels is None else labels.expand(len(given["x"]))
    return unet(given["x"], given["t"], given["context"], class_labels=labels, **more).sample


def residuals_like(unet: nn.Module, given: dict, scale: float, in_stream: bool = True, dense: bool = True) -> Residuals:
    """Random residuals with the shapes of a UNet's features."""
    generator = torch.Generator().manual_seed(5)
    found = features(unet, **given)

    def noise(feature: Tensor) -> Tensor:
        return scale * torch.randn(feature.shape, generator=generator)

    drawn = found.map(noise)
    return Residuals(drawn.encoder, drawn.middle, drawn.decoder if dense else [], in_stream)


@pytest.fixture(params=["tiny", "mini"])
def prior(request: pytest.FixtureRequest) -> Prior:
    return latent.prior(request.param)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_without_residuals_it_is_the_networks_own_forward(prior: Prior, size: tuple[int, int]) -> None:
    given = inputs(prior, size)
    assert torch.allclose(forward(prior.unet, **given), stock(prior.unet, given), atol=1e-5)


@torch.no_grad()
def test_one_timestep_and_one_prompt_serve_the_batch(prior: Prior) -> None:
    given = inputs(prior)
    one = {**given, "t": 500, "context": prior.prompt}
    many = {**given, "t": torch.tensor([500, 500]), "context": prior.prompt.expand(2, -1, -1)}
    assert torch.equal(forward(prior.unet, **one), forward(prior.unet, **many))


@pytest.mark.parametrize("in_stream", [True, False])
@torch.no_grad()
def test_zero_residuals_change_nothing(prior: Prior, in_stream: bool) -> None:
    given = inputs(prior, (13, 22))
    nothing = residuals_like(prior.unet, given, 0, in_stream)
    assert torch.equal(forward(prior.unet, **given, residuals=nothing), forward(prior.unet, **given))


@torch.no_grad()
def test_encoder_only_guidance_is_diffusers_own_mechanism(prior: Prior) -> None:
    """What ControlNet (and StableVSR) pass to the stock forward."""
    given = inputs(prior, (13, 22))
    added = residuals_like(prior.unet, given, 0.3, in_stream=False, dense=False)
    theirs = stock(
        prior.unet,
        given,
        down_block_additional_residuals=added.encoder,
        mid_block_additional_residual=added.middle,
    )
    ours = forward(prior.unet, **given, residuals=added)
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, forward(prior.unet, **given), atol=1e-2)


def hook(unet: nn.Module, residuals: Residuals) -> list:
    """Dense guidance on the stock network: what the released DGAF-VSR adds, as forward hooks."""
    handles = []

    def after(module: nn.Module, added: Tensor) -> None:
        def change(_: nn.Module, __: tuple, output: object) -> object:
            return (output[0] + added,) if isinstance(output, tuple) else output + added

        handles.append(module.register_forward_hook(change))

    def before_first_block(_: nn.Module, arguments: tuple, keywords: dict) -> tuple:
        return arguments, {**keywords, "hidden_states": keywords["hidden_states"] + residuals.encoder[0]}

    handles.append(unet.down_blocks[0].register_forward_pre_hook(before_first_block, with_kwargs=True))
    for blocks, added, samplers in (
        (unet.down_blocks, iter(residuals.encoder[1:]), "downsamplers"),
        (unet.up_blocks, iter(residuals.decoder), "upsamplers"),
    ):
        for block in blocks:
            for last_of_unit in getattr(block, "attentions", None) or block.resnets:
                after(last_of_unit, next(added))
            for sampler in getattr(block, samplers) or []:
                after(sampler, next(added))
    after(unet.mid_block, residuals.middle)
    return handles


@pytest.mark.parametrize("size", [(16, 16), (13, 22)])
@torch.no_grad()
def test_dense_guidance_is_what_hooks_on_the_stock_network_do(prior: Prior, size: tuple[int, int]) -> None:
    given = inputs(prior, size)
    added = residuals_like(prior.unet, given, 0.1)
    ours = forward(prior.unet, **given, residuals=added)
    handles = hook(prior.unet, added)
    theirs = stock(prior.unet, given)
    for handle in handles:
        handle.remove()
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, forward(prior.unet, **given), atol=1e-2)


@torch.no_grad()
def test_places_have_the_channels_of_the_features(prior: Prior) -> None:
    found = features(prior.unet, **inputs(prior))
    encoder, middle, decoder = places(prior.unet)
    assert [f.shape[1] for f in found.encoder] == encoder
    assert found.middle.shape[1] == middle
    assert [f.shape[1] for f in found.decoder] == decoder


def test_the_x4_upscaler_has_28_places() -> None:
    """12 + 1 + 15, with the channels of the released guide's zero convolutions."""
    config = compose(["method=ldm", "size=paper"], verb="eval").prior.unet
    with torch.device("meta"):
        encoder, middle, decoder = places(UNet2DConditionModel(**config))
    assert encoder == [256] * 4 + [512] * 6 + [1024] * 2
    assert middle == 1024
    assert decoder == [1024] * 4 + [512] * 8 + [256] * 3


def gradients(prior: Prior, checkpointing: bool) -> tuple[Tensor, list[Tensor]]:
    given = inputs(prior)
    added = residuals_like(prior.unet, given, 0.1).map(lambda r: r.detach().requires_grad_())
    prior.unet.zero_grad()
    output = forward(prior.unet, **given, residuals=added, checkpointing=checkpointing)
    output.square().mean().backward()
    tensors = [*added.encoder, added.middle, *added.decoder]
    return output.detach(), [t.grad for t in tensors] + [p.grad for p in prior.unet.parameters()]


def test_gradient_checkpointing_changes_no_gradient() -> None:
    prior = latent.prior()
    output, plain = gradients(prior, False)
    again, recomputed = gradients(prior, True)
    assert torch.equal(output, again)
    for one, other in zip(plain, recomputed, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-7)


def test_the_state_dict_stays_untouched() -> None:
    prior = latent.prior()
    before = {key: value.clone() for key, value in prior.unet.state_dict().items()}
    given = inputs(prior)
    forward(prior.unet, **given, residuals=residuals_like(prior.unet, given, 0.1))
    assert before.keys() == prior.unet.state_dict().keys()
    assert not any(module._forward_hooks for module in prior.unet.modules())


def test_a_class_embedding_needs_labels() -> None:
    prior = latent.prior()
    with pytest.raises(ValueError, match=r"class embedding.*prior\.noise_level"):
        forward(prior.unet, **{**inputs(prior), "labels": None})
