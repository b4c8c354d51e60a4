"""What the whole source tree keeps to: import directions, sizes, docstrings, words."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "vsrbench"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part of the package may import of the others (itself is always allowed).
EVERYONE = {"errors", "progress", "compat", "annotations", "stored", "interrupts"}
BASE = EVERYONE | {"types"}
KIT = BASE | {"flow", "nn", "weights"}
ALLOWED = {
    "__init__": {"compat"},
    "compat": set(),
    "errors": set(),
    "annotations": {"errors"},  # checks of arguments
    "progress": set(),
    "interrupts": set(),
    "stored": {"errors"},
    "trusted": EVERYONE | {"command_line"},
    "types": EVERYONE,
    "published": EVERYONE,
    "experiments": EVERYONE,
    "pictures": set(),
    "weights": EVERYONE | {"runs"},  # reading and writing; its commands are further down
    "experiment_run": EVERYONE | {"command_line", "config", "experiments", "published", "training"},
    "command_line": EVERYONE | {"experiments"},
    "schema": EVERYONE,
    "help": EVERYONE | {"command_line", "metrics", "schema"},  # of metrics: the catalogue
    "completion": EVERYONE | {"command_line", "help", "schema"},
    "config": EVERYONE | {"command_line", "experiments", "help", "methods", "published", "schema", "weights"},
    "runs": EVERYONE | {"__init__", "schema"},
    "nn": BASE | {"weights"},
    "flow": BASE | {"nn", "weights"},
    "diffusion": KIT,
    "metrics": KIT,
    "data": KIT | {"diffusion", "config"},
    "methods": KIT | {"diffusion"},
    "training": KIT
    | {
        "command_line",
        "config",
        "data",
        "diffusion",
        "evaluation",
        "inference",
        "methods",
        "metrics",
        "pictures",
        "runs",
    },
    "inference": KIT | {"diffusion", "methods", "data", "config", "runs"},
    "evaluation": KIT | {"diffusion", "metrics", "data", "command_line", "config", "runs", "published", "inference"},
    "analysis": KIT | {"diffusion", "metrics", "methods", "data", "inference", "runs", "config"},
    "benchmarks": KIT | {"diffusion", "methods", "metrics", "data", "config", "runs", "published", "evaluation"},
    "parity": KIT | {"diffusion", "methods", "config"},
    "weights/commands": KIT | {"trusted", "diffusion", "methods", "benchmarks", "config", "runs"},
    # records and names of these, data and flow inside functions; that none of it needs torch is tested below
    "reports": EVERYONE
    | {
        "trusted",
        "evaluation",
        "training",
        "pictures",
        "published",
        "runs",
        "metrics",
        "config",
        "data",
        "demonstration",
        "flow",
    },
    "cluster": EVERYONE | {"runs", "command_line", "config", "training"},
    "demonstration": EVERYONE | {"data", "evaluation", "inference", "runs", "config"},
}
HEAVY = {"torch", "torchvision", "pytorch_lightning", "diffusers", "transformers", "kornia"}
HEAVY |= {"cv2", "av", "skimage", "wandb", "numpy", "PIL", "safetensors", "matplotlib"}
WORDS = re.compile(r"TODO|FIXME|XXX|/work\b|placeholder|lorem ipsum", re.IGNORECASE)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def part(file: Path) -> str:
    """The top-level module or folder of the package that a file belongs to, or a part of it with directions of its own.

    What runs a folder as a verb belongs to the verb's part.
    """
    names = file.relative_to(PACKAGE).with_suffix("").parts
    inner = "/".join(names[:2]).replace("__main__", "commands")
    return inner if inner in ALLOWED else names[0]


def part_of_import(full: str) -> str:
    """The same of the full name of an import."""
    names = full.split(".")[1:]
    return "/".join(names[:2]) if "/".join(names[:2]) in ALLOWED else names[0]


def name(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def imports(node: ast.AST) -> Iterator[str]:
    """Full names of everything imported below a node, outside ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imports(child)


def top_level_imports(module: ast.Module) -> set[str]:
    statements = [n for n in module.body if isinstance(n, ast.Import | ast.ImportFrom)]
    return {full.split(".")[0] for full in imports(ast.Module(statements, []))}


ONE_HOME = {
    "torch.utils.checkpoint": "nn/functional.py",
    "nn.init.zeros_(": "nn/",
    "enabled=False)": "nn/functional.py",
}


