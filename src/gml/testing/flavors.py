"""What every flavor must do, as a suite that anybody can run over one.

class TestMyFlavor(FlavorSuite):
    name = "mine"

    @pytest.fixture
    def model(self):
        return train_something()

    @pytest.fixture
    def data(self):
        return pd.DataFrame(...)
"""

# ruff: noqa: D102 - the name of a test says what it holds
from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gml.domain.errors import ConflictError, CorruptError, GmlError, InvalidValueError, TrustError
from gml.models import policy
from gml.models.example import EXAMPLE
from gml.models.files import ModelFiles
from gml.models.flavor import Flavor, LoadOptions, get_flavor
from gml.models.loaded import load_model, load_native
from gml.models.mlmodel import NAME, PYFUNC
from gml.models.save import SaveOptions, save_model

if TYPE_CHECKING:
    from pathlib import Path

_FRESH = """
import json, sys
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions
from gml.models.loaded import load_model

model = load_model(ModelFiles.of_folder(sys.argv[1]), LoadOptions(code=sys.argv[2] == "code"))
print(json.dumps(plain(model.predict(model.input_example))))
"""
_PLAIN = """
def plain(value):
    if hasattr(value, "to_dict"):
        return value.to_dict("list") if hasattr(value, "columns") else value.tolist()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
"""


class FlavorSuite:
    """Derive a test class, name the flavor and give a trained model with data it takes."""

    name = ""
    options: dict[str, Any] = {}  # noqa: RUF012 - replaced by subclasses
    tolerance = 1e-6
    carries_code = False
    """Whether even the default format runs code when it is loaded."""

    @pytest.fixture
    def model(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def data(self) -> Any:
        raise NotImplementedError

    def predictions(self, model: Any, data: Any) -> Any:
        """Return what the native model says, without gml."""
        return model.predict(data)

    @pytest.fixture
    def flavor(self) -> Flavor:
        return get_flavor(self.name)

    @pytest.fixture
    def folder(self, flavor: Flavor, model: Any, data: Any, tmp_path: Path) -> Path:
        target = tmp_path / "saved" / "model"
        save_model(model, target, flavor, SaveOptions(input_example=data, options=self.options))
        return target

    @property
    def trust(self) -> LoadOptions:
        return LoadOptions(code=self.carries_code)

    def same(self, one: Any, other: Any) -> None:
        space: dict[str, Any] = {}
        exec(_PLAIN, space)  # noqa: S102 - our own text, which also runs in another process
        self._compare(space["plain"](one), space["plain"](other))

    def _compare(self, left: Any, right: Any) -> None:
        import numpy as np

        if isinstance(left, dict):
            assert sorted(left) == sorted(right)
            for key in left:
                self._compare(left[key], right[key])
        elif isinstance(left, list) and any(isinstance(one, dict) for one in left):
            assert len(left) == len(right)
            for mine, other in zip(left, right, strict=True):
                self._compare(mine, other)
        elif np.asarray(left).dtype.kind in "fc":
            np.testing.assert_allclose(left, right, rtol=self.tolerance, atol=self.tolerance)
        else:
            assert left == right

    # --- saving -------------------------------------------------------------------------------

    def test_the_folder_says_what_it_holds(self, folder: Path) -> None:
        mlmodel = ModelFiles.of_folder(folder).mlmodel()
        assert mlmodel.pyfunc["loader_module"]
        assert self.name in mlmodel.flavors or self.name == PYFUNC
        assert mlmodel.signature is not None
        assert mlmodel.signature.inputs is not None
        assert (folder / EXAMPLE).is_file()
        assert mlmodel.model_size_bytes == sum(
            path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != NAME
        )

    def test_it_knows_its_own_models_and_no_others(self, flavor: Flavor, model: Any) -> None:
        assert flavor.can_save(model)
        assert not flavor.can_save(object())

    def test_requirements_are_few_and_pinned(self, folder: Path) -> None:
        lines = (folder / "requirements.txt").read_text().split()
        assert 1 <= len(lines) <= 8
        assert all("==" in line for line in lines)
        assert not any(line.startswith(("pytest", "ruff", "mlflow")) for line in lines)

    def test_a_folder_is_not_overwritten(self, flavor: Flavor, model: Any, folder: Path) -> None:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(ConflictError):
            save_model(model, folder, flavor, SaveOptions(options=self.options))
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    def test_a_failed_save_leaves_nothing(self, flavor: Flavor, model: Any, tmp_path: Path) -> None:
        with pytest.raises(InvalidValueError):
            save_model(model, tmp_path / "new" / "model", flavor, SaveOptions(fmt="no-such-format"))
        assert list((tmp_path / "new").iterdir()) == []

    # --- loading ------------------------------------------------------------------------------

    def test_a_fresh_process_predicts_the_same(self, folder: Path, model: Any, data: Any) -> None:
        trust = "code" if self.carries_code else "data"
        done = subprocess.run(
            [sys.executable, "-c", _PLAIN + _FRESH, str(folder), trust],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder.parent,
        )
        assert done.returncode == 0, done.stderr
        self.same(json.loads(done.stdout.splitlines()[-1]), self.predictions(model, data))

    def test_it_predicts_the_same_here(self, folder: Path, model: Any, data: Any) -> None:
        loaded = load_model(ModelFiles.of_folder(folder), self.trust)
        self.same(loaded.predict(data), self.predictions(model, data))

    def test_the_native_model_comes_back(self, folder: Path) -> None:
        assert load_native(ModelFiles.of_folder(folder), self.name, self.trust) is not None

    def test_the_default_format_is_data(self, folder: Path) -> None:
        files = ModelFiles.of_folder(folder)
        verdict = policy.judge(files, files.mlmodel())
        assert verdict.format_class == ("code" if self.carries_code else "data"), verdict.findings

    def test_code_needs_trust(self, flavor: Flavor, model: Any, tmp_path: Path) -> None:
        from gml.models.formats import DATA

        for fmt in flavor.formats:
            target = tmp_path / fmt
            save_model(model, target, flavor, SaveOptions(fmt=fmt, options=self.options))
            files = ModelFiles.of_folder(target)
            if policy.judge(files, files.mlmodel()).format_class == "code":
                with pytest.raises(TrustError):
                    load_model(ModelFiles.of_folder(target))
                assert load_model(ModelFiles.of_folder(target), LoadOptions(code=True)).format_class == "code"
            else:
                assert set(policy.judge(files, files.mlmodel()).formats.values()) <= DATA

    def test_every_changed_file_is_found(self, folder: Path) -> None:
        files = ModelFiles.of_folder(folder)
        digests = {name: files.facts(name).sha256 for name in files.names}
        for name in files.names:
            path = folder / name
            before = path.read_bytes()
            path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
            with pytest.raises(CorruptError, match="does not match its digest"):
                load_model(ModelFiles.of_folder(folder, digests), self.trust)
            path.write_bytes(before)
        assert ModelFiles.of_folder(folder, digests).digest() == files.digest()

    def test_a_cut_file_is_an_error_in_one_line(self, folder: Path) -> None:
        files = ModelFiles.of_folder(folder)
        mlmodel = files.mlmodel()
        for name in policy.judge(files, mlmodel).formats:
            path = folder / name
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            with pytest.raises(GmlError) as caught:
                load_model(ModelFiles.of_folder(folder), LoadOptions(code=True))
            assert "\n" not in str(caught.value).strip()
