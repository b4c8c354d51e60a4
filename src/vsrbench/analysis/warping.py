"""What warping costs, and what warping while enlarged saves: DGAF-VSR's Observation 2 and Supp. Sec. 3 to 5, 10."""

from typing import Any

from torch import Tensor

from vsrbench.analysis.alignment import Rescaling, enlarged_warped, rescaled, resized, warped
from vsrbench.analysis.recording import Recording, Span
from vsrbench.analysis.report import SETTING, Nested, Result, Table, gain, loss, mean
from vsrbench.analysis.session import Session, over_clips, over_clips_and_steps
from vsrbench.analysis.strength import MEASURES, NAMES, OPERATORS, Strength, canny, high_pass, laplacian, sobel
from vsrbench.errors import ConfigError, DataError

# what the paper reports of these analyses: percentages; absolute values are only drawn
WARPING: dict[str, Any] = {
    "reference": "DGAF-VSR Sec. 3.2, Observation 2, Figure 2 (Canny, high-pass); Supp. Sec. 3 (Sobel, Laplacian)",
    "setting": SETTING,
    "loss_percent": {"canny": 12.68, "sobel": 9.23, "laplacian": 65.08, "highpass": 5.34},
    "loss_enlarged_percent": {"canny": 4.38, "sobel": 5.52, "laplacian": 40.69, "highpass": 1.75},
    "gain_percent": {"canny": 9.98, "sobel": 5.78, "laplacian": 43.89, "highpass": 4.43},
}
STEPS: dict[str, Any] = {
    "reference": "DGAF-VSR Supp. Sec. 4, Supp. Figure 2 (drawn, no numbers)",
    "setting": SETTING,
    "says": "rescaled warping keeps more than direct warping at every step; all strengths rise as t falls",
}
FACTORS: dict[str, Any] = {
    "reference": "DGAF-VSR Supp. Sec. 5, Supp. Figure 3 (drawn, no numbers)",
    "setting": SETTING,
    "says": "the reduction falls with s and saturates; the absolute strength has a maximum, and s = 4, 8, 16 is taken "
    "for x4, x8, x16",
}
COMPONENTS: dict[str, Any] = {
    "reference": "DGAF-VSR Supp. Sec. 10, Supp. Figure 6 (pictures, no numbers)",
    "setting": SETTING,
    "says": "components lose detail and blur under direct warping, and stay nearly the same under rescaled warping",
}


def aligned_strengths(
    x0: Tensor, flow: Tensor, how: Rescaling, strength: Strength, span: Span
) -> dict[str, dict[str, float]]:
    """Strengths of x0 (1,C,h,w) as it is, warped directly, and warped while enlarged."""
    ways = {"original": x0, "warped": warped(x0, flow, how), "rescaled": rescaled(x0, flow, how)}
    return {name: strength(span.unit(x), strength.radius(x0)) for name, x in ways.items()}


def warping(session: Session) -> Result:
    """Figure 2 and Supp. Figure 1: (a) resizing, (b) what warping loses at both sizes, (c) rescaled warping."""
    strength, how = (
        Strength.from_config(session.cfg.analysis),
        Rescaling.from_config(session.cfg.analysis, session.factor),
    )

    def measure(clip: Recording, step: int, span: Span) -> Nested:
        def pair(x0: Tensor, flow: Tensor) -> Nested:
            radius = strength.radius(x0)
            ways = {
                "original": x0,
                **resized(x0, how),
                "warped": warped(x0, flow, how),
                "upscaled_warped": enlarged_warped(x0, flow, how),
                "rescaled": rescaled(x0, flow, how),
            }
            return {name: strength(span.unit(x), radius) for name, x in ways.items()}

        return mean(pair(x0, flow) for x0, flow in clip.pairs(step))

    records = session.measured(measure)
    a = mean(over_clips_and_steps(records))
    # ours: percentages of mean strengths, not means of percentages, which empty features would dominate
    values = {
        "factor": how.factor,
        "strength": a,
        "loss_percent": {m: loss(a["warped"][m], a["original"][m]) for m in MEASURES},
        "loss_enlarged_percent": {m: loss(a["upscaled_warped"][m], a["upscaled"][m]) for m in MEASURES},
        "gain_percent": {m: gain(a["rescaled"][m], a["warped"][m]) for m in MEASURES},
        "clips": {name: mean(steps.values()) for name, steps in records.items()},
    }
    return Result(values, warping_tables(values, how.factor), WARPING, session.counts())


