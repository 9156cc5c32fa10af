"""Where a file of the configuration is: here, in the checkout, or in what is installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def places() -> list[Path]:
    """Folders that a relative path is looked for in, first to last.

    The working directory; the checkout, where robostack runs from one (an editable install has no
    share/); then share/robostack of colcon's install spaces and of Python's own prefix (a wheel).
    """
    found = [Path.cwd()]
    if (CHECKOUT / "package.xml").is_file():
        found.append(CHECKOUT)
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    found += [Path(prefix) / "share" / "robostack" for prefix in prefixes if prefix]
    return list(dict.fromkeys(found))


def find(path: str | Path) -> Path:
    """The absolute path of a file or folder of the configuration, such as `configs/robot/x.yaml`.

    Raises FileNotFoundError, naming every place that was looked at and what there is of its kind.
    """
    path = Path(path).expanduser()
    looked = [path] if path.is_absolute() else [place / path for place in places()]
    for candidate in looked:
        if candidate.exists():
            return candidate.absolute()
    beside = {
        str(path.parent / near.name)
        for candidate in looked
        if candidate.parent.is_dir()
        for near in candidate.parent.glob(f"*{path.suffix}")
        if path.suffix and path.parent.name
    }
    hint = f"; there is {', '.join(sorted(beside))}" if beside else ""
    raise FileNotFoundError(
        f"{path} does not exist; looked for {', '.join(map(str, looked))}{hint}"
    )
