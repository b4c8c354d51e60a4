"""The five parts of SATeCo that are trained; the frozen prior stands beside them (Fig. 2)."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from vsrbench.diffusion.prior import Prior
from vsrbench.errors import ConfigError
from vsrbench.methods.sateco.adapters import SFA, TFA, Guidance, Init, ZeroConv
from vsrbench.methods.sateco.encoder import LatentEncoder
from vsrbench.methods.sateco.guidance import unet_widths, vae_widths
from vsrbench.methods.sateco.refiner import Refiner
from vsrbench.methods.sateco.upscaler import make_upscaler


class Networks(nn.Module):
    """upscaler, latent_encoder, unet_guidance, vae_guidance, refiner: shaped to fit ``prior``, which is not kept.

    upscaler: see ``make_upscaler``. encoder: ``blocks`` of ``LatentEncoder`` (its widths and groups are the UNet's).
    guidance: ``unet`` and ``vae`` (zero_conv | sfa | sfa_tfa, Table 2), the rest as in ``Guidance``. refiner: see
    ``Refiner``. init: identity (the prior is unchanged at the start, ours) | paper.
    Raises ConfigError for settings that do not exist or do not fit the prior.
    """

    def __init__(
        self,
        prior: Prior,
        upscaler: Mapping[str, Any] | None = None,
        encoder: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Any] | None = None,
        refiner: Mapping[str, Any] | None = None,
        init: Init = "identity",
        scale: int = 4,
    ) -> None:
        super().__init__()
        if prior.kind == "upscaler" and prior.factor != scale:
            raise ConfigError(f"scale={scale}: this prior enlarges {prior.factor} times; set scale={prior.factor}")
        settings = dict(guidance or {})
        kinds = {part: settings.pop(part, "sfa_tfa") for part in ("unet", "vae")}
        unet = prior.unet.config
        widths = [int(width) for width in unet.block_out_channels]
        groups = int(unet.norm_num_groups)
        self.upscaler = make_upscaler(upscaler or {}, scale)
        self.latent_encoder = LatentEncoder(prior.latent_channels, widths, groups=groups, **(encoder or {}))
        self.unet_guidance = Guidance(unet_widths(prior), kinds["unet"], "unet", init=init, **settings)
        self.vae_guidance = Guidance(vae_widths(prior), kinds["vae"], "vae", init=init, **settings)
        self.refiner = Refiner(**(refiner or {}))

    def parameter_groups(self) -> dict[str, list[nn.Module]]:
        """Lines of the parameter table: what each counts; lines without parameters are left out."""
        lines: dict[str, list[nn.Module]] = {
            "video upscaler": [self.upscaler],
            "latent encoder E_z": [self.latent_encoder],
        }
        for name, guidance in (("UNet", self.unet_guidance), ("VAE", self.vae_guidance)):
            inside = [part for point in guidance.points for part in point.children()]
            lines[f"SFA ({name})"] = [part for part in inside if isinstance(part, SFA)]
            lines[f"TFA ({name})"] = [part for part in inside if isinstance(part, TFA)]
            lines[f"zero convolutions ({name})"] = [part for part in inside if isinstance(part, ZeroConv)]
        lines["video refiner"] = [self.refiner]
        return {line: parts for line, parts in lines.items() if any(True for p in parts for _ in p.parameters())}
