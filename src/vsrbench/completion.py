"""Completion of ``vsrbench`` in a shell: verbs, settings and the choices of groups. Needs neither torch nor Hydra."""

import re
from collections.abc import Sequence

from vsrbench import help as texts
from vsrbench.command_line import home
from vsrbench.errors import ConfigError
from vsrbench.schema.sections import Section
from vsrbench.schema.verbs import VERBS, extra, section

BASH = """\
# vsrbench completion for bash. Install: vsrbench completion bash > ~/.local/share/bash-completion/completions/vsrbench
# or, for this shell alone: source <(vsrbench completion bash)
_vsrbench() {
  local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" prefix
  COMPREPLY=($(vsrbench completion words "$line" 2>/dev/null))
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
  # bash splits words at "=": what stands before it is on the line already
  prefix="${line##* }"
  if [[ $prefix == *=* && $COMP_WORDBREAKS == *=* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${prefix%"${prefix##*=}"}"}")
  fi
}
complete -o default -F _vsrbench vsrbench
"""
ZSH = """\
# vsrbench completion for zsh. Install: add  source <(vsrbench completion zsh)  to ~/.zshrc
autoload -U +X bashcompinit && bashcompinit
""" + BASH.partition("\n")[2].partition("\n")[2]


def script(shell: str) -> str:
    """What ``vsrbench completion SHELL`` prints. Raises ConfigError for another shell."""
    scripts = {"bash": BASH, "zsh": ZSH}
    if shell not in scripts:
        raise ConfigError("completion needs a shell: vsrbench completion bash (or zsh)")
    return scripts[shell].rstrip()


def words(line: str) -> list[str]:
    """What the last word of a command line may become, in full."""
    typed = line.split()
    last = "" if line.endswith(" ") or not typed else typed[-1]
    before = typed[1:] if last == "" else typed[1:-1]
    if not before:
        return starting([*texts.VERBS, *texts.OTHERS], last)
    verb = before[0]
    if verb == "help":
        return starting([*VERBS], last)
    if verb == "list":
        return starting(["methods", "data", "experiments", "protocols", "metrics"], last)
    if verb == "completion":
        return starting(["bash", "zsh"], last)
    return of_setting(verb, last, before) if verb in VERBS else []


def of_setting(verb: str, last: str, before: Sequence[str]) -> list[str]:
    """Choices of a group behind ``group=``, also within a list; names of groups and settings before it."""
    key, equals, value = last.partition("=")
    conf = home() / "conf"
    if equals:
        if not (conf / key).is_dir():
            return []
        start = re.split(r"[\[,]", value)[-1]
        names = [name for name, _ in texts.experiment_names()] if key == "experiments" else texts.options(key)
        return [f"{last.removesuffix(start)}{name}" for name in starting(names, start)]
    groups = [f"{group}=" for group in (*texts.GROUPS, "experiments", "recipe") if (conf / group).is_dir()]
    keys = [f"{name}=" for name in keys_of(VERBS[verb], "")]
    return starting(sorted({*groups, *keys, *node_keys(verb, before)}), last)


def keys_of(model: type[Section], prefix: str) -> list[str]:
    """Dotted names of all plain settings of a command."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        inner = section(field.annotation)
        if inner is not None:
            names += keys_of(inner, f"{prefix}{name}.")
        elif not extra(field).get("node") and not field.alias:
            names.append(f"{prefix}{name}")
    return names


def node_keys(verb: str, before: Sequence[str]) -> list[str]:
    """Settings of the method and the data set that the line chose, and of the trainer, as their files state them."""
    values = dict(word.split("=", 1) for word in before if "=" in word)
    nodes = [("method", values.get("method"), "  "), ("data", values.get("data"), "")]
    if "trainer" in VERBS[verb].model_fields:
        nodes.append(("trainer", "auto", ""))
    keys = []
    for group, name, indent in nodes:
        file = home() / "conf" / group / f"{name}.yaml"
        if name and file.is_file():
            names = re.findall(rf"^{indent}([a-z]\w*):", file.read_text(encoding="utf-8"), re.MULTILINE)
            keys += [f"{group}.{one}=" for one in names if one not in ("name", "set", "defaults")]
    return keys


def starting(names: Sequence[str], start: str) -> list[str]:
    return [name for name in names if name.startswith(start)]
