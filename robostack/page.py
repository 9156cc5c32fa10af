"""What our HTML pages share: their style, tables, rates, and being written whole."""

from __future__ import annotations

from pathlib import Path

CSS = """
body{font:15px/1.5 system-ui,sans-serif;color:#20303c}
body{max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.2rem} h2{margin-top:2.2rem;border-bottom:1px solid #dde4e8;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.6rem 0} td,th{padding:.25rem .8rem;text-align:left}
td b{white-space:nowrap}
tr:nth-child(even){background:#f4f7f8} th{border-bottom:2px solid #8aa0ad}
code,pre{background:#f0f3f5;border-radius:4px;padding:.1rem .3rem;font-size:13px}
pre{padding:.6rem;overflow-x:auto} .big{font-size:1.25rem} .soft{color:#64788a}
svg,video,img{max-width:100%;height:auto}
"""


def write(path: Path, title: str, parts: list[str]) -> None:
    """One page out of its parts."""
    text = (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{title}</title>"
        f"<style>{CSS}</style><body>{''.join(parts)}</body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(text)
    partial.replace(path)


def require_ours(path: Path, kind: str = "") -> None:
    """Raise ValueError where `path` is there and no page of ours: those are made anew. With `kind`,
    what its title has to begin with after our name."""
    mark = f"<title>robostack: {kind}"
    if path.is_dir() or (path.exists() and mark not in path.open(errors="replace").read(1000)):
        about = f" about {kind}" if kind else ""
        raise ValueError(f"{path} exists and is no page of robostack{about}; name another")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Cells are HTML."""
    head = "".join(f"<th>{cell}" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def rate(s: dict) -> str:
    """The success rate of an evaluation's summary, with its interval."""
    low, high = s["ci95"]
    return f"<b>{s['success_rate']:.0%}</b>&nbsp;[{low:.0%},&nbsp;{high:.0%}]"
