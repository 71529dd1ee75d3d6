"""All results of a run on one page: `index.html`, which works from a disk, without a network or scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import count
from math import isfinite
from pathlib import Path
from urllib.parse import quote

from stjax.endings import DEAD, LOW, NO_GRADIENT, NOTHING_TO_SEE, OFF
from stjax.figures import color, encode
from stjax.figures.movement import Movement, clips, load_movement, why_no_flow
from stjax.figures.sheets import KEY_WORDS, SHEETS, common
from stjax.figures.spread import Spread, describe_spreads, spreads
from stjax.figures.style import STYLE
from stjax.figures.views import (
    CONVENTIONS,
    FRAMES,
    OWN_FLOW,
    X_T,
    Y_T,
    Column,
    View,
    array_path,
    bare,
    clip_path,
    columns,
    conventions,
    gain,
    in_column,
    still_path,
    views,
)
from stjax.files import MARK, claim, replacing
from stjax.record import Coordinates, Record

_BESIDE = """Right of a clip: a column over time, time to the right (y-t). Below it: a row over time, time downward
(x-t), and the flow that is seen in the clip: its hue is direction, full colour the speed written below; white stands
still; grey changes, but is not seen to move. Row and column are those that change most. Speed is slant."""

TITLE = "What the units want to see"

_ABOUT = "Each picture is an input that excites one unit as much as possible."
_CHI = """&chi; weighs slowness: slow motion at the left, speed left free at &chi; = 0."""
_NUMBERS = """Below a picture: the activation reached, as a multiple of &acirc;, the largest recorded over a data set;
then activation at the start &rarr; at the end."""


def write_index(directory: str | Path, records: Sequence[Record]) -> Path:
    """Writes `index.html`: for each layer its sheets, and a table of units with pictures and numbers.

    One file, all links relative, no script; where there is flow, a switch on the page shows it as direction or as
    components. Layers come in the order in which they first occur; where records repeat a (layer, unit, chi, start),
    the last counts. A picture that is not on disk is shown as missing, so the page may be written during a run.

    Args:
      directory: the run's folder.
      records: of any layers.
    Returns:
      Path of the page, replaced at once.
    Raises:
      UsageError: a record names a file outside the folder, or the folder has somebody else's page.
    """
    directory = Path(directory)
    latest = {record.coordinates: record for record in records}
    layers: dict[str, list[Record]] = {}
    for record in latest.values():
        layers.setdefault(bare(record.layer), []).append(record)
    path, *keys = (claim(directory, path) for path in page_paths(directory))
    flow = FRAMES not in conventions(records)
    for convention, key in zip(CONVENTIONS, keys, strict=True):
        if flow or (convention == "direction" and _clips(records)):
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
    yield f"<title>{TITLE}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>"
    yield f"<h1>{TITLE}</h1>"
    facts = [f"{word} {_common(every, word)}" for word in ("model", "recipe")]
    facts += [f"{_common(every, 'steps')} steps", f"seed {_common(every, 'seed')}", f"{len(every)} results"]
    about = [_ABOUT, *[_CHI] * any(record.chi is not None for record in every), _NUMBERS]
    yield f"<p>{' · '.join(facts)}</p>\n<p>{' '.join(about)}</p>"
    yield '<nav aria-label="Layers">'
    yield from (f'<a href="#{quote(layer)}">{escape(layer)}</a>' for layer in layers)
    yield "</nav>\n</header>"
    if _clips(every):
        yield from _key_to_clips()
    if FRAMES not in conventions(every):
        yield from _switch()
    yield "<main>"
    for layer, records in layers.items():
        yield from _section(directory, layer, records, unfolded=len(every) <= 600)
    yield "</main>\n</body>\n</html>"


def _clips(records: Sequence[Record]) -> bool:
    return any(clips(record.inputs) for record in records)


def _key_to_clips() -> Iterator[str]:
    """What stands beside a clip of RGB."""
    yield f'<div class="key clips"><img width="44" height="44" src="{SHEETS}/key-direction.png" alt="Colours of flow">'
    yield f"<small>{_BESIDE}</small></div>"


def _switch() -> Iterator[str]:
    """Between the conventions of flow, with their keys."""
    yield "<fieldset><legend>Motion as</legend>"
    yield '<label><input type="radio" name="motion" id="direction" checked> direction</label>'
    yield '<label><input type="radio" name="motion" id="components"> x, y, magnitude</label>'
    for convention in CONVENTIONS:
        words = "; ".join(KEY_WORDS[convention])
        image = f'<img width="44" height="44" src="{SHEETS}/key-{convention}.png" alt="Key: {words}">'
        yield f'<span class="key {convention}">{image}<small>{words}</small></span>'
    yield "</fieldset>"


def _section(directory: Path, layer: str, records: list[Record], *, unfolded: bool) -> Iterator[str]:
    units: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.unit):
        units.setdefault(record.unit, []).append(record)
    size = f"{len(units)} unit{'s' if len(units) != 1 else ''}"
    for word in (DEAD, NO_GRADIENT, OFF, LOW):
        several = sum(all(record.ending == word for record in own) for own in units.values())
        size += f", {several} {word}" if several else ""
    spread = spreads(directory, records)
    yield f'<section id="{escape(layer)}">\n<h2>{escape(layer)}</h2>\n<p>{size}</p>'
    if spread:
        yield f"<p>{describe_spreads(spread)}</p>"
    for name, why in {record.layer: record.settings.rough for record in records if record.settings.rough}.items():
        yield f"<p>≈: &acirc; of {escape(name)} is a rough scale and no more, recorded {escape(why or '')}.</p>"
    yield from _sheets(directory, layer)
    heads = columns(records)
    first = min(record.start for record in records)
    # Below the first start's picture, once for all that stand beside it.
    notes = {Coordinates(one.layer, one.unit, one.chi, first): _spread(one) for one in spread}
    yield f"<details{' open' if unfolded else ''}><summary>Units one by one</summary>"
    yield '<div class="scroll"><table>\n<thead><tr><th scope="col">unit</th>'
    yield "".join(f'<th scope="col">{_head(column)}</th>' for column in heads)
    yield "</tr></thead>\n<tbody>"
    for unit, own in units.items():
        name = next((record.name for record in own if record.name), None)
        label = f"{unit}" + (f'<small class="name">{escape(name)}</small>' if name else "")
        yield f'<tr><th scope="row">{label}</th>'
        for column in heads:
            record = in_column(own, column)
            if record:
                yield _cell(directory, record, column, notes.get(record.coordinates, ""))
            else:
                yield '<td><div class="none">not run</div></td>' if column.slow else "<td></td>"
        yield "</tr>"
    yield "</tbody></table></div></details>\n</section>"


def _head(column: Column) -> str:
    # Which chi a still is of stands on the sheets; here each is linked below its own clip as well.
    return column.title.replace("chi", "&chi;") if column.slow or column.start else column.stream


def _sheets(directory: Path, layer: str) -> Iterator[str]:
    yield '<ul class="sheets">'
    for convention in (*CONVENTIONS, FRAMES):
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


def _cell(directory: Path, record: Record, column: Column, note: str) -> str:
    """One column's pictures of a record, its numbers, and links to what else there is of it."""
    if record.ending in NOTHING_TO_SEE:
        return f'<td><div class="none dead"><b>{record.ending}</b></div></td>'
    own = [view for each in record.inputs if each.name == column.stream for view in views(each)]
    pictures = "".join(_picture(directory, record, view) for view in own)
    moved = ""
    if any(view.convention == OWN_FLOW for view in own):
        pictures = f'<div class="clip">{pictures}</div>'
        known = load_movement(array_path(directory, record), record.inputs, numbers=True)
        moved = _movement(known.get(column.stream, Movement()))
    reached = gain(record).replace("x ahat", "\N{MULTIPLICATION SIGN} â").replace("~", "≈ ")
    rise = f"{_number(record.activation_start)} → {_number(record.activation_end)}"
    files = {}
    for other in (view for each in record.inputs if each.name != column.stream for view in views(each)):
        # What stands still has a picture of its own at every chi, but a column for one of them.
        path = clip_path(array_path(directory, record), other)
        if column.slow and not other.moves and path.exists():
            files[other.name] = path
    files["npz"] = array_path(directory, record)
    links = " · ".join(f'<a href="{_link(directory, path)}">{words}</a>' for words, path in files.items())
    return f"<td>{pictures}{reached}<small>{rise}</small>{moved}<small>{links}</small>{note}</td>"


