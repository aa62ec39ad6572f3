"""`--at`: the ledger as it was, checked against a replay that knows nothing of git."""

import copy
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gml.domain.errors import NotFoundError, UsageError
from gml.git.objects import parse_commit
from gml.git.port import Identity
from gml.ledger.ledger import Batch, Ledger
from gml.ledger.merge import merge
from gml.tracking import edits
from gml.tracking.reader import Reader
from gml.tracking.report.past import commit_at, heads_at
from gml.tracking.start import NewRun, start_new

keys = st.sampled_from(["lr", "depth", "team", "note"])
values = st.sampled_from(["1", "2", "x", ""])
steps = st.one_of(
    st.tuples(st.just("run"), st.dictionaries(keys, values, max_size=3), st.floats(-5, 5)),
    st.tuples(st.just("tag"), st.integers(0, 9), keys, values),
    st.tuples(st.just("untag"), st.integers(0, 9), keys),
    st.tuples(st.just("rename"), st.integers(0, 9), st.sampled_from(["a", "b"])),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("restore"), st.integers(0, 9)),
)


def state_of(reader):
    return {
        run.run_id: {
            "name": run.name,
            "status": run.status,
            "stage": run.lifecycle_stage,
            "params": dict(run.params),
            "metrics": {key: summary.last for key, summary in run.metrics.items()},
            "tags": dict(run.tags),
        }
        for run in reader.runs(deleted=True)
    }


def fresh(repo, **environ):
    """Return the repository without its ledger: every example begins with none."""
    space = repo.workspace(**environ)
    tip = space.ledger.tip()
    if tip is not None:
        space.store.delete_ref(space.ledger.ref, expected=tip)
    return space


def act(space, state, step):
    """Do one step with gml, and to a plain dictionary."""
    kind, *rest = step
    if kind == "run":
        params, metric = rest
        recorder = start_new(space, NewRun(name=f"run{len(state)}"))
        if params:
            recorder.log_params(params)
        recorder.metric("m", metric, 0, None)
        recorder.end("FINISHED")
        state[recorder.run_id] = {
            "name": f"run{len(state)}", "status": "FINISHED", "stage": "active", "params": dict(params),
            "metrics": {"m": metric}, "tags": {},
        }  # fmt: skip
        return
    if not state:
        return
    run_id = sorted(state)[rest[0] % len(state)]
    if kind == "tag":
        edits.tag_runs(space, [run_id], {rest[1]: rest[2]})
        state[run_id]["tags"][rest[1]] = rest[2]
    elif kind == "untag":
        if rest[1] in state[run_id]["tags"]:
            edits.tag_runs(space, [run_id], {}, [rest[1]])
            del state[run_id]["tags"][rest[1]]
    elif kind == "rename":
        edits.rename_run(space, [run_id], rest[1])
        state[run_id]["name"] = rest[1]
    elif kind == "delete":
        edits.delete_runs(space, [run_id])
        state[run_id]["stage"] = "deleted"
    else:
        edits.restore_runs(space, [run_id])
        state[run_id]["stage"] = "active"


@given(st.lists(steps, min_size=1, max_size=9))
@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_at_each_commit_there_is_exactly_what_was_known(repo, sequence):
    space = fresh(repo, GML_CODE="none")
    state = {}
    remembered = {}
    clock = itertools.count(1_700_000_000, 60)
    for step in sequence:
        space.ledger._clock = itertools.repeat(next(clock)).__next__
        act(space, state, step)
        tip = space.ledger.tip()
        if tip is not None:
            # Several steps may end in one commit, when the last changed nothing.
            remembered[tip] = copy.deepcopy(state)
    dates = {}
    for commit, known in remembered.items():
        assert state_of(Reader(space, at=commit)) == known
        assert commit_at(space, commit, 0) == commit
        dates[parse_commit(space.store.read(commit)[1]).commit_time] = commit
    for date, commit in dates.items():
        newest = list(remembered)[list(remembered).index(commit)]
        assert heads_at(space.store, space.ledger.tip(), date * 1000 + 1) == [newest]
        later = max((d for d in dates if d < date), default=None)
        before = heads_at(space.store, space.ledger.tip(), date * 1000)
        assert before == ([dates[later]] if later is not None else [])


# --- histories with merges --------------------------------------------------------------------


