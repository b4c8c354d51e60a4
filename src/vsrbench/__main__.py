"""``vsrbench VERB ...``: the same as ``python -m vsrbench.VERB ...``."""

import runpy
import sys

VERBS = {
    "train": "train a method on a data set",
    "eval": "write frames and judge them under a protocol",
    "compare": "all methods on the same data, protocol and training budget",
    "upscale": "upscale a video file or a folder of frames",
    "bench": "parameters, FLOPs, speed and memory by part; speed of the training loader",
    "data": "check, pack or verify a data set on disk",
    "weights": "list known weights, check a folder, export trained parts",
    "analyse": "measure the latents of a sampling run: the analyses of DGAF-VSR",
    "report": "a page, tables and statistics of finished evaluations; how far a sweep is",
    "conformance": "compare every protocol's bicubic row with the printed one on the data at hand",
    "rehearse": "run every experiment at size=tiny",
    "verify": "replay a recording of a method's released code and compare every tensor",
    "dashboard": "write W&B dashboards and save them where somebody is logged in",
    "demo": "train, judge and upscale a miniature in a few minutes and write a page about it",
}


def main() -> None:
    """Dispatch to the verb's module, under its own name, so that child processes can be started the same way."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        lines = "\n".join(f"  {verb:12}{what}" for verb, what in VERBS.items())
        print(f"usage: vsrbench VERB [key=value ...]\n\n{lines}\n\nvsrbench VERB --help lists the settings.")
        return
    verb = sys.argv.pop(1)
    if verb not in VERBS:
        print(f"error: unknown verb {verb!r}: use one of {', '.join(VERBS)}", file=sys.stderr)
        raise SystemExit(2)
    runpy.run_module(f"vsrbench.{verb}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
