"""An index that was brought up to date says the same as one made from nothing."""

import contextlib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import NOW, Dice, Lab, dump, found, git, naive, points

from gml.domain.run import fold
from gml.index.query import parse
from gml.index.query.fields import number_of
from gml.index.store import RunIndex
from gml.index.store.rows import Rows, finite_number, inserts
from gml.ledger import layout
from gml.ledger.view import RunEntry


def rebuilt(lab, tmp_path):
    path = tmp_path / "again.sqlite"
    path.unlink(missing_ok=True)
    with contextlib.closing(lab.open(path)) as index:
        return dump(index)


class History:
    """Random commits to a ledger."""

    def __init__(self, lab, seed):
        self.lab, self.dice = lab, Dice(seed)
        self.documents = {}
        self.clock = 0
        self.experiments = ["0"]
        self.commits = []

    def new(self):
        for _ in range(self.dice.randrange(1, 6)):
            run_id = self.dice.run_id()
            self.documents[run_id] = self.dice.document(run_id, self.experiments)
            self.lab.runs([self.documents[run_id]])

    def edit(self):
        self.clock += 1
        run_id = self.dice.choice(sorted(self.documents) or ["Imported_run-1"])
        name = f"{self.clock:06d}-{self.dice.getrandbits(64):016x}"
        self.lab.commit({f"{layout.edits_dir(run_id)}/{name}.json": self.dice.edit(run_id, self.clock)})

    def checkpoint(self):
        if self.documents:
            run_id = self.dice.choice(sorted(self.documents))
            self.documents[run_id] = self.dice.document(run_id, self.experiments)
            self.lab.runs([self.documents[run_id]])

    def forget(self):
        if self.documents:
            run_id = self.dice.choice(sorted(self.documents))
            del self.documents[run_id]
            self.lab.commit({layout.record_path(run_id): None})

    def artifact(self):
        if self.documents:
            run_id = self.dice.choice(sorted(self.documents))
            self.lab.commit({layout.artifact_path(run_id, "a.txt"): b"%d" % self.dice.getrandbits(30)})

    def damage(self):
        run_id = self.dice.run_id()
        bad = self.dice.choice([b"{", b"[]", b'{"format":"gml-run 9"}', b'{"format":"gml-run 1","params":[1]}',
                                b'{"format":"gml-run 1","start_time":"x"}', b'{"format":"gml-run 1","params":{"a":1}}',
                                b'{"format":"gml-run 1","metrics":{"a":{}}}', b'{"format":"gml-run 1","name":null}',
                                b'{"format":"gml-run 1","metrics":{"a":{"last":"x","step":1,"timestamp":1}}}',
                                b'{"format":"gml-run 1","artifact_manifest":"' + b"0" * 64 + b'"}'])  # fmt: skip
        self.lab.commit({layout.record_path(run_id): bad})

    def experiment(self):
        name = self.dice.choice(["churn", "x", "'; --"])
        self.experiments.append(self.lab.experiment(name))

    def rename(self):
        self.clock += 1
        key = self.dice.choice(self.experiments)
        edit = {
            "format": "gml-edit 1",
            "clock": self.clock,
            "session": f"{self.clock:016x}",
            "name": self.dice.text() or "n",
        }
        self.lab.commit({f"{layout.experiment_edits_dir(key)}/{self.clock:06d}-{self.clock:016x}.json": edit})

    def force(self):
        """Go back to an earlier commit, as `git push --force` would."""
        if self.commits:
            old = self.dice.choice(self.commits)
            self.lab.workspace.store.update_ref(
                self.lab.ledger.ref, old, expected=self.lab.ledger.tip(), message="force"
            )

    def step(self):
        self.dice.choice([self.new, self.new, self.edit, self.edit, self.checkpoint, self.forget, self.artifact,
                          self.damage, self.experiment, self.rename, self.force])()  # fmt: skip
        if self.lab.ledger.tip():
            self.commits.append(self.lab.ledger.tip())


