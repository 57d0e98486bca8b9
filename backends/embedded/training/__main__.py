"""Train the bundled models: `python -m tts.backends.embedded.training --work FOLDER [STAGE ...]`.

A stage whose output exists in the work folder is skipped, so that an interrupted run goes on where it stopped.
"""

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tts.backends.embedded.training.stages import STAGES, Run, bundle


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m tts.backends.embedded.training")
    parser.add_argument("--work", type=Path, required=True, help="folder of everything that the stages write")
    parser.add_argument("--workers", type=int, default=2, help="processes side by side (%(default)s, as was trained)")
    parser.add_argument("--share", type=float, default=1.0, help="of all sizes and steps, to try the stages")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="copy the finished models into this folder")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all when none is named")
    arguments = parser.parse_args()
    unknown = [stage for stage in arguments.stages if stage not in STAGES]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}; one of {', '.join(STAGES)}")
    if arguments.workers < 1:
        parser.error(f"--workers is {arguments.workers}; it is at least 1")
    if not 0 < arguments.share <= 1:
        parser.error(f"--share is {arguments.share}; it is more than 0 and at most 1")
    return arguments


def main() -> None:
    """Run the stages in order."""
    arguments = _arguments()
    run = Run(arguments.work, arguments.workers, arguments.share)
    run.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.stages or STAGES:
        stage, output = STAGES[name]
        if (run.work / output).exists():
            print(f"{name}: {output} exists, skipped")
            continue
        print(f"{name}:", flush=True)
        begin = time.monotonic()
        stage(run)
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
    if arguments.bundle is not None:
        missing = [output for _, output in STAGES.values() if not (run.work / output).exists()]
        if missing:
            raise SystemExit(f"nothing is bundled: {run.work / missing[0]} is not there yet")
        bundle(run.work, arguments.bundle)


if __name__ == "__main__":
    main()