@pytest.mark.parametrize("text", ONE_HOME)
def test_one_home_for_what_networks_share(text: str) -> None:
    """``recomputed``, ``zero_init`` and ``full_precision`` stand where the rest would write it out."""
    assert [
        name(file) for file in FILES if text in file.read_text() and not name(file).startswith(ONE_HOME[text])
    ] == []


def is_entry_point(file: Path) -> bool:
    return (file.parent == PACKAGE and "__main__" in file.read_text()) or file.name == "__main__.py"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_imports_point_one_way(file: Path) -> None:
    own = part(file)
    if own not in ALLOWED:
        assert is_entry_point(file), f"{name(file)} has no place in the import directions"
        return
    used = {part_of_import(full) for full in imports(tree(file)) if full.startswith("vsrbench.")}
    assert used <= ALLOWED[own] | {own}


def test_nothing_imports_an_entry_point() -> None:
    entries = {f"vsrbench.{file.stem}" for file in PACKAGE.glob("*.py") if is_entry_point(file)}
    for file in FILES:
        if not is_entry_point(file):
            assert not {f for f in imports(tree(file)) if ".".join(f.split(".")[:2]) in entries}, name(file)


def test_no_method_imports_another() -> None:
    methods = PACKAGE / "methods"
    for file in methods.rglob("*.py"):
        own = file.relative_to(methods).parts[0].removesuffix(".py")
        prefix = "vsrbench.methods."
        used = {f.removeprefix(prefix).split(".")[0] for f in imports(tree(file)) if f.startswith(prefix)}
        shared = {"base", "module", "padding", "recurrent", "regression", "work"}  # of what all methods may import
        assert used <= {own, *shared}, name(file)


def test_what_upscales_knows_no_trainer() -> None:
    """Lightning, and the modules that train, are imported by the modules that train alone."""
    training = {"module", "regression", "stopping"}
    for file in (PACKAGE / "methods").rglob("*.py"):
        if file.stem not in training:
            for full in imports(tree(file)):
                assert not full.startswith("pytorch_lightning"), name(file)
                assert not training & set(full.split(".")[2:-1]), name(file)


def test_one_home_opens_weights_files() -> None:
    """Formats, errors and key reports are those of ``weights/``, whoever reads."""
    for file in FILES:
        if "weights" not in file.relative_to(PACKAGE).parts:
            names = {full for full in imports(tree(file)) if full.startswith("safetensors")}
            calls = {ast.unparse(node) for node in ast.walk(tree(file)) if isinstance(node, ast.Attribute)}
            assert not names and "torch.load" not in calls, name(file)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_sizes(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 80, f"{node.name} is too long"


def test_entry_points_are_short_and_light() -> None:
    for file in FILES:
        if is_entry_point(file):
            assert len(file.read_text().splitlines()) <= 100, name(file)
        if is_entry_point(file) or part(file) in {"config", "runs", "errors", "compat", "__init__"}:
            assert not top_level_imports(tree(file)) & HEAVY, name(file)


def test_reports_and_configuration_need_no_torch() -> None:
    """A login node composes configurations and builds tables; it has no torch and no time for it."""
    light = [file for file in FILES if part(file) in {"reports", "cluster"} or is_entry_point(file)]
    modules = ["vsrbench." + name(file).removesuffix(".py").replace("/", ".") for file in light]
    imported = "\n".join(f"import {module.removesuffix('.__init__')}" for module in modules)
    code = f"{imported}\nimport sys\nprint(*sorted(set(sys.modules) & {HEAVY - {'numpy', 'PIL'}!r}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def undocumented(module: ast.Module) -> Iterator[str]:
    """Public classes and functions without a docstring; a function of a few lines may let its name speak."""
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            short = isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno < 8
            if ast.get_docstring(node) is None and not short:
                yield node.name


@pytest.mark.parametrize("file", FILES, ids=name)
def test_docstrings(file: Path) -> None:
    assert ast.get_docstring(tree(file)), "a module says what it is for"
    assert list(undocumented(tree(file))) == []


def test_words() -> None:
    """No unfinished business and no path of one machine in what the repository holds."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = (".py", ".md", ".yaml", ".toml", ".txt", "Makefile", "run")
    for line in listed.stdout.splitlines():
        file = ROOT / line
        if line.endswith(texts) and file.is_file() and file != Path(__file__).resolve():
            found = WORDS.search(file.read_text())
            assert found is None, f"{line}: {found.group()}"
