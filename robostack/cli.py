"""The `robostack` command. Every verb: --help with an example, --config, key=value overrides."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

from robostack.judging import FAILED, OK
from robostack.pool import PATIENCE
from robostack.verb import KEYS, PATHS, SEVERAL, Verb
from robostack.verbs import VERBS

USAGE, STOPPED = 2, 130  # exit codes, beside those of the verbs
LONGEST = 1e6  # [s] of patience: 11 days, which a system call can still count in milliseconds


def _describe(config: type) -> str:
    """The keys of a config with their defaults, for --help."""
    from robostack.config import to_dict

    def lines(values: dict, prefix: str = ""):
        for key, value in values.items():
            if isinstance(value, dict) and value and not prefix.endswith("weights."):
                yield from lines(value, f"{prefix}{key}.")
            else:
                yield f"  {prefix}{key}={value}"

    return "keys and their defaults:\n" + "\n".join(lines(to_dict(config())))


class _Once(argparse.Action):
    """A value that can be given once; argparse would let the last one win."""

    def __call__(self, parser, namespace, values, option_string=None):
        given = getattr(namespace, self.dest, None)
        if given is not None:
            parser.error(f"{option_string} is given twice: {given} and {values}; it takes one")
        setattr(namespace, self.dest, values)


def _workers(text: str) -> int | str:
    if text.split(":")[0] == "ray":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a number, ray, or ray:ADDRESS of a cluster, got {text!r}"
        ) from None


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= LONGEST:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected seconds above 0 up to {LONGEST:g}, got {text!r}")


class _Help(argparse.Action):
    """Prints help with the verb's keys, which are imported only now."""

    def __init__(self, *args, verb: Verb, **kwargs):
        super().__init__(*args, nargs=0, **kwargs)
        self.verb = verb

    def __call__(self, parser, namespace, values, option_string=None):
        parser.print_help()
        if self.verb.config is not None:
            print("\n" + _describe(self.verb.config()))
        parser.exit()


