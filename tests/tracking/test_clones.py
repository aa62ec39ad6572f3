"""Clones that work apart and exchange their ledgers by plain `git fetch` end up the same, with nothing lost."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gml.ledger.merge import merge
from gml.tracking import edits, start
from gml.tracking.artifacts import log_bytes
from gml.tracking.commit import commit_sessions
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader

LEDGER = "refs/gml/ledger"


def receive(repo, other) -> str:
    """Fetch another clone's ledger with git and merge it as a pull would; return the tip."""
    repo.git("fetch", "-q", str(other.path), f"+{LEDGER}:refs/gml-test/theirs")
    store = repo.workspace().store
    mine, theirs = store.ref(LEDGER), store.ref("refs/gml-test/theirs")
    merged = theirs if mine is None else merge(store, mine, theirs)
    if merged != mine:
        store.update_ref(LEDGER, merged, expected=mine, message="merge")
    return merged


def exchange(one, two) -> None:
    """Both receive from each other what they had at the same moment."""
    before = one.git("rev-parse", LEDGER)
    theirs = receive(one, two)
    one.git("update-ref", "refs/gml-test/before", before)
    two.git("fetch", "-q", str(one.path), "+refs/gml-test/before:refs/gml-test/theirs")
    store = two.workspace().store
    mine = store.ref(LEDGER)
    ours = merge(store, mine, before)
    if ours != mine:
        store.update_ref(LEDGER, ours, expected=mine, message="merge")
    assert ours == theirs


def everything(repo) -> list:
    reader = Reader(repo.workspace())
    found = []
    for run in reader.runs(deleted=True):
        histories = {
            key: [c.tolist() for c in map(as_array, reader.history(run, key))] for key in run.metrics
        }
        content = {}
        for name in run.artifacts:
            with open_artifact(reader, run, name) as file:
                content[name] = file.read()
        found.append((run, histories, content))
    assert reader.damaged == []
    return found


def as_array(column):
    import numpy as np

    return np.asarray(column)


SITE = """
import gml, sys
from gml.tracking import edits
from gml.workspace import Workspace
site, shared, doomed = sys.argv[1:]
gml.set_experiment("churn")
for n in range(5):
    with gml.start_run(run_name=f"{site}-{n}", tags={"site": site}) as run:
        gml.log_param("n", n)
        for step in range(200):
            gml.log_metric("loss", step / (n + 1), step=step)
        gml.log_text(f"{site} {n}", "result.json")
with gml.start_run(run_id=shared):
    gml.log_metric("loss", 1 if site == "paris" else 2, step=1 if site == "paris" else 2)
    gml.log_param(f"only-{site}", site)
    gml.log_text(site, f"{site}.txt")
    gml.log_text(site, "both.json")
    gml.set_tags({"by": site, f"by-{site}": "yes"})
workspace = Workspace.open()
edits.tag_runs(workspace, [shared], {f"edit-{site}": site})
edits.note_run(workspace, [shared], f"note of {site}")
if site == "paris":
    gml.delete_run(doomed)
else:
    edits.rename_run(workspace, [doomed], "renamed")
gml.set_experiment_tag(f"tag-{site}", site)
"""


def test_two_clones_that_log_edit_resume_and_delete_at_the_same_time_end_equal(repo, clone):
    shared, doomed = repo.python(
        "import gml\nids = []\n"
        "for name in ('shared', 'doomed'):\n"
        "    with gml.start_run(run_name=name) as run: gml.log_metric('loss', 0, step=0)\n"
        "    ids.append(run.run_id)\n"
        "print(*ids)"
    ).split()
    other = clone(repo, "other")
    children = [one.start(SITE, site, shared, doomed) for one, site in ((repo, "paris"), (other, "tokyo"))]
    for child in children:
        _, err = child.communicate()
        assert child.returncode == 0, err
    assert everything(repo) != everything(other)
    exchange(repo, other)
    mine, theirs = everything(repo), everything(other)
    assert mine == theirs
    runs = {run.name: (run, histories, content) for run, histories, content in mine}
    assert runs.keys() == {"shared", "renamed"} | {f"{s}-{n}" for s in ("paris", "tokyo") for n in range(5)}
    run, histories, content = runs["shared"]
    assert histories["loss"][0] == [0, 1, 2]
    assert run.params == {"only-paris": "paris", "only-tokyo": "tokyo"}
    assert run.tags.keys() >= {
        "by",
        "by-paris",
        "by-tokyo",
        "edit-paris",
        "edit-tokyo",
        "mlflow.note.content",
    }
    assert content["both.json"] in {b"paris", b"tokyo"}
    assert content["both.json"].decode() == run.tags["by"]
    assert (content["paris.txt"], content["tokyo.txt"]) == (b"paris", b"tokyo")
    assert runs["renamed"][0].lifecycle_stage == "deleted"
    experiments = Reader(repo.workspace()).experiments()
    (churn,) = [e for e in experiments if e.name == "churn"]
    assert churn.tags == {"tag-paris": "paris", "tag-tokyo": "tokyo"}
    assert {run.experiment_id for run, _, _ in mine} == {"0", churn.experiment_id}
    for one in (repo, other):
        one.git("log", "--oneline", LEDGER)
        one.fsck()
    # What was exchanged is exchanged: nothing changes any more.
    tip = repo.git("rev-parse", LEDGER)
    assert receive(repo, other) == receive(other, repo) == tip


