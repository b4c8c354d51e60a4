"""Edge and high-pass components of one feature, as pictures (DGAF-VSR Supp. Sec. 10, Supp. Figure 6)."""

from torch import Tensor

from vsrbench.analysis import paper
from vsrbench.analysis.alignment import Rescaling, rescaled, warped
from vsrbench.analysis.recording import Span
from vsrbench.analysis.report import Found, Table
from vsrbench.analysis.session import Session
from vsrbench.analysis.strength import MEASURES, NAMES, Strength, canny, high_pass, laplacian, sobel
from vsrbench.errors import ConfigError, DataError


def components(session: Session) -> Found:
    """The last step's x0 of one frame's neighbour: original, warped directly, warped while enlarged."""
    node = session.cfg.analysis
    strength, how = Strength.from_config(node), Rescaling.from_config(node, session.factor)
    frame, channel = int(node.components.frame), int(node.components.channel)
    source = session.sources[0]
    if not 1 <= frame < source.frames:
        raise DataError(
            f"analysis.components.frame={frame}: {source.name} gives frames 1 to {source.frames - 1}; "
            "frame 0 has no previous frame, and analysis.frames limits the last"
        )
    if not 0 <= channel < session.method.prior.latent_channels:
        raise ConfigError(f"analysis.components.channel={channel}: use 0 to {session.method.prior.latent_channels - 1}")
    session.sources = [source]
    clip = next(session.recordings())
    span, last = Span.of(clip.x0), len(clip.timesteps) - 1
    x0, flow = list(clip.pairs(last))[frame - 1]
    ways = {
        "original": x0,
        "warp": warped(x0, flow, how),
        f"x{how.factor:g}, warp, x1/{how.factor:g}": rescaled(x0, flow, how),
    }
    units = {name: span.unit(x)[0, channel] for name, x in ways.items()}
    measured = {name: strength(x, strength.radius(x)) for name, x in units.items()}
    pictures = pictured(units, strength)
    rows = [[NAMES[m], *(measured[name][m] for name in ways)] for m in MEASURES]
    table = Table(
        f"Strength of x0 of {clip.name}, frame {frame - 1} brought to frame {frame}, channel {channel}, "
        f"t = {clip.timesteps[last]}", ["measure", *ways], rows,
    )  # fmt: skip
    place = {"clip": clip.name, "frame": frame, "channel": channel, "timestep": clip.timesteps[last]}
    counts = {**session.counts(), "pairs": 1, "steps": 1, "channels": 1, "groups": 1}
    return Found({"factor": how.factor, "strength": measured, **place}, [table], paper.COMPONENTS, counts, pictures)


def pictured(units: dict[str, Tensor], strength: Strength) -> dict[str, dict[str, object]]:
    """{component: {way: picture (h,w)}} of features (h,w) in [0,1]."""
    parts = {
        "feature": lambda x: x,
        NAMES["canny"]: lambda x: canny(x[None], *strength.canny)[0],
        NAMES["sobel"]: lambda x: sobel(x[None])[0],
        NAMES["laplacian"]: lambda x: laplacian(x[None])[0].abs(),
        NAMES["highpass"]: lambda x: high_pass(x, strength.radius(x)).abs(),
    }
    return {name: {way: part(x).numpy() for way, x in units.items()} for name, part in parts.items()}