@pytest.mark.parametrize("seed", range(4))
def test_any_history_leads_to_the_same_tables(lab, tmp_path, seed):
    lab.repo.damaged = True
    history = History(lab, seed)
    for _ in range(12):
        for _ in range(history.dice.randrange(1, 5)):
            history.step()
        with contextlib.closing(lab.open()) as index:
            assert dump(index) == rebuilt(lab, tmp_path)
            good = naive_readable(lab)
            assert found(index, None, stages=("active", "deleted")) == good


def naive_readable(lab):
    """The runs that the evaluator could be asked about: those whose documents have the format's shape."""
    view, runs = lab.view(), []
    for entry in view.entries():
        with contextlib.suppress(Exception):
            run = view.load(entry)
            Rows(lambda _section, _key: 1).add_run(1, entry, run)
            runs.append(run)
    return naive(view, stages=("active", "deleted"), runs=runs)


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 160))
def test_many_more_histories(lab, tmp_path, seed):
    test_any_history_leads_to_the_same_tables(lab, tmp_path, seed)


@pytest.mark.parametrize("seed", range(300))
def test_rows_of_a_record_are_those_of_its_run(seed):
    dice = Dice(seed)
    run_id = dice.run_id()
    record = dice.document(run_id)
    keys = {}
    one, two = (Rows(lambda section, key: keys.setdefault((section, key), len(keys))) for _ in range(2))
    entry = RunEntry(run_id, "0" * 40, None)
    one.add_record(1, entry, record)
    two.add_run(1, entry, fold(run_id, record, ()))
    assert inserts(one.waiting()) == inserts(two.waiting())


def test_two_clones_that_were_merged(lab, make_repo, tmp_path):
    from gml.ledger.merge import merge

    lab.add(name="before")
    other_repo = make_repo("other", commit=False)
    git(other_repo.path, "fetch", "-q", str(lab.repo.path), "+refs/gml/*:refs/gml/*")
    other = Lab(other_repo)
    here, there = lab.add(name="here"), other.add(name="there")
    with contextlib.closing(lab.open()):
        git(lab.repo.path, "fetch", "-q", str(other_repo.path), "+refs/gml/ledger:refs/theirs/ledger")
    tips = lab.ledger.tip(), git(lab.repo.path, "rev-parse", "refs/theirs/ledger")
    merged = merge(lab.workspace.store, *tips)
    lab.workspace.store.update_ref(lab.ledger.ref, merged, expected=tips[0], message="merge")
    with contextlib.closing(lab.open()) as index:
        assert {*found(index, None)} >= {here, there}
        assert dump(index) == rebuilt(lab, tmp_path)


def test_a_renamed_experiment(lab, tmp_path):
    key = lab.experiment("churn")
    run_id = lab.add(experiment_id=key)
    lab.open().close()
    lab.commit({f"{layout.experiment_edits_dir(key)}/000001-{'0' * 16}.json":
                {"format": "gml-edit 1", "clock": 1, "session": "0" * 16, "name": "renewal"}})  # fmt: skip
    with contextlib.closing(lab.open()) as index:
        assert found(index, parse("experiment = 'renewal'")) == [run_id]
        assert found(index, parse("experiment = 'churn'")) == []
        assert dump(index) == rebuilt(lab, tmp_path)


def test_a_damaged_run_is_named_and_others_are_fine(lab):
    good = lab.add(name="good")
    bad = "0" * 12 + "7" + "0" * 19
    lab.commit({layout.record_path(bad): b"{"})
    with contextlib.closing(lab.open()) as index:
        assert found(index, None) == [good]
        (error,) = index.damaged()
        assert bad in str(error)
        assert "\n" not in str(error)
    lab.runs([{"format": "gml-run 1", "run_id": bad, "name": "repaired"}])
    with contextlib.closing(lab.open()) as index:
        assert index.damaged() == []
        assert bad in found(index, None)