def test_a_clone_that_saw_a_checkpoint_takes_the_whole_run_later(api, repo, clone):
    with api.start_run() as run:
        for step in range(3000):
            api.log_metric("loss", random.Random(step).random(), step=step)
        api.log_text("a long first version", "state.json")
        run.recorder.checkpoint()
        other = clone(repo, "other")
        other.python("import gml\nwith gml.start_run(): pass")
        # The history moves to the artifact store, what is left in git gets shorter, and so does the file.
        recorder_history = run.recorder._fold.history
        recorder_history.seal_all()
        for step in range(3000, 3200):
            api.log_metric("loss", step, step=step)
        api.log_text("{}", "state.json")
    exchange(repo, other)
    for one in (repo, other):
        view = one.workspace().ledger.view()
        found = view.run(run.run_id)
        assert (found.status, found.metrics["loss"].count) == ("FINISHED", 3200)
        with open_artifact(Reader(one.workspace()), found, "state.json") as file:
            assert file.read() == b"{}"
    reader = Reader(repo.workspace())
    assert list(reader.history(reader.run(run.run_id), "loss")[0]) == list(range(3200))


@dataclass
class Site:
    """A clone and what was logged in it, by run."""

    repo: object
    known: set[str] = field(default_factory=set)
    live: object = None

    @property
    def space(self):
        return self.repo.workspace(GML_CODE="none")


@dataclass
class Model:
    """What must be there in the end."""

    points: dict[str, set[int]] = field(default_factory=dict)
    tags: dict[str, set[str]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["run", "live", "checkpoint", "end", "resume", "tag", "delete", "exchange", "exchange"]
        ),
        st.integers(0, 2),
        st.integers(0, 1 << 30),
    ),
    min_size=6,
    max_size=16,
)
NUMBERS = itertools.count(1)


def log_something(recorder, model: Model, rng: random.Random) -> None:
    run_id = recorder.run_id
    for _ in range(rng.choice([1, 3, 200])):
        step = next(NUMBERS)
        recorder.metric("loss", rng.random(), step, None)
        model.points.setdefault(run_id, set()).add(step)
    name = rng.choice(["a.json", "b.txt", "c/d.bin"])
    data = b"x" * rng.randrange(40) + str(next(NUMBERS)).encode()
    log_bytes(recorder, data, name)
    model.files.setdefault(run_id, {})[name] = data


def perform(what: str, site: Site, others: list[Site], model: Model, rng: random.Random) -> None:
    committed = sorted(site.known - ({site.live.run_id} if site.live else set()))
    match what:
        case "run":
            recorder = start.start_new(site.space, start.NewRun(experiment="churn", environment={}))
            log_something(recorder, model, rng)
            recorder.end("FINISHED")
            site.known.add(recorder.run_id)
        case "live" if site.live is None:
            site.live = start.start_new(site.space, start.NewRun(environment={}))
            log_something(site.live, model, rng)
        case "checkpoint" if site.live is not None:
            log_something(site.live, model, rng)
            site.live.checkpoint()
        case "end" if site.live is not None:
            log_something(site.live, model, rng)
            site.live.end("FINISHED")
            site.known.add(site.live.run_id)
            site.live = None
        case "resume" if committed:
            recorder = start.resume(site.space, rng.choice(committed))
            # Two sites that log one artifact name apart: either may win, so each has its own.
            step = next(NUMBERS)
            recorder.metric("loss", 0.5, step, None)
            model.points.setdefault(recorder.run_id, set()).add(step)
            recorder.end("FINISHED")
        case "tag" if committed:
            run_id, key = rng.choice(committed), f"t{next(NUMBERS)}"
            edits.tag_runs(site.space, [run_id], {key: key})
            model.tags.setdefault(run_id, set()).add(key)
        case "delete" if committed:
            run_id = rng.choice(committed)
            edits.delete_runs(site.space, [run_id])
            edits.restore_runs(site.space, [run_id])
        case "exchange":
            other = rng.choice(others)
            if other.space.ledger.tip() is not None:
                receive(site.repo, other.repo)
                site.known |= {entry.run_id for entry in site.space.ledger.view().entries()}


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # real repositories are too slow to shrink with
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=OPERATIONS)
def test_three_clones_lose_nothing_however_they_work_and_exchange(make_repo, operations):
    model = Model()
    sites = [Site(make_repo(f"site-{next(NUMBERS)}", commit=False)) for _ in range(3)]
    for what, number, seed in operations:
        site = sites[number]
        perform(what, site, [s for s in sites if s is not site], model, random.Random(seed))
    for site in sites:
        perform("end", site, [], model, random.Random(0))
        commit_sessions(site.space)
    holders = [site for site in sites if site.space.ledger.tip() is not None]
    for _ in range(2):
        for one, two in itertools.permutations(holders, 2):
            receive(one.repo, two.repo)
    tips = {site.repo.git("rev-parse", LEDGER) for site in holders}
    assert len(tips) <= 1
    for site in holders[:1]:
        found = {run.run_id: (run, histories, content) for run, histories, content in everything(site.repo)}
        for run_id, points in model.points.items():
            assert set(found[run_id][1]["loss"][0]) >= points
            assert len(found[run_id][1]["loss"][0]) == len(points)
            assert found[run_id][0].metrics["loss"].count == len(points)
        for run_id, tags in model.tags.items():
            assert found[run_id][0].tags.keys() >= tags
        for run_id, files in model.files.items():
            assert found[run_id][2] == files
        assert all(run.lifecycle_stage == "active" for run, _, _ in found.values())