def warping_tables(values: Nested, s: float) -> list[Table]:
    """Strengths by way, and the percentages beside the paper's."""
    a = values["strength"]
    strengths = [[NAMES[m], *(a[way][m] for way in a)] for m in MEASURES]
    percent = [
        [NAMES[m], *(x for key in ("loss_percent", "loss_enlarged_percent", "gain_percent")
                     for x in (values[key][m], WARPING[key][m]))]
        for m in MEASURES
    ]  # fmt: skip
    ways = ["original", f"x{s:g}", f"x1/{s:g}", "warp", f"x{s:g}, warp", f"x{s:g}, warp, x1/{s:g}"]
    heads = ["loss by warp (%)", f"loss by warp at x{s:g} (%)", "gain of rescaled over direct (%)"]
    columns = [c for head in heads for c in (head, "paper (%)")]
    return [
        Table("Strength of x0 in [0,1]", ["measure", *ways], strengths),
        Table("What warping costs, and what rescaling saves", ["measure", *columns], percent),
    ]


def steps(session: Session) -> Result:
    """Supp. Sec. 4: original, warped and rescaled-warped x0 at every diffusion step."""
    strength, how = (
        Strength.from_config(session.cfg.analysis),
        Rescaling.from_config(session.cfg.analysis, session.factor),
    )

    def measure(clip: Recording, step: int, span: Span) -> Nested:
        return mean(aligned_strengths(x0, flow, how, strength, span) for x0, flow in clip.pairs(step))

    records = session.measured(measure)
    values: Nested = {
        "factor": how.factor,
        "steps": {str(t): mean(over_clips(records, str(t))) for t in session.timesteps},
        "clips": records,
    }
    rows = [
        [f"t = {t}, {NAMES[m]}", *(s[way][m] for way in s), loss(s["warped"][m], s["original"][m]),
         loss(s["rescaled"][m], s["original"][m])]
        for t, s in values["steps"].items() for m in MEASURES
    ]  # fmt: skip
    way = f"x{how.factor:g}, warp, x1/{how.factor:g}"
    columns = ["step, measure", "original", "warp", way, "loss by warp (%)", f"loss by {way} (%)"]
    return Result(values, [Table("Strength of x0 step by step", columns, rows)], STEPS, session.counts())


def factors(session: Session) -> Result:
    """Supp. Sec. 5, Supp. Figure 3: loss and absolute edge strength over s, sampled anew with every s.

    Means over steps and over the three operators. ours: the loss is the mean of the three operators' losses;
    features of every s are warped to [0,1] by the span of the first s, so that their strengths can be compared.
    """
    node = session.cfg.analysis
    if not node.factors:
        raise ConfigError("analysis.factors is empty: give one factor or more, for instance [1,2,4]")
    strength, hows = Strength.from_config(node), [Rescaling.from_config(node, float(s)) for s in node.factors]
    spans: dict[str, Span] = {}
    values: Nested = {"factors": {}, "clips": {}}
    for how in hows:

        def measure(clip: Recording, step: int, span: Span, how: Rescaling = how) -> Nested:
            return mean(aligned_strengths(x0, flow, how, strength, span) for x0, flow in clip.pairs(step))

        session.use_factor(how.factor)
        records = session.measured(measure, spans)
        key = f"{how.factor:g}"
        values["factors"][key] = factor_values(mean(over_clips_and_steps(records)))
        values["clips"][key] = {name: mean(steps.values()) for name, steps in records.items()}
    rows = [
        [key, v["reduction_percent"], v["reduction_direct_percent"], v["edge"]["original"], v["edge"]["rescaled"]]
        for key, v in values["factors"].items()
    ]
    columns = ["s", "loss, rescaled warp (%)", "loss, direct warp (%)", "edge strength of x0", "after rescaled warp"]
    table = Table("Mean of Canny, Sobel and Laplacian, by rescaling factor", columns, rows)
    return Result(values, [table], FACTORS, session.counts())


def factor_values(strength: Nested) -> Nested:
    """The two curves of Supp. Figure 3 at one s, from mean strengths by way and measure."""
    edge = {way: sum(values[o] for o in OPERATORS) / len(OPERATORS) for way, values in strength.items()}
    return {
        "reduction_percent": mean_loss(strength["rescaled"], strength["original"]),
        "reduction_direct_percent": mean_loss(strength["warped"], strength["original"]),
        "edge": edge,
        "strength": strength,
    }


def mean_loss(after: Nested, before: Nested) -> float | str:
    """Mean of the three operators' losses in percent; a text where one of them is undefined."""
    losses = [loss(after[o], before[o]) for o in OPERATORS]
    texts = [x for x in losses if isinstance(x, str)]
    return texts[0] if texts else sum(x for x in losses if not isinstance(x, str)) / len(losses)


def components(session: Session) -> Result:
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
        f"Strength of x0 of {clip.name}, frame {frame - 1} warped to frame {frame}, channel {channel}, "
        f"t = {clip.timesteps[last]}", ["measure", *ways], rows,
    )  # fmt: skip
    place = {"clip": clip.name, "frame": frame, "channel": channel, "timestep": clip.timesteps[last]}
    counts = {**session.counts(), "pairs": 1, "steps": 1, "channels": 1, "groups": 1}
    return Result({"factor": how.factor, "strength": measured, **place}, [table], COMPONENTS, counts, pictures)


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
