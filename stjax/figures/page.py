"""All results of a run on one page: `index.html`, which works from a disk, without a network or scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stjax.endings import DEAD, LOW, NO_GRADIENT, NOTHING_TO_SEE, OFF
from stjax.figures import color, encode
from stjax.figures.draw import KEY_WORDS, SHEETS
from stjax.figures.records import (
    CONVENTIONS,
    Record,
    array_path,
    bare,
    chis_of,
    gain,
    identity,
    picture_paths,
    starts,
)
from stjax.figures.spread import Spread, spreads, words
from stjax.files import MARK, claim, replacing

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #18181b; --soft: #63636b; --line: #e3e3e8;
  --link: #1d4ed8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16161a; --ink: #ececf0; --soft: #a2a2ad; --line: #34343c; --link: #8ab4ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2.5rem 1.5rem 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
body { overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; font-weight: 600; letter-spacing: -.01em; margin: 0; }
h2 { font-size: 1.3rem; font-weight: 600; margin: 0; }
p { margin: .3rem 0 0; color: var(--soft); max-width: 60rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
a:focus-visible, summary:focus-visible, input:focus-visible { outline: 2px solid var(--link);
  outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 1.4rem 0 0; }
fieldset { border: 0; padding: .7rem 0; margin: .8rem 0 0; display: flex; flex-wrap: wrap; gap: .4rem 1.2rem;
  align-items: center; min-width: 0; position: sticky; top: 0; background: var(--paper); z-index: 2;
  border-bottom: 1px solid var(--line); }
legend { float: left; padding: 0; color: var(--soft); } label { cursor: pointer; }
section { margin-top: 2.6rem; scroll-margin-top: 5rem; }
.sheets { display: flex; flex-wrap: wrap; gap: 1.2rem; margin: 1rem 0; padding: 0; list-style: none; }
.sheets li { max-width: 100%; }
.sheets img { display: block; height: 13rem; max-width: min(22rem, 100%); object-fit: cover; object-position: top left;
  border: 1px solid var(--line); border-radius: 4px; margin-bottom: .25rem; }
main img { background: #fff; }
.key { display: flex; align-items: center; gap: .7rem; margin-left: auto; }
.key img { display: block; border-radius: 50%; }
summary { cursor: pointer; padding: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; padding: .5rem .9rem .3rem 0; vertical-align: bottom; }
tbody th { vertical-align: top; padding-top: .8rem; min-width: 4rem; max-width: 9rem; }
.name { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; overflow: hidden; }
a.motion { position: relative; display: block; width: 9rem; }
td { padding: .7rem .9rem .7rem 0; vertical-align: top; line-height: 1.35; }
tbody tr { border-top: 1px solid var(--line); }
td img, .none { display: block; width: 9rem; height: 9rem; border-radius: 3px;
  border: 1px solid var(--line); }
td img { margin-bottom: .3rem; }
.none { display: grid; place-items: center; color: var(--soft); margin-bottom: .3rem; }
.dead { background: repeating-linear-gradient(-45deg, transparent 0 6px, var(--line) 6px 8px); }
.none b { font-weight: 400; background: var(--paper); padding: .05rem .5rem; }
small { font-size: .8rem; color: var(--soft); display: block; }
body:has(#direction:checked) .components, body:has(#components:checked) .direction { display: none; }
@media (prefers-reduced-motion: reduce) {
  a.motion::after { content: "play"; position: absolute; right: .4rem; bottom: .7rem; padding: 0 .45rem;
    border-radius: 3px; background: var(--paper); font-size: .8rem; }
}
@media (max-width: 36rem) {
  body { padding: 1.5rem 1rem 3rem; }
  fieldset { position: static; } .key { margin-left: 0; }
  td, th { padding-right: .6rem; } td img, .none, a.motion { width: 6.5rem; } td img, .none { height: 6.5rem; }
}
"""

_ABOUT = """Each picture is an input that excites one unit as much as possible. &chi; weighs slowness: slow
motion at the left, speed left free at &chi; = 0. Below a picture: the activation reached, as a multiple of
&acirc;, the largest recorded over a data set; then activation at the start &rarr; at the end."""


