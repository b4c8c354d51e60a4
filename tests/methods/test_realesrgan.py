"""Real-ESRGAN: its networks against the layer lists of ncnn files, and reading such files to the last byte."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import latent
from ncnn_graph import compute, write_compact, write_rrdb
from vsrbench.config import build, compose
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.realesrgan import RealESRGAN
from vsrbench.weights import cache
from vsrbench.weights.catalogue import entry_of
from vsrbench.weights.ncnn import read_values
from vsrbench.weights.trained import load_trained

WRITERS: dict[str, Callable[[nn.Module, Path, bool], Path]] = {"x4plus": write_rrdb, "animevideov3": write_compact}
MILLIONS = {"x4plus": 16_697_987, "animevideov3": 621_424}


def small(network: str, seed: int) -> RealESRGAN:
    """A small network whose every value matters; float16 holds its weights exactly."""
    torch.manual_seed(seed)
    method = RealESRGAN(network=network, channels=5, blocks=2, growth=3)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.copy_((0.3 * torch.randn(parameter.shape)).half().float())
    return method.eval()


@pytest.mark.parametrize("network", WRITERS)
@pytest.mark.parametrize("half", [True, False])
def test_a_file_for_ncnn_is_the_network_that_its_layers_say(network: str, half: bool, tmp_path: Path) -> None:
    file = WRITERS[network](small(network, 0).net, tmp_path / "net.bin", half)
    method = small(network, 1)
    load_trained(method, str(file))
    frame = torch.rand(1, 3, 7, 9)
    with torch.inference_mode():
        output = method.net(frame)
    torch.testing.assert_close(output, compute(file, frame), atol=1e-5, rtol=1e-5)
    assert output.std() > 0.1


@pytest.mark.parametrize("network", WRITERS)
def test_every_byte_is_used(network: str, tmp_path: Path) -> None:
    net = small(network, 0).net
    file = WRITERS[network](net, tmp_path / "net.bin", True)
    assert sum(value.numel() for value in read_values(file).values()) == sum(p.numel() for p in net.parameters())
    content = file.read_bytes()
    file.write_bytes(content + b"\0\0\0\0")
    with pytest.raises(
        WeightsError, match=rf"has {len(content) + 4} bytes, its layers take {len(content)}: it is of another"
    ):
        read_values(file)
    file.write_bytes(content[:-4])
    with pytest.raises(WeightsError, match="is truncated"):
        read_values(file)
    file.write_bytes(b"\1\2\3\4" + content[4:])
    with pytest.raises(WeightsError, match="of the precision 0x4030201 are not read here"):
        read_values(file)


def test_a_damaged_list_of_layers(tmp_path: Path) -> None:
    file = write_compact(small("animevideov3", 0).net, tmp_path / "net.bin", True)
    param = file.with_suffix(".param")
    lines = param.read_text().splitlines()
    param.write_text("\n".join(lines[:-2]))
    with pytest.raises(WeightsError, match=r"net.param is truncated .*: 9 layers, 11 announced"):
        read_values(file)
    param.write_text("\n".join(lines).replace("PReLU ", "Gelu "))
    with pytest.raises(WeightsError, match="is of the kind Gelu, which is not read here"):
        read_values(file)
    param.write_text("something else")
    with pytest.raises(WeightsError, match="is no list of layers for ncnn"):
        read_values(file)


def test_weights_of_the_other_network_and_of_another_size(tmp_path: Path) -> None:
    file = write_compact(small("animevideov3", 0).net, tmp_path / "net.bin", True)
    with pytest.raises(WeightsError, match="weights do not fit 'generator'"):
        load_trained(small("x4plus", 0), str(file))
    wide = RealESRGAN(network="animevideov3", channels=6, blocks=2)
    with pytest.raises(WeightsError, match=r"layer Convolution_1.weight \(5, 3, 3, 3\) is not body.0.weight"):
        load_trained(wide, str(file))


def test_basicsrs_names(tmp_path: Path) -> None:
    source, method = small("x4plus", 0), small("x4plus", 1)
    torch.save({"params_ema": source.net.state_dict()}, tmp_path / "RealESRGAN_x4plus.pth")
    load_trained(method, str(tmp_path / "RealESRGAN_x4plus.pth"))
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), source.parameters(), strict=True))


@pytest.mark.parametrize("network", WRITERS)
def test_parameters_of_the_published_networks_to_the_last_one(network: str) -> None:
    with torch.device("meta"):
        method = build(compose(["method=realesrgan", f"method.network={network}"], verb="eval").method)
    assert (
        sum(p.numel() for p in method.parameters()) == MILLIONS[network] == entry_of(f"realesrgan_{network}").parameters
    )


@pytest.mark.parametrize("network", WRITERS)
def test_the_published_files(network: str) -> None:
    """Where they were fetched: the network computes what their own layer list says."""
    entry = entry_of(f"realesrgan_{network}")
    if any(cache.find(entry, content) is None for content in entry.contents):
        pytest.skip(f"not here: vsrbench weights fetch realesrgan_{network}")
    file = cache.locate(entry.name)
    method = RealESRGAN(network=network).eval()  # type: ignore[arg-type]
    load_trained(method, str(file))
    frame = latent.make_clip(1, (16, 20)).lr[0]
    with torch.inference_mode():
        torch.testing.assert_close(method.net(frame), compute(file, frame), atol=1e-4, rtol=1e-4)


def test_frames_are_upscaled_by_themselves() -> None:
    method, clip = small("x4plus", 0), latent.make_clip(3)
    frames = method.upscale(clip, Noise(0))
    assert method.context == 0 and torch.equal(frames[:, [1]], method.upscale(clip.window(1, 2), Noise(1)))


def test_it_is_not_trained_here() -> None:
    with pytest.raises(ConfigError, match="method=realesrgan has nothing to train"):
        compose(["method=realesrgan"], verb="train")
    with pytest.raises(ConfigError, match=r"method.network=x2: use x4plus or animevideov3"):
        RealESRGAN(network="x2")  # type: ignore[arg-type]
