"""DGAF-VSR's Observation 2 (Figure 2, Supp. Sec. 3 to 5): what warping costs, and what warping while enlarged saves."""

from torch import Tensor

from vsrbench.analysis import paper
from vsrbench.analysis.alignment import Rescaling, enlarged_warped, rescaled, resized, warped
from vsrbench.analysis.recording import Recording, Span
from vsrbench.analysis.report import Found, Table
from vsrbench.analysis.session import Session, over_clips, over_clips_and_steps
from vsrbench.analysis.strength import MEASURES, NAMES, OPERATORS, Strength
from vsrbench.analysis.values import Nested, gain, loss, mean
from vsrbench.errors import ConfigError


def aligned_strengths(
    x0: Tensor, flow: Tensor, how: Rescaling, strength: Strength, span: Span
) -> dict[str, dict[str, float]]:
    """Strengths of x0 (1,C,h,w) as it is, warped directly, and warped while enlarged."""
    ways = {"original": x0, "warped": warped(x0, flow, how), "rescaled": rescaled(x0, flow, how)}
    return {name: strength(span.unit(x), strength.radius(x0)) for name, x in ways.items()}


def warping(session: Session) -> Found:
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

    found = session.measured(measure)
    a = mean(over_clips_and_steps(found))
    # ours: percentages of mean strengths, not means of percentages, which empty features would dominate
    values = {
        "factor": how.factor,
        "strength": a,
        "loss_percent": {m: loss(a["warped"][m], a["original"][m]) for m in MEASURES},
        "loss_enlarged_percent": {m: loss(a["upscaled_warped"][m], a["upscaled"][m]) for m in MEASURES},
        "gain_percent": {m: gain(a["rescaled"][m], a["warped"][m]) for m in MEASURES},
        "clips": {name: mean(steps.values()) for name, steps in found.items()},
    }
    return Found(values, warping_tables(values, how.factor), paper.WARPING, session.counts())


def warping_tables(values: Nested, s: float) -> list[Table]:
    """Strengths by way, and the percentages beside the paper's."""
    a = values["strength"]
    strengths = [[NAMES[m], *(a[way][m] for way in a)] for m in MEASURES]
    percent = [
        [NAMES[m], *(x for key in ("loss_percent", "loss_enlarged_percent", "gain_percent")
                     for x in (values[key][m], paper.WARPING[key][m]))]
        for m in MEASURES
    ]  # fmt: skip
    ways = ["original", f"x{s:g}", f"x1/{s:g}", "warp", f"x{s:g}, warp", f"x{s:g}, warp, x1/{s:g}"]
    heads = ["loss by warp (%)", f"loss by warp at x{s:g} (%)", "gain of rescaled over direct (%)"]
    columns = [c for head in heads for c in (head, "paper (%)")]
    return [
        Table("Strength of x0 in [0,1]", ["measure", *ways], strengths),
        Table("What warping costs, and what rescaling saves", ["measure", *columns], percent),
    ]


def steps(session: Session) -> Found:
    """Supp. Sec. 4: original, warped and rescaled-warped x0 at every diffusion step."""
    strength, how = (
        Strength.from_config(session.cfg.analysis),
        Rescaling.from_config(session.cfg.analysis, session.factor),
    )

    def measure(clip: Recording, step: int, span: Span) -> Nested:
        return mean(aligned_strengths(x0, flow, how, strength, span) for x0, flow in clip.pairs(step))

    found = session.measured(measure)
    values: Nested = {
        "factor": how.factor,
        "steps": {str(t): mean(over_clips(found, str(t))) for t in session.timesteps},
        "clips": found,
    }
    rows = [
        [f"t = {t}, {NAMES[m]}", *(s[way][m] for way in s), loss(s["warped"][m], s["original"][m]),
         loss(s["rescaled"][m], s["original"][m])]
        for t, s in values["steps"].items() for m in MEASURES
    ]  # fmt: skip
    way = f"x{how.factor:g}, warp, x1/{how.factor:g}"
    columns = ["step, measure", "original", "warp", way, "loss by warp (%)", f"loss by {way} (%)"]
    return Found(values, [Table("Strength of x0 step by step", columns, rows)], paper.STEPS, session.counts())


def factors(session: Session) -> Found:
    """Supp. Sec. 5, Supp. Figure 3: loss and absolute edge strength over s, sampled anew with every s.

    Means over steps and over the three operators. ours: the loss is the mean of the three operators' losses;
    features of every s are brought to [0,1] by the span of the first s, so that their strengths can be compared.
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
        found = session.measured(measure, spans)
        key = f"{how.factor:g}"
        values["factors"][key] = factor_values(mean(over_clips_and_steps(found)))
        values["clips"][key] = {name: mean(steps.values()) for name, steps in found.items()}
    rows = [
        [key, v["reduction_percent"], v["reduction_direct_percent"], v["edge"]["original"], v["edge"]["rescaled"]]
        for key, v in values["factors"].items()
    ]
    columns = ["s", "loss, rescaled warp (%)", "loss, direct warp (%)", "edge strength of x0", "after rescaled warp"]
    table = Table("Mean of Canny, Sobel and Laplacian, by rescaling factor", columns, rows)
    return Found(values, [table], paper.FACTORS, session.counts())


def factor_values(strength: Nested) -> Nested:
    """The two curves of Supp. Figure 3 at one s, from mean strengths by way and measure."""
    edge = {way: sum(found[o] for o in OPERATORS) / len(OPERATORS) for way, found in strength.items()}
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