def write_index(directory: str | Path, records: Sequence[Record]) -> Path:
    """Writes `index.html`: for each layer its sheets, and a table of units with pictures and numbers.

    One file, all links relative, no script; a switch on the page shows motion as direction or as components.
    Layers come in the order in which they first occur; where records repeat a (layer, unit, chi, start), the last
    counts. A picture that is not on disk is shown as missing, so the page may be written during a run.

    Args:
      directory: the run's folder.
      records: all manifest lines, of any layers.
    Returns:
      Path of the page, replaced at once.
    Raises:
      UsageError: a record names a file outside the folder, or the folder has somebody else's page.
    """
    directory = Path(directory)
    latest = {identity(record): record for record in records}
    layers: dict[str, list[Record]] = {}
    for record in latest.values():
        layers.setdefault(bare(record["layer"]), []).append(record)
    path, *keys = (claim(directory, path) for path in page_paths(directory))
    for convention, key in zip(CONVENTIONS, keys, strict=True):
        encode.png(key, color.legend(convention, 132))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(_page(directory, layers)) + "\n", encoding="utf-8")
    return path


def page_paths(directory: Path) -> list[Path]:
    """Of the page, and of the keys to its colours."""
    return [directory / "index.html", *(directory / SHEETS / f"key-{convention}.png" for convention in CONVENTIONS)]


def _page(directory: Path, layers: Mapping[str, list[Record]]) -> Iterator[str]:
    every = [record for records in layers.values() for record in records]
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta name="generator" content="{MARK}">'
    yield f"<title>What the units want to see</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>"
    yield "<h1>What the units want to see</h1>"
    facts = [f"model {_one(every, 'model')}", f"recipe {_one(every, 'recipe')}"]
    facts += [f"{_one(every, 'steps')} steps", f"seed {_one(every, 'seed')}", f"{len(every)} results"]
    yield f"<p>{' · '.join(facts)}</p>\n<p>{_ABOUT}</p>"
    yield '<nav aria-label="Layers">'
    yield from (f'<a href="#{quote(layer)}">{escape(layer)}</a>' for layer in layers)
    yield "</nav>\n</header>\n<fieldset><legend>Motion as</legend>"
    yield '<label><input type="radio" name="motion" id="direction" checked> direction</label>'
    yield '<label><input type="radio" name="motion" id="components"> x, y, magnitude</label>'
    for convention in CONVENTIONS:
        words = "; ".join(KEY_WORDS[convention])
        image = f'<img width="44" height="44" src="{SHEETS}/key-{convention}.png" alt="Key: {words}">'
        yield f'<span class="key {convention}">{image}<small>{words}</small></span>'
    yield "</fieldset>\n<main>"
    for layer, records in layers.items():
        yield from _section(directory, layer, records, unfolded=len(every) <= 600)
    yield "</main>\n</body>\n</html>"


def _section(directory: Path, layer: str, records: list[Record], *, unfolded: bool) -> Iterator[str]:
    units: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda record: record["unit"]):
        units.setdefault(record["unit"], []).append(record)
    size = f"{len(units)} unit{'s' if len(units) != 1 else ''}"
    for word in (DEAD, NO_GRADIENT, OFF, LOW):
        several = sum(all(record["ending"] == word for record in found) for found in units.values())
        size += f", {several} {word}" if several else ""
    spread = spreads(directory, records)
    yield f'<section id="{escape(layer)}">\n<h2>{escape(layer)}</h2>\n<p>{size}</p>'
    if spread:
        yield f"<p>{words(spread)}</p>"
    for name, why in {record["layer"]: record["rough"] for record in records if record.get("rough")}.items():
        yield f"<p>≈: &acirc; of {escape(name)} is a rough scale and no more, recorded {escape(why)}.</p>"
    yield from _sheets(directory, layer)
    chis, counted = chis_of(records), starts(records)
    # Below the first start's picture, once for all that stand beside it.
    notes = {(one.layer, one.unit, one.chi, counted[0]): _spread(one) for one in spread}
    yield f"<details{' open' if unfolded else ''}><summary>Units one by one</summary>"
    yield '<div class="scroll"><table>\n<thead><tr><th scope="col">unit</th>'
    for head in ("appearance", *(f"&chi; = {chi:g}" for chi in chis)):
        yield "".join(f'<th scope="col">{f"start {start}" if start else head}</th>' for start in counted)
    yield "</tr></thead>\n<tbody>"
    for unit, found in units.items():
        name = next((record["name"] for record in found if record.get("name")), None)
        label = f"{unit}" + (f'<small class="name">{escape(name)}</small>' if name else "")
        yield f'<tr><th scope="row">{label}</th>'
        # A fused unit has one appearance for each chi; like the sheets, the column shows that of the largest.
        still = [record for record in found if not record["layer"].startswith("motion/")]
        still.sort(key=lambda record: -1.0 if record["chi"] is None else record["chi"])
        for start in counted:
            own = [record for record in still if record.get("start", 0) == start]
            yield _cell(directory, own[-1], ("appearance",), notes) if own else "<td></td>"
        for chi, start in ((chi, start) for chi in chis for start in counted):
            record = next((r for r in found if r["chi"] == chi and r.get("start", 0) == start), None)
            yield (
                _cell(directory, record, CONVENTIONS, notes) if record else '<td><div class="none">not run</div></td>'
            )
        yield "</tr>"
    yield "</tbody></table></div></details>\n</section>"


