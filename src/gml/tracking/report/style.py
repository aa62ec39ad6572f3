"""The look of the page: light and dark, wide and narrow, without a script, font or picture."""

from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2128;--dim:#5b6673;--line:#d8dee6;--soft:#f4f6f9;
--best:#eef6ee;
--add:#e3f5e5;--addf:#14602a;--del:#fde8e8;--delf:#98192b;--hunk:#e8f0fb;--hunkf:#2a4d8f;
--c0:#1f77b4;--c1:#d95f02;--c2:#2a8a4a;--c3:#a8328f;--c4:#b8860b;--c5:#5e4fa2;--c6:#0b8a8a;--c7:#8c4a2f}
@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e3e8ee;--dim:#97a3b0;--line:#323a44;--soft:#1c2229;
--best:#1c2b21;--add:#14301d;--addf:#8be0a0;--del:#3a191d;--delf:#ff9ea6;--hunk:#192a45;--hunkf:#9dc1ff;
--c0:#62b0ec;--c1:#ff9a4d;--c2:#66cf8a;--c3:#e585d2;--c4:#e2bc4f;--c5:#a99cf2;--c6:#4fd0d0;--c7:#d69a7e}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.25rem;max-width:78rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.25rem 0 .5rem}
h2{font-size:1.1rem;margin:2rem 0 .5rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
p{margin:.4rem 0}
.dim{color:var(--dim)}
code,pre,td,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;width:100%;font-size:.85rem}
th,td{padding:.3rem .7rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);
overflow-wrap:anywhere;min-width:5.5rem}
tr:last-child>*{border-bottom:0}
thead th{background:var(--soft);white-space:nowrap;max-width:16rem;overflow:hidden;text-overflow:ellipsis}
tbody th{font-weight:500;position:sticky;left:0;background:var(--bg);min-width:7rem;max-width:22rem}
td.f{white-space:nowrap}
td.n{text-align:right;white-space:nowrap}
thead th.n{text-align:right}
.best{background:var(--best)}
td .up,td .dn{color:var(--dim);font-size:.9em}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:.9rem}
figure{margin:0;border:1px solid var(--line);border-radius:6px;padding:.6rem .6rem .2rem}
figcaption{font-weight:600;font-size:.9rem;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--dim);font:11px system-ui,"DejaVu Sans",sans-serif}
.ylab{text-anchor:end;dominant-baseline:middle}
.xlab{text-anchor:middle}
.grid{stroke:var(--line);stroke-width:1}
svg g path{fill:none;stroke:currentColor;stroke-width:1.4;stroke-opacity:.85;stroke-linejoin:round;
stroke-linecap:round}
svg g.dash path{stroke-dasharray:5 3}
svg circle{fill:currentColor;opacity:0}
svg circle:hover{opacity:1}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}
.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}
.key{display:inline-block;width:1.1em;height:.25em;border-radius:2px;background:currentColor;
vertical-align:middle;margin-right:.35em}
.key.dash{background:repeating-linear-gradient(90deg,currentColor 0 5px,transparent 5px 8px)}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.2rem 0 .8rem;font-size:.85rem}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;overflow:hidden}
summary{padding:.4rem .7rem;background:var(--soft);cursor:pointer;font-size:.85rem;overflow-wrap:anywhere}
pre{margin:0;padding:.4rem 0;overflow-x:auto;font-size:.8rem;line-height:1.45;tab-size:4}
pre span{display:block;padding:0 .7rem;width:max-content;min-width:100%}
.add{background:var(--add);color:var(--addf)}
.del{background:var(--del);color:var(--delf)}
.hunk{background:var(--hunk);color:var(--hunkf)}
.head,.note{color:var(--dim)}
footer{margin:2.5rem 0 1rem;font-size:.8rem;color:var(--dim)}
@media(max-width:40rem){body{padding:.75rem;font-size:14px}h1{font-size:1.25rem}th,td{padding:.25rem .45rem}
tbody th{max-width:9rem}thead th{max-width:9.5rem}}
@media print{body{max-width:none}.scroll{overflow:visible}details>*{display:block}}
"""
