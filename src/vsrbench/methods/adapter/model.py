"""The adapter method: networks, settings and upscaling."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from annotated_types import Ge
from einops import repeat
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import Noise, NoiseSource
from vsrbench.diffusion.samplers import Sampler
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.methods.adapter import cost
from vsrbench.methods.adapter.backbone import Backbone
from vsrbench.methods.adapter.colour import PostProcessing
from vsrbench.methods.adapter.networks import Adapter
from vsrbench.methods.adapter.sampling import Sampling, Start, finish, sample, sampler_for, windows
from vsrbench.methods.adapter.vae import ResidualLayer
from vsrbench.methods.adapter.vit import load_vit
from vsrbench.methods.base import Method, Stage, Work
from vsrbench.types import FULL_CLIP, Clip, Progress, Trace

# What of the frozen parts the miniature trains, by pieces of parameter names: see ``AdapterVSR.tuned``.
TUNED = {"denoising_unet": ("video.", ".attn2.", ".norm2."), "vae": ("video.",)}


class AdapterVSR(Method):
    """A frozen video U-Net that reads LR frames as pseudo text (thesis, chapter 3).

    prior: U-Net, VAE and schedule. vit: settings of ``load_vit``. adapter: settings of ``Adapter`` (tokens, width and
    text follow from the networks). condition: False samples without the adapter (Table 4.3). start, renorm, window,
    stride, lr_noise: see ``Sampling``. post: settings of ``PostProcessing``.
    train_vit: the ViT is trained with the adapter (ours, for a miniature without a
    pretrained one). tuned: parts of which weights files hold what ``stage=prior`` and ``stage=vae`` train (ours, the
    miniature; published backbones are only read). max_context: frames
    that temporal chunks overlap; None: whole clips.
    residual_layer: a trainable layer behind the VAE's decoder (4.1.2, which drops it again), trained by stage=residual.
    stage=adapter is the thesis's training.
    """

    stages = {
        "adapter": Stage(trainable=("adapter",), losses=("prediction", "x0", "pixel", "gradient", "language")),
        "prior": Stage(trainable=("denoising_unet",), losses=("prediction", "x0", "pixel", "gradient")),
        "vae": Stage(trainable=("vae",), losses=("pixel", "gradient")),
    }

    @check_arguments("method")
    def __init__(
        self,
        prior: Backbone,
        sampler: Sampler,
        vit: Mapping[str, Any] | None = None,
        adapter: Mapping[str, Any] | None = None,
        condition: bool = True,
        start: Start = "gaussian",
        renorm: bool = False,
        window: int = 8,
        stride: int = 6,
        lr_noise: Annotated[int, Ge(0)] = 0,
        post: Mapping[str, Any] | None = None,
        train_vit: bool = False,
        tuned: bool = False,
        max_context: Annotated[int, Ge(0)] | None = None,
        residual_layer: bool = False,
        name: str = "adapter",
    ) -> None:
        super().__init__()
        self.prior = prior.eval().requires_grad_(False)
        self.sampler = sampler_for(start, sampler)
        self.vit = load_vit(**(vit or {})).requires_grad_(False)
        plan = {"tokens": self.vit.tokens, "width": self.vit.width, "text": prior.text, **(adapter or {})}
        self.adapter = Adapter(**plan)
        windows(window, window, stride)  # now, not at the first validation
        if window > self.adapter.frames:
            raise ConfigError(f"method.window={window} is longer than method.adapter.frames={self.adapter.frames}")
        self.condition, self.start, self.renorm = condition, start, renorm
        self.window, self.stride, self.lr_noise = window, stride, lr_noise
        self.post = PostProcessing(**(post or {}))
        self.tuned, self.max_context = tuned, max_context
        self.residual = ResidualLayer().requires_grad_(False) if residual_layer else None
        self.stages = self.stages_for({"train_vit": train_vit, "residual_layer": residual_layer})
        self.multiple = max(1, prior.vae.factor // 4)  # frames reach the VAE in whole latent pixels

    @property
    def context(self) -> int:
        return FULL_CLIP if self.max_context is None else self.max_context

    def parts(self) -> dict[str, nn.Module]:
        parts = {"vit": self.vit, "adapter": self.adapter, "denoising_unet": self.prior.unet, "vae": self.prior.vae}
        return parts if self.residual is None else {**parts, "residual": self.residual}

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """The components that Table 4.6 names."""
        groups: dict[str, list[nn.Module]] = {
            "denoising U-Net": [self.prior.unet],
            "VAE": [self.prior.vae],
            "ViT": [self.vit],
            "adapter": [self.adapter],
        }
        return groups if self.residual is None else {**groups, "residual layer": [self.residual]}

    def work(self, clip: Clip) -> dict[str, Work]:
        """Units of work; see ``cost.work``."""
        return cost.work(self, clip)

    def sampling(self, clip: Clip, trace: Trace | None = None) -> Sampling:
        """The networks and settings over one clip."""
        if self.condition:
            self.settle_gain()
        return Sampling(
            self.prior, self.vit, self.adapter, self.sampler, clip, self.start, self.renorm, self.window, self.stride,
            self.lr_noise, self.condition, batch=self.batch, trace=trace,
        )  # fmt: skip

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Eq. 3.2 and 3.3 from the start to the last step, the VAE's decoder, and the colour chain of 4.1.2."""
        run = self.sampling(clip, trace)
        with self.autocast():
            latents, _ = sample(run, noise, progress=progress)
            return finish(self.post, clip.lr, self.decode(latents, clip.lr))

    def decode(self, latents: Tensor, lr: Tensor) -> Tensor:
        """Latents (B,T,4,h,w) beside LR frames (B,T,3,h,w) to frames (B,T,3,4h,4w), about [0,1]."""
        frames = self.prior.vae.decode(latents, lr).float()
        return frames if self.residual is None else self.residual(frames).float()

    def settle_gain(self) -> None:
        """ours: gain=auto is measured on one fixed picture, so it follows from the networks and from no batch."""
        if not self.adapter.gain.isnan():
            return
        picture = Noise(0).normal((1, 3, 8, 8), "gain").to(self.device).sigmoid()
        with torch.no_grad():
            tokens = self.vit(F.interpolate(picture, size=(64, 64), mode="bicubic").clamp(0, 1))
        self.adapter.measure(repeat(tokens, "1 n d -> 1 t n d", t=self.adapter.frames))

    # --- weights ---------------------------------------------------------------------------------

    @classmethod
    def stages_for(cls, settings: Mapping[str, Any]) -> dict[str, Stage]:
        """With ``train_vit`` the ViT is trained beside the adapter; ``residual_layer`` has a stage of its own."""
        stages = dict(cls.stages)
        if settings.get("train_vit"):
            stages["adapter"] = replace(stages["adapter"], trainable=("adapter", "vit"))
        if settings.get("residual_layer"):
            stages["residual"] = Stage(trainable=("residual",), losses=("pixel", "gradient"), needs=("adapter",))
        return stages

    def shipped_parts(self) -> set[str]:
        """The adapter and the residual layer; with ``tuned`` also the ViT and what the other stages move."""
        return set(self.parts()) if self.tuned else {"adapter", "residual"} & self.parts().keys()

    def part_state(self, name: str) -> dict[str, Tensor]:
        """What moves of a part; the rest is what the prior brought."""
        return {f"{name}.{k}": v for k, v in self.parts()[name].state_dict().items() if moves(name, k)}

    def adapt_weights(self, part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Files hold what moves of a part; the rest is what the prior brought. Raises WeightsError for less or more."""
        own = self.parts()[part].state_dict()
        expected = {key for key in own if moves(part, key)}
        if part in TUNED and values.keys() != expected:
            missing, strange = sorted(expected - values.keys()), sorted(values.keys() - expected)
            raise WeightsError(
                f"weights do not fit the trained pieces of {part!r}: {len(missing)} missing {missing[:3]}, "
                f"{len(strange)} unexpected {strange[:3]} (of another size or prior.vae?)"
            )
        return {**own, **values} if part in TUNED else values


def moves(part: str, key: str) -> bool:
    """Whether a parameter or buffer of a part is trained in some stage. The rotary frequencies are constants."""
    if key.endswith("rotary_emb.freqs"):
        return False
    return part not in TUNED or any(piece in key for piece in TUNED[part])
