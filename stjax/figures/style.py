"""How the page looks: its style sheet, without anything from elsewhere."""

STYLE = """
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
a.moving { position: relative; display: block; width: 9rem; }
td { padding: .7rem .9rem .7rem 0; vertical-align: top; line-height: 1.35; }
tbody tr { border-top: 1px solid var(--line); }
td img, .none { display: block; width: 9rem; height: 9rem; border-radius: 3px;
  border: 1px solid var(--line); }
td img { margin-bottom: .3rem; object-fit: contain; background: var(--line); }
.none { display: grid; place-items: center; color: var(--soft); margin-bottom: .3rem; }
.dead { background: repeating-linear-gradient(-45deg, transparent 0 6px, var(--line) 6px 8px); }
.none b { font-weight: 400; background: var(--paper); padding: .05rem .5rem; }
.clip { display: grid; grid-template-columns: 9rem 9rem; gap: 2px; margin-bottom: .3rem; width: max-content; }
.clip img, .clip .none { margin: 0; } .clip .y-t { order: 1; } .clip .x-t { order: 2; } .clip .flow { order: 3; }
.key.clips { margin: 1.2rem 0 0; max-width: 60rem; }
small { font-size: .8rem; color: var(--soft); display: block; }
body:has(#direction:checked) .components, body:has(#components:checked) .direction { display: none; }
@media (prefers-reduced-motion: reduce) {
  a.moving::after { content: "play"; position: absolute; right: .4rem; bottom: .7rem; padding: 0 .45rem;
    border-radius: 3px; background: var(--paper); font-size: .8rem; }
}
@media (max-width: 36rem) {
  body { padding: 1.5rem 1rem 3rem; }
  fieldset { position: static; } .key { margin-left: 0; }
  td, th { padding-right: .6rem; } td img, .none, a.moving { width: 6.5rem; } td img, .none { height: 6.5rem; }
  .clip { grid-template-columns: 6.5rem 6.5rem; }
}
"""