def _sheets(directory: Path, layer: str) -> Iterator[str]:
    yield '<ul class="sheets">'
    for convention in (*CONVENTIONS, "appearance"):
        stem = f"{SHEETS}/{layer}-{convention}"
        for page, files in enumerate(_pages(directory, stem), 1):
            image = f'<img loading="lazy" src="{files["still"]}" alt="{escape(layer)}, sheet {page}, {convention}">'
            links = " · ".join(f'<a href="{link}">{words}</a>' for words, link in files.items())
            yield f'<li class="{convention}"><a href="{files["still"]}">{image}</a>sheet {page}: {links}</li>'
    yield "</ul>"


def _pages(directory: Path, stem: str) -> Iterator[dict[str, str]]:
    """Of each page of a sheet the files that there are: still, animated, as a film."""
    endings = {"still": "png", "animated": "gif", "MP4": "mp4"}
    for page in count(1):
        paths = {words: f"{stem}-{page}.{ending}" for words, ending in endings.items()}
        files = {words: quote(path) for words, path in paths.items() if (directory / path).exists()}
        if "still" not in files:
            return
        yield files


def _cell(directory: Path, record: Record, kinds: Sequence[str], notes: Mapping[tuple[Any, ...], str]) -> str:
    if record["ending"] in NOTHING_TO_SEE:
        return f'<td><div class="none dead"><b>{record["ending"]}</b></div></td>'
    paths, parts = picture_paths(directory, record), []
    chi = "" if record["chi"] is None else f", chi {record['chi']:g}"
    chi += f", start {record['start']}" if record.get("start") else ""
    for kind in kinds:
        moving = "" if kind == "appearance" else f"motion {kind}"
        if not paths[kind].exists():
            parts.append(f'<div class="none {moving}">no picture</div>')
            continue
        link = _link(directory, paths[kind])
        alt = f"{record['layer']} unit {record['unit']}{chi}, {moving or kind}"
        image = f'<img loading="lazy" width="144" height="144" src="{link}" alt="{escape(alt)}">'
        if moving and paths[f"{kind} still"].exists():
            still = _link(directory, paths[f"{kind} still"])
            source = f'<source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
            image = f"<picture>{source}{image}</picture>"
        parts.append(f'<a class="{moving}" href="{link}">{image}</a>')
    reached = gain(record).replace("x ahat", "\N{MULTIPLICATION SIGN} â").replace("~", "≈ ")
    rise = f"{_number(record.get('activation_start'))} → {_number(record.get('activation_end'))}"
    # A fused unit has an appearance of its own at every chi, but a column for one of them.
    files = {"npz": array_path(directory, record)}
    if "appearance" not in kinds and paths["appearance"].exists():
        files = {"appearance": paths["appearance"]} | files
    links = " · ".join(f'<a href="{_link(directory, path)}">{words}</a>' for words, path in files.items())
    note = notes.get(identity(record), "")
    return f"<td>{''.join(parts)}{reached}<small>{rise}</small><small>{links}</small>{note}</td>"


def _link(directory: Path, path: Path) -> str:
    return quote(path.relative_to(directory).as_posix())


def _spread(of: Spread) -> str:
    values = f"{_number(min(of.values))} to {_number(max(of.values))}"
    return f"<small>{len(of.values)} starts: value {values}, correlation {of.correlation:.2f}</small>"


def _number(value: float | None) -> str:
    if value is None or not isfinite(value):
        return "?"
    return (f"{value:.2f}" if abs(value) < 1 else f"{value:.3g}").replace("-", "\N{MINUS SIGN}")


def _one(records: Sequence[Record], key: str) -> str:
    values = {record.get(key) for record in records} - {None}
    return escape(str(values.pop())) if len(values) == 1 else "several" if values else "not recorded"