def _movement(of: Movement) -> str:
    fast = [f"to {of.speed:.2g} px/frame"] if of.speed > 0 else []
    return f"<small>{', '.join([*fast, of.words])}</small>" if of.words else ""


def _picture(directory: Path, record: Record, view: View) -> str:
    classes = f"moving {view.convention}" if view.moves else view.convention if view.convention in (X_T, Y_T) else ""
    arrays = array_path(directory, record)
    path, still = clip_path(arrays, view), still_path(arrays, view)
    if not path.exists():
        return f'<div class="none {classes}">{_missing(record, view, arrays)}</div>'
    link = _link(directory, path)
    words = f"{record.layer} unit {record.unit}"
    words += "" if record.chi is None else f", chi {record.chi:g}"
    words += f", start {record.start}" if record.start else ""
    words += f", {view.stream}" + (f" {view.convention}" if view.convention != FRAMES else "")
    image = f'<img loading="lazy" width="144" height="144" src="{link}" alt="{escape(words)}">'
    if view.moves and still.exists():
        source = f'<source media="(prefers-reduced-motion: reduce)" srcset="{_link(directory, still)}">'
        image = f"<picture>{source}{image}</picture>"
    return f'<a class="{classes}" href="{link}">{image}</a>'


def _missing(record: Record, view: View, arrays: Path) -> str:
    """Why a picture is not there."""
    input = record.input(view.stream)
    if input and view.convention == OWN_FLOW and still_path(arrays, views(input)[0]).exists():
        return why_no_flow(input)
    return "no picture"


def _link(directory: Path, path: Path) -> str:
    return quote(path.relative_to(directory).as_posix())


def _spread(of: Spread) -> str:
    values = f"{_number(min(of.values))} to {_number(max(of.values))}"
    return f"<small>{len(of.values)} starts: value {values}, correlation {of.correlation:.2f}</small>"


def _number(value: float) -> str:
    if not isfinite(value):
        return "?"
    return (f"{value:.2f}" if abs(value) < 1 else f"{value:.3g}").replace("-", "\N{MINUS SIGN}")


def _common(records: Sequence[Record], name: str) -> str:
    return escape(common([getattr(record.settings, name) for record in records]))
