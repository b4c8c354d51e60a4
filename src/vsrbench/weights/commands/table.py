"""``weights list`` on the screen."""

from typing import TYPE_CHECKING

from vsrbench.weights.catalogue import Known
from vsrbench.weights.commands.inventory import Found

if TYPE_CHECKING:
    from rich.console import Console

UNKNOWN = "not stated"


def show(rows: list[Found], console: "Console") -> None:
    """A few lines per entry (ids and file names stay whole, to be copied), then how many are here."""
    for row in rows:
        known = row.known
        console.print(f"[bold]{known.name}[/]: {purpose(known)}", highlight=False, soft_wrap=True)
        facts = [known.hub or known.source or "", f"licence {licence(known)}", f"size {expected_size(known)}"]
        for line in ("; ".join(facts), f"{known.files or 'files not stated'} -> {setting(known)}", here(row)):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    count = sum(row.where is not None for row in rows)
    console.print(f"{count} of {len(rows)} are on this disk; docs/weights.md says where the others come from and go")


def purpose(known: Known) -> str:
    """What it is for, and what to mind."""
    return known.purpose + (f"; {known.note}" if known.note else "")


def setting(known: Known) -> str:
    """The setting or environment variable that takes its path."""
    return known.setting + (f" or {known.variable}" if known.variable else "")


def licence(known: Known) -> str:
    """Of the weights, and of the code that they came with where only that is stated."""
    code = f" (its code: {known.code_licence})" if known.code_licence else ""
    return (known.licence or UNKNOWN) + code


def expected_size(known: Known) -> str:
    """Published sizes and parameters."""
    parts = [f"{name} {text}" for name, text in (known.parts or {}).items()]
    parameters = [f"{known.parameters / 1e6:.2f} M parameters"] if known.parameters else []
    return ", ".join(parts + parameters) or UNKNOWN


def here(row: Found) -> str:
    """Where it is on this disk and how large, or why not."""
    if row.where is None:
        return f"not here, {row.how}" if row.how else "not here"
    amount = f", {row.bytes / 1e6:.1f} MB" if row.bytes is not None else ""
    return f"here: {row.where} ({row.how}{amount}{f', blake2b {row.digest}' if row.digest else ''})"
