"""The papers' own sentences with numbers in them, computed again from the numbers that the papers report.

A formula is arithmetic (``(0.067 - 0.043) / 0.067``), a comparison, or names cells (``table1.StableVSR.vimeo_musiq``);
parts are separated by semicolons, and words behind it in brackets say where the numbers stand. Formulas in words are
checked by hand when the file is made; they are listed as such.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vsrbench import published
from vsrbench.errors import ConfigError

ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Gt: operator.gt, ast.Lt: operator.lt, ast.Eq: operator.eq,
}  # fmt: skip
VERDICTS = {True: "holds", False: "does not hold", None: "undecided"}


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper. recomputed: values of its formula's parts, empty where it is in words; absent: numbers
    of the formula that are in no table of the paper; recorded: what the file says that the formula gives."""

    paper: str
    text: str
    formula: str
    recomputed: tuple[float | bool, ...]
    recorded: str
    printed: str
    verdict: str
    why: str
    absent: tuple[str, ...]


def claims(paper: str | None = None) -> list[Claim]:
    """All sentences of a paper, or of all papers. Raises ConfigError for a paper that is not there, and where a
    formula no longer gives what the file records beside it."""
    papers = published.load()["papers"]
    if paper is not None and paper not in papers:
        raise ConfigError(f"no paper {paper!r} among the published numbers: use one of {', '.join(papers)}")
    return [_claim(name, entry) for name in papers if paper in (None, name) for entry in papers[name]["claims"]]


def _claim(paper: str, entry: dict[str, Any]) -> Claim:
    formula = str(entry["formula"])
    values = tuple(evaluate(part, paper) for part in parts(formula))
    recorded = "" if entry["computed"] is None else str(entry["computed"])
    claim = Claim(
        paper, entry["text"], formula, values, recorded, "" if entry["printed"] is None else str(entry["printed"]),
        VERDICTS[entry["follows"]], entry["why"], tuple(_absent(formula, paper)) if values else (),
    )  # fmt: skip
    if values and not agrees(values, recorded):
        raise ConfigError(f"published.yaml: {formula!r} ({paper}) gives {values}, the file records {recorded!r}")
    return claim


def parts(formula: str) -> list[str]:
    """The expressions of a formula; none where any of it is in words."""
    expressions = [re.sub(r"\s*\((?=[^()]*[A-Za-z])[^()]*\)\s*$", "", part).strip() for part in formula.split(";")]
    return expressions if all(_is_expression(part) for part in expressions) else []


def _is_expression(text: str) -> bool:
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    allowed = (ast.BinOp, ast.Compare, ast.Constant, ast.Attribute, ast.Name, ast.Load, *ARITHMETIC)
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    plain = isinstance(tree, ast.Constant)
    return not plain and all(isinstance(n, allowed) for n in nodes) and all(n.id.startswith("table") for n in names)


def evaluate(expression: str, paper: str) -> float | bool:
    """The value of an arithmetic expression or comparison over numbers and cells ``table.row.column`` of a paper."""
    value: float | bool = _value(ast.parse(expression, mode="eval").body, paper)
    return value


def _value(node: ast.expr, paper: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp):
        return ARITHMETIC[type(node.op)](_value(node.left, paper), _value(node.right, paper))
    if isinstance(node, ast.Compare):
        return ARITHMETIC[type(node.ops[0])](_value(node.left, paper), _value(node.comparators[0], paper))
    table, row, column = ast.unparse(node).split(".")
    return published.row(paper, table, row)[column].printed


def agrees(values: tuple[float | bool, ...], recorded: str) -> bool:
    """True where the recorded text, rounded as it is, is what the parts give; words beside the numbers are not read."""
    if any(isinstance(value, bool) for value in values):
        return recorded not in ("True", "False") or all(values) == (recorded == "True")
    numbers = re.findall(r"(?<![\w.])\d+\.?\d*(?:e-?\d+)?", recorded)
    return len(numbers) >= len(values) and all(
        abs(float(value) - float(number)) <= _half_a_digit(number)
        for value, number in zip(values, numbers, strict=False)
    )


def _half_a_digit(number: str) -> float:
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5001 * 10.0 ** (int(exponent or 0) - decimals)


def _absent(formula: str, paper: str) -> Iterator[str]:
    """Decimal numbers of a formula that no cell of the paper's tables holds."""
    tables = published.load()["papers"][paper]["tables"].values()
    cells = {float(v) for t in tables for row in t["rows"] for v in row["v"] if isinstance(v, int | float)}
    for number in re.findall(r"(?<![\w.])\d+\.\d+(?:e-?\d+)?", formula):
        if float(number) not in cells:
            yield number


def summary(sentences: list[Claim]) -> str:
    """One line: how many hold."""
    counts = {verdict: sum(claim.verdict == verdict for claim in sentences) for verdict in VERDICTS.values()}
    recomputed = sum(bool(claim.recomputed) for claim in sentences)
    holds, fails, undecided = (counts[verdict] for verdict in VERDICTS.values())
    totals = f"{holds} hold, {fails} do not, {undecided} undecided"
    return f"{len(sentences)} sentences: {totals}; {recomputed} computed again here, the others are in words"


def text(sentences: list[Claim]) -> str:
    """All sentences with what their formulas give, those that do not hold marked, and the counts."""
    lines = []
    for paper in dict.fromkeys(claim.paper for claim in sentences):
        lines += [f"## {published.load()['papers'][paper]['title']} ({paper})", ""]
        for claim in (c for c in sentences if c.paper == paper):
            mark = "✗ " if claim.verdict == VERDICTS[False] else ""
            lines += [f"- {mark}{claim.verdict}: {claim.text}", f"    {_computed(claim)}"]
            if claim.why:
                lines.append(f"    {claim.why}")
            if claim.absent:
                lines.append(f"    in no table of the paper: {', '.join(claim.absent)}")
        lines.append("")
    return "\n".join([*lines, summary(sentences)])


def _computed(claim: Claim) -> str:
    if not claim.recomputed:
        by_hand = f"; by hand: {claim.recorded}" if claim.recorded else ""
        return f"in words: {claim.formula}{by_hand}"
    values = "; ".join(str(v) if isinstance(v, bool) else f"{v:.6g}" for v in claim.recomputed)
    reported = f"; reported: {claim.printed}" if claim.printed else ""
    return f"{claim.formula} = {values}{reported}"
