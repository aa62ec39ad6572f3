"""`gml artifacts diff`: files of two runs beside each other."""

import base64
import io
import json
import re

from PIL import Image


def picture(colour):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "PNG")
    return out.getvalue()


def two_runs(repo, api):
    before = {
        "config.yaml": "".join(f"key{n}: {n}\n" for n in range(40)).encode(),
        "plot.png": picture("red"),
        "same.txt": b"same",
        "old-name.txt": b"moved along",
        "gone.txt": b"<script>alert(1)</script>\n",
        "weights.bin": bytes(range(256)) * 20,
    }
    after = {
        **before,
        "config.yaml": before["config.yaml"].replace(b"key20: 20", b"key20: <b>21</b>"),
        "plot.png": picture("blue"),
        "new.txt": b"hello\n",
        "new-name.txt": b"moved along",
        "weights.bin": bytes(range(256)) * 21,
    }
    del after["gone.txt"], after["old-name.txt"]
    for files in (before, after):
        with api.start_run():
            for name, data in files.items():
                (repo.path / name).write_bytes(data)
                api.log_artifact(repo.path / name)


def test_what_differs_is_listed(repo, api, gml):
    two_runs(repo, api)
    found = json.loads(gml("artifacts", "diff", "@~1", "@", "--json").out)
    assert {(change["change"], change["path"]) for change in found["changes"]} == {
        ("changed", "config.yaml"),
        ("changed", "plot.png"),
        ("changed", "weights.bin"),
        ("added", "new.txt"),
        ("removed", "gone.txt"),
        ("moved", "new-name.txt"),
    }
    assert found["equal"] == 1
    listed = gml("artifacts", "diff", "@~1", "@").out
    assert re.search(r"changed\s+weights.bin\s+5\.1 kB\s+5\.4 kB\s+\+256 B", listed)
    assert "old-name.txt -> new-name.txt" in listed
    only = gml("artifacts", "diff", "@~1", "@", "plot.png").out
    assert "plot.png" in only
    assert "weights" not in only
    assert gml("artifacts", "diff", "@~1", "@", "nothing", code=4).err.startswith("gml: neither run has")


def test_the_page_shows_text_and_images_side_by_side(repo, api, gml):
    two_runs(repo, api)
    gml("artifacts", "diff", "@~1", "@", "--html", "files.html")
    page = (repo.path / "files.html").read_text()
    for colour in ("red", "blue"):
        assert f'src="data:image/png;base64,{base64.b64encode(picture(colour)).decode()}"' in page
    assert re.search(
        r'<td class="del">key20: 20</td>.*<td class="add">key20: &lt;b&gt;21&lt;/b&gt;</td>', page
    )
    assert "key2: 2<" not in page, "far from the change"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "neither text nor an image" in page
    assert "moved from old-name.txt" in page
    assert gml("artifacts", "diff", "@~1", "@", "--html", "-", "--json", code=2).err.startswith("gml: --html")