def write(store, seconds, path, parents=()):
    ledger = Ledger(store, identity=Identity("a", "a@b"), clock=lambda: seconds)
    if parents:
        current = store.ref(ledger.ref)
        if current != parents[0]:
            store.update_ref(ledger.ref, parents[0], expected=current, message="test")
    return ledger.append(lambda view: Batch({path: b"{}\n"}, "test"))


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_heads_of_a_moment_are_what_a_naive_walk_finds(repo, data):
    store = fresh(repo).store
    commits = [write(store, 100, "experiments/1.json")]
    for number in range(data.draw(st.integers(1, 7))):
        one = data.draw(st.sampled_from(commits))
        two = data.draw(st.sampled_from(commits))
        if data.draw(st.booleans()) and one != two:
            made = merge(store, one, two)
            if made not in commits:
                commits.append(made)
        else:
            seconds = data.draw(st.integers(100, 105))
            commits.append(write(store, seconds, f"experiments/{number + 2}.json", (one,)))
    tip = commits[-1]
    parents = {oid: parse_commit(store.read(oid)[1]) for oid in commits}
    reach = {}

    def below(oid):
        if oid not in reach:
            reach[oid] = {oid}.union(*(below(parent) for parent in parents[oid].parents))
        return reach[oid]

    for end in range(99, 108):
        known = {oid for oid in below(tip) if parents[oid].commit_time < end}
        naive = {oid for oid in known if not any(oid in below(other) - {other} for other in known)}
        found = heads_at(store, tip, end * 1000)
        assert set(found) == naive
        times = [parents[oid].commit_time for oid in found]
        assert times == sorted(times, reverse=True)


# --- the command ------------------------------------------------------------------------------


def test_ls_and_show_at(train, cli, repo, api):
    first = train("first", {"lr": 1})
    second = train("second")
    api.delete_run(first)
    tips = repo.git("rev-list", "--reverse", "refs/gml/ledger").splitlines()
    assert [run["run_id"] for run in cli("ls", "--json").json] == [second]
    assert [run["run_id"] for run in cli("ls", "--json", "--at", tips[0]).json] == [first]
    assert [run["run_id"] for run in cli("ls", "--json", "--at", "gml/ledger~1").json] == [second, first]
    assert [run["run_id"] for run in cli("ls", "params.lr = 1", "--json", "--at", tips[1][:10]).json] == [
        first
    ]
    assert cli("show", "first", "--at", tips[0], "--json").json["lifecycle_stage"] == "active"
    assert cli("show", "@", "--at", tips[0], "--json").json["name"] == "first"
    assert "no run matches 'second'" in cli("show", "second", "--at", tips[0], code=4).err
    assert [run["run_id"] for run in cli("ls", "--json", "--at", "now").json] == [second]
    assert [run["run_id"] for run in cli("ls", "--json", "--at", "today").json] == [second]


@pytest.mark.parametrize(
    ("when", "code", "says"),
    [
        ("1999-12-31", 4, "there was no ledger yet at 1999-12-31"),
        ("2026-02-30", 4, "not in the calendar"),
        ("main", 2, "a commit without a ledger; gml/ledger~1"),
        ("HEAD:train.py", 4, "neither a time nor a git revision"),
        ("nonsense", 4, "a time looks like"),
        ("0" * 40, 4, "neither a time nor a git revision"),
        ("", 4, "neither a time nor a git revision"),
    ],
)
def test_what_is_no_moment_gets_one_line(train, cli, when, code, says):
    train("a")
    done = cli("ls", "--at", when, code=code)
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_without_a_ledger(repo):
    with pytest.raises(NotFoundError):
        commit_at(repo.workspace(), "now", 1_700_000_000_000)


def test_parts_that_were_merged_later_are_named(repo, caplog):
    space = repo.workspace()
    base = write(space.store, 100, "experiments/1.json")
    here = write(space.store, 200, "experiments/2.json", (base,))
    there = write(space.store, 300, "experiments/3.json", (base,))
    both = merge(space.store, here, there)
    space.store.update_ref(space.ledger.ref, both, expected=space.ledger.tip(), message="merge")
    assert commit_at(space, "1970-01-01T00:04", 0) == here
    assert not caplog.records
    assert commit_at(space, "1970-01-01T00:05:00", 0) in {both, there}
    with pytest.raises(UsageError):
        commit_at(space, "HEAD", 0)