def _add_verb(parsers, name: str, verb: Verb) -> None:
    parser = parsers.add_parser(
        name.split()[-1],
        help=verb.summary.replace("%", "%%"),  # argparse fills in help, and nothing else
        description=verb.summary[0].upper() + verb.summary[1:] + ".",
        epilog="example:\n" + textwrap.indent(verb.example, "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=_Help, verb=verb, help="show this and the keys")
    for flag in (*verb.needs, *verb.takes):
        options = dict(PATHS[flag])
        if "action" not in options:
            options |= {"type": Path, "action": _Once}
        shown, dest = SEVERAL.get(flag, flag), flag.removeprefix("--")
        parser.add_argument(shown, dest=dest, required=flag in verb.needs, **options)
    for flag in verb.keys:
        parser.add_argument(f"--{flag}", action="append", metavar="X", help=KEYS[flag][1])
    if verb.out:
        needed = dict(required=verb.needs_out, action=_Once)
        parser.add_argument("--out", type=Path, help=verb.out, **needed)
        if verb.forces:
            parser.add_argument("--force", action="store_true", help="replace a finished run")
    if verb.resumes:
        more = "go on with a finished run: more episodes, tasks, policies"
        parser.add_argument("--resume", action="store_true", help=more)
    if verb.config is not None:
        keys = dict(help="YAML file of keys", metavar="FILE", action=_Once)
        parser.add_argument("--config", type=Path, **keys)
        more = f"set a key, or name a {verb.words}" if verb.words else "set a key"
        what = f"{verb.words} | key=value" if verb.words else "key=value"
        parser.add_argument("overrides", nargs="*", metavar=what, help=more)
    parser.add_argument("--seed", type=int, default=0, help="of training (default 0)")
    workers = "processes (default: all cores), or `ray`, or `ray:ADDRESS` of a cluster"
    parser.add_argument("--workers", type=_workers, default=0, help=workers, metavar="N")
    patience = f"seconds until who is at one episode counts as hung (default {PATIENCE:g})"
    parser.add_argument("--patience", type=_seconds, default=PATIENCE, help=patience, metavar="S")
    parser.set_defaults(verb=verb, name=name)


def _overrides(args: argparse.Namespace) -> list[str]:
    """Flags of keys as key=value, before those that were written as such."""
    found = []
    for flag in args.verb.keys:
        for value in getattr(args, flag.replace("-", "_")) or []:
            key = KEYS[flag][0]
            if flag == "perturb":
                axis, _, strength = value.partition("=")
                found.append(f"perturb.{axis}={strength or 1}")
            elif flag != "task":
                found.append(f"{key}={value}")
    if "task" in args.verb.keys and args.task:
        found.append(f"tasks={json.dumps(args.task)}")
    return [*found, *args.overrides]


def _give(args: argparse.Namespace, words: list[str], top: argparse.ArgumentParser) -> None:
    """Bare words as values of the flag that the verb has for them."""
    given = getattr(args, args.verb.words)
    if isinstance(given, list):
        setattr(args, args.verb.words, [*given, *words])
    elif words:
        several = [*([given] if given else []), *words]
        if len(several) > 1:
            top.error(f"{' and '.join(map(str, several))}: expected one {args.verb.words}")
        setattr(args, args.verb.words, Path(several[0]))


def _located(file: Path | None) -> Path | None:
    """A file of the configuration, which may be one that was installed with robostack."""
    from robostack.real.paths import find

    with contextlib.suppress(FileNotFoundError):  # reading it says what is wrong
        return file and find(file)
    return file


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="robostack",
        description="Post-train vision-language-action policies with learned rewards.",
    )
    parsers = top.add_subparsers(required=True, metavar="verb")
    groups: dict[str, Any] = {}  # first words of verbs of two
    for name, verb in VERBS.items():
        group, _, what = name.partition(" ")
        if what and group not in groups:
            members = [n.split()[1] for n in VERBS if n.startswith(f"{group} ")]
            sub = parsers.add_parser(group, help=", ".join(members))
            groups[group] = sub.add_subparsers(required=True, metavar="what")
        _add_verb(groups[group] if what else parsers, name, verb)
    return top


def main(argv: list[str] | None = None) -> int:
    try:
        return run(argv)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def run(argv: list[str] | None) -> int:
    """The exit code of a command line."""
    warnings.filterwarnings("ignore")  # of third parties; ours are errors or printed
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    top = parser()
    args, rest = top.parse_known_args(argv)
    if args.verb.words:
        words = [w for w in (*args.overrides, *rest) if "=" not in w and not w.startswith("-")]
        _give(args, words, top)
        args.overrides, rest = ([w for w in x if w not in words] for x in (args.overrides, rest))
    wrong = [word for word in rest if word.startswith("-") or "=" not in word]
    if wrong or (rest and args.verb.config is None):
        top.error(f"unrecognized arguments: {' '.join(wrong or rest)}")
    if rest:  # keys that a flag parts from the first ones
        args.overrides += rest
    from robostack.config import ConfigError, read

    try:
        config = None
        if args.verb.config is not None:
            config = read(args.verb.config(), _located(args.config), _overrides(args))
        result = args.verb.act(config, args)
    except BrokenPipeError:  # an OSError that is no mistake
        raise
    except KeyboardInterrupt:
        again = "begins anew" if args.name.startswith("data ") else "goes on from here"
        print(f"\nstopped; the same command {again}", file=sys.stderr)
        return STOPPED
    except ConfigError as error:
        print(f"robostack {args.name}: {error}", file=sys.stderr)
        return USAGE
    except (ValueError, RuntimeError, OSError, FloatingPointError, TypeError) as error:
        if os.environ.get("ROBOSTACK_DEBUG"):
            raise
        print(f"robostack {args.name}: {str(error).split(chr(10) * 2)[0]}", file=sys.stderr)
        return FAILED
    if isinstance(result, int):
        return result
    print(json.dumps(result, indent=1))
    return OK


if __name__ == "__main__":
    sys.exit(main())
