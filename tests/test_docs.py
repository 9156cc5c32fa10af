"""Every command of the documentation is one that the command line takes, keys included."""

import re
import shlex
from pathlib import Path

import pytest

from robostack import cli
from robostack.config import read
from robostack.verbs import VERBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text):
    """Command lines of the shell blocks, with variables that a block sets filled in."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        known = {}
        for line in block.replace("\\\n", " ").splitlines():
            setting = re.match(r'(\w+)="(.*)"$', line.strip())
            if setting:
                known[setting[1]] = setting[2]
            for name, value in known.items():
                line = line.replace(f"${name}", value)
            if line.strip().startswith("robostack "):  # it may stand in a list
                yield line.strip()


PAGE_COMMANDS = [(page.name, line) for page in PAGES for line in commands(page.read_text())]
HELP_COMMANDS = [
    (f"help of {name}", line)
    for name, verb in VERBS.items()
    for line in verb.example.splitlines()
    if line.startswith("robostack ")
]


def require_valid(line):
    """Parses a command as `main` does, short of doing it."""
    words = shlex.split(line, comments=True)[1:]
    args, rest = cli.parser().parse_known_args(words)
    if args.verb.words:
        rest = [word for word in rest if "=" in word or word.startswith("-")]
        args.overrides = [word for word in args.overrides if "=" in word]
    assert not [word for word in rest if word.startswith("-") or "=" not in word], rest
    if args.verb.config is not None:
        args.overrides += rest
        read(args.verb.config(), None, cli._overrides(args))


@pytest.mark.parametrize(("where", "line"), PAGE_COMMANDS + HELP_COMMANDS)
def test_a_command_that_is_shown_is_one_that_works(where, line):
    require_valid(line)


def test_there_are_commands_to_test_and_a_wrong_one_is_noticed():
    assert len(PAGE_COMMANDS) > 30 and len(HELP_COMMANDS) > 25
    with pytest.raises(ValueError, match="stepz"):
        require_valid("robostack train bc --data a --out b stepz=3")
    with pytest.raises(SystemExit):
        require_valid("robostack train bc --date a --out b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