def test_a_damaged_run_is_found_when_its_object_comes_back(lab):
    lab.repo.damaged = True
    run_id = lab.add(name="lost")
    entry = lab.view().entry(run_id)
    objects = lab.repo.path / ".git" / "objects"
    for pack in (objects / "pack").glob("*.pack"):
        data = pack.read_bytes()
        for each in (pack, pack.with_suffix(".idx")):
            each.unlink()
        subprocess.run(["git", "-C", lab.repo.path, "unpack-objects", "-q"], input=data, check=True)
    loose = objects / entry.record[:2] / entry.record[2:]
    kept = loose.read_bytes()
    loose.unlink()
    with contextlib.closing(Lab(lab.repo).open()) as index:
        assert found(index, None) == []
        assert [run_id in str(each) for each in index.damaged()] == [True]
    loose.write_bytes(kept)
    with contextlib.closing(Lab(lab.repo).open()) as index:
        assert found(index, None) == [run_id]
        assert index.damaged() == []


def test_reader_names_the_damage(lab):
    from gml.tracking.reader import Reader

    good = lab.add(name="good")
    lab.commit({layout.record_path("0" * 12 + "7" + "0" * 19): b"{"})
    reader = Reader(lab.workspace)
    runs = reader.search(parse("name = 'good'"), now_ms=NOW)
    assert [run.run_id for run in runs] == [good]
    assert len(reader.damaged) == 1


def test_a_ledger_of_a_reader_that_is_behind(lab):
    """Two processes with different states of the ledger use one file in turn."""
    lab.add(name="one")
    old = lab.view()
    lab.add(name="two")
    for _ in range(2):
        with contextlib.closing(lab.open()) as index:
            assert len(found(index, None)) == 2
        with contextlib.closing(RunIndex.open(lab.path, old)) as index:
            assert len(found(index, None)) == 1


def test_steps_are_looked_at_only_in_runs_that_the_rest_selects(lab):
    from gml.tracking.reader import Reader

    ids = [lab.add(params={"p": str(n % 2)}, **points({"loss": [3.0, 2.0, n / 10]})) for n in range(6)]
    reader, read = Reader(lab.workspace), []
    history = reader.history
    reader.history = lambda run, key: read.append(run.run_id) or history(run, key)
    runs = reader.search(parse("metrics.loss@step=2 < 0.35 and params.p = '1'"), now_ms=NOW)
    assert {run.run_id for run in runs} == {ids[1], ids[3]}
    assert {*read} == {ids[1], ids[3], ids[5]}


def test_ten_thousand_keys_in_one_run(lab):
    run_id = lab.add(params={f"p{n}": str(n) for n in range(10_000)},
                     metrics={f"m{n}": {"last": float(n), "step": 0, "timestamp": 0} for n in range(10_000)})  # fmt: skip
    with contextlib.closing(lab.open()) as index:
        assert found(index, parse("params.p9999 = 9999 and metrics.m77 > 76")) == [run_id]
    lab.commit({f"{layout.edits_dir(run_id)}/000001-{'0' * 16}.json":
                {"format": "gml-edit 1", "clock": 1, "session": "0" * 16, "tags": {"a": "b"}}})  # fmt: skip
    with contextlib.closing(lab.open()) as index:
        assert found(index, parse("tags.a = 'b' and params.p9999 = '9999'")) == [run_id]


NUMBERLIKE = st.one_of(
    st.text("0123456789.eE+-_ nNaAiIfFtTyYxX\u0661\u0131\t", max_size=8),
    st.floats().map(repr),
    st.sampled_from(
        [
            "",
            "infinity",
            "+Infinity",
            "-nan",
            "NaN",
            "1e400",
            "0x1p3",
            "1.",
            ".5",
            ".",
            "1__0",
            "\x1c1",
            "1\x1f",
        ]
    ),
)


@settings(max_examples=1000, deadline=None, database=None)
@given(NUMBERLIKE)
def test_numbers_are_those_of_the_evaluator(text):
    try:
        wanted = number_of(text)
    except ValueError:
        wanted = None  # `infinity` with letters of Turkish, which its expression takes for a number
    found = finite_number(text)
    assert found == (None if wanted is None or wanted != wanted else wanted)
