"""``vsrbench VERB ...``: the same as ``python -m vsrbench.VERB ...``; help, lists and completion."""

import difflib
import runpy
import signal
import sys

from vsrbench import __version__
from vsrbench import help as texts
from vsrbench.config import one_line


def main() -> None:
    """Dispatch to the verb's module, under its own name, so that child processes can be started the same way."""
    words = sys.argv[1:]
    if words[:1] and words[0] in texts.OTHERS and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `vsrbench list experiments | head` ends without a word
    if not words or words[0] in ("-h", "--help") or words == ["help"]:
        print(texts.overview())
        return
    if words[0] in ("--version", "version"):
        print(f"vsrbench {__version__}")
        return
    verb = words[0]
    with one_line():
        if verb in texts.OTHERS:
            print(answer(verb, words[1:]))
            return
    if verb not in texts.VERBS:
        near = difflib.get_close_matches(verb, [*texts.VERBS, *texts.OTHERS], 1)
        instead = f"did you mean {near[0]}? There are" if near else "use one of"
        print(f"error: unknown verb {verb!r}: {instead} {', '.join(texts.VERBS)}", file=sys.stderr)
        raise SystemExit(2)
    del sys.argv[1]
    runpy.run_module(f"vsrbench.{verb}", run_name="__main__", alter_sys=True)


def answer(verb: str, words: list[str]) -> str:
    """The text of ``help VERB``, ``list WHAT`` and ``completion SHELL``. Raises ConfigError for other words."""
    if verb == "help":
        if words[0] in texts.VERBS and words[0] not in texts.MODELS:
            return f"vsrbench {words[0]}: {texts.VERBS[words[0]]}\nvsrbench {words[0]} --help shows its settings"
        return texts.page(words[0], [word for word in words[1:] if word != "all"], "all" in words[1:])
    if verb == "list":
        return texts.listing(words[0] if words else "")
    from vsrbench import completion

    if words[:1] == ["words"]:
        return "\n".join(completion.words(words[1]))
    return completion.script(words[0] if words else "")


if __name__ == "__main__":
    main()
