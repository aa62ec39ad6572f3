"""The journal: whatever is cut off or flipped in it, what stays whole is read, and nothing else."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gml.domain.errors import ConflictError, FormatError
from gml.tracking.commit import commit_sessions
from gml.tracking.journal import appender, session
from gml.tracking.journal.appender import Appender
from gml.tracking.journal.fold import SessionFold
from gml.tracking.journal.lines import FORMAT, encode_line, encode_lines, parse
from gml.tracking.reader import Reader

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.lists(st.tuples(st.sampled_from("mpt"), JSON).map(list), max_size=6)


def whole_lines(data: bytes) -> int:
    return data.count(b"\n")


@given(EVENTS)
def test_lines_come_back_as_they_were_written(events):
    data = encode_lines(events)
    assert parse(data) == (events, len(data), 0)


@given(EVENTS)
def test_a_journal_cut_at_any_byte_gives_its_longest_whole_beginning(events):
    data = encode_lines(events)
    for cut in range(len(data) + 1):
        good = whole_lines(data[:cut])
        assert parse(data[:cut]) == (events[:good], len(encode_lines(events[:good])), 0)


@given(EVENTS.filter(bool), st.data())
def test_a_flipped_byte_costs_its_line_and_never_makes_another_value(values, data):
    events = [[number, *value] for number, value in enumerate(values)]
    lines = encode_lines(events)
    at = data.draw(st.integers(0, len(lines) - 1))
    damaged = bytearray(lines)
    damaged[at] ^= data.draw(st.integers(1, 255))
    found, _, _ = parse(bytes(damaged))
    hit = whole_lines(lines[:at])
    # A newline that is no more takes the line after it along.
    lost = {hit, hit + 1} if lines[at : at + 1] == b"\n" else {hit}
    assert found == [e for e in events if e[0] not in lost] or found == events


@given(st.binary(max_size=80))
def test_bytes_that_are_no_journal_are_passed_over(data):
    events, consumed, bad = parse(data)
    assert (events, consumed) == ([], data.rfind(b"\n") + 1)
    assert bad == whole_lines(data)


# --- a session's directory ----------------------------------------------------------------------


def no_seal(data: bytes, points: int) -> dict[str, object]:
    raise AssertionError("nothing is large here")


@pytest.fixture
def journal_of_a_run(tmp_path):
    """Return the directory of a session with params, tags and metrics whose process is gone."""
    header = {"session": "s" * 16, "role": "create", "name": "n", "experiment_id": "0", "start_time": 1}
    member = session.create(tmp_path, "01983c1f2ab470008000000000000000", header, [], {"pid": 1})
    for number in range(4):
        member.shared.append([["t", f"t{number}", str(number)]], params={f"p{number}": str(number)})
        member.own.write(encode_lines([["m", "loss", number + 0.5, 1000 + number, number]]))
    member.close()
    return member.path


def state(path) -> tuple[dict[str, object], list[list[object]]]:
    fold = SessionFold(path, no_seal)
    fold.update()
    inline, _, _ = fold.history.tail()
    single = {k: [[m["step"], m["timestamp"], m["last"]]] for k, m in fold.history.metrics_json().items()}
    return fold.document(), inline.get("loss", single.get("loss", []))


@pytest.mark.parametrize("which", ["run.log", "p-"])
def test_a_session_cut_at_any_byte_is_a_prefix_of_the_whole_one(journal_of_a_run, which):
    document, points = state(journal_of_a_run)
    assert [p[0] for p in points] == [0, 1, 2, 3]
    (file,) = [f for f in journal_of_a_run.iterdir() if f.name.startswith(which)]
    data = file.read_bytes()
    header = data.index(b"\n") + 1
    seen = set()
    for cut in range(header if which == "run.log" else 0, len(data) + 1):
        file.write_bytes(data[:cut])
        part, found = state(journal_of_a_run)
        assert found == points[: len(found)]
        for section in ("params", "tags"):
            known = list(document[section].items())
            assert list(part.get(section, {}).items()) == known[: len(part.get(section, {}))]
        seen.add((len(part.get("params", {})), len(found)))
    assert len(seen) == 5


@pytest.mark.parametrize("which", ["run.log", "p-"])
def test_a_session_with_any_byte_flipped_never_says_anything_wrong(journal_of_a_run, which):
    document, points = state(journal_of_a_run)
    (file,) = [f for f in journal_of_a_run.iterdir() if f.name.startswith(which)]
    data = file.read_bytes()
    header = data.index(b"\n") + 1
    for at in range(header if which == "run.log" else 0, len(data)):
        for mask in (0x01, 0x20, 0xFF):
            file.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
            part, found = state(journal_of_a_run)
            assert all(point in points for point in found)
            assert len(found) >= 2
            for name in ("params", "tags"):
                assert part.get(name, {}).items() <= document[name].items()


def test_points_stand_when_the_header_of_their_process_file_is_damaged(journal_of_a_run):
    (file,) = session.process_files(journal_of_a_run)
    file.write_bytes(b"00000000 " + file.read_bytes()[9:])
    assert [p[0] for p in state(journal_of_a_run)[1]] == [0, 1, 2, 3]


def test_a_journal_of_a_newer_gml_is_refused_and_left_where_it_is(repo, caplog):
    workspace = repo.workspace()
    path = workspace.journal_root / "01983c1f2ab470008000000000000000"
    path.mkdir(parents=True)
    (path / "run.log").write_bytes(encode_line([FORMAT, 2, {"session": "s"}]))
    with pytest.raises(FormatError, match="upgrade"):
        SessionFold(path, no_seal).update()
    assert commit_sessions(workspace) == []
    assert list(Reader(workspace).runs()) == []
    assert "upgrade" in caplog.text
    assert (path / "run.log").exists()


def test_a_journal_without_its_header_does_not_hide_other_runs(repo, caplog):
    repo.python("import gml\nwith gml.start_run(run_name='sound'): gml.log_metric('m', 1)")
    workspace = repo.workspace()
    path = workspace.journal_root / "01983c1f2ab470008000000000000000"
    path.mkdir(parents=True)
    (path / "run.log").write_bytes(b"")
    reader = Reader(workspace)
    assert [run.name for run in reader.runs()] == ["sound"]
    assert [run.name for run in reader.search(None, now_ms=0)] == ["sound"]
    assert reader.resolve("sound").name == "sound"
    assert commit_sessions(workspace) == []
    assert str(path) in caplog.text
    assert path.is_dir()


def test_params_are_compared_with_what_other_processes_wrote(tmp_path):
    header = {"session": "s" * 16, "role": "create"}
    one = session.create(tmp_path, "r", header, [], {})
    two = session.join(tmp_path, "r", {})
    one.shared.append([], params={"lr": "0.1"})
    two.shared.append([], params={"lr": "0.1", "depth": "3"})
    with pytest.raises(ConflictError, match="lr"):
        two.shared.append([["t", "a", "b"]], params={"lr": "0.2", "fresh": "1"})
    one.shared.refresh()
    assert one.shared.params == {"lr": "0.1", "depth": "3"}
    assert b'"fresh"' not in (one.path / "run.log").read_bytes()
    one.close()
    two.close()


def test_a_line_torn_by_a_dying_process_costs_nobody_else_a_line(tmp_path):
    one = session.create(tmp_path, "r", {"session": "s" * 16, "role": "create"}, [], {})
    with (one.path / "run.log").open("ab") as file:
        file.write(b'12345678 ["t","torn"')
    one.shared.append([["t", "whole", "1"]])
    one.close()
    assert state(one.path)[0]["tags"] == {"whole": "1"}


def test_whoever_resumes_the_same_run_second_joins_the_first(tmp_path):
    header = {"session": "1" * 16, "role": "resume"}
    one = session.create(tmp_path, "r", header, [], {})
    two = session.create(tmp_path, "r", header | {"session": "2" * 16}, [], {})
    assert two.session == one.session == "1" * 16
    two.own.write(encode_line(["m", "a", 1.0, 1, 1]))
    assert len(session.alive_processes(one.path)) == 2
    one.close()
    two.close()
    assert session.alive_processes(one.path) == []


def test_a_directory_is_not_retired_when_more_was_written_than_was_folded(tmp_path):
    member = session.create(tmp_path, "r", {"session": "1" * 16, "role": "create"}, [], {})
    member.close()
    seen = session.sizes(member.path)
    assert session.append_to_live(tmp_path, "r", [["t", "late", "1"]])
    assert not session.retire(member.path, seen)
    late = session.join(tmp_path, "r", {})
    late.close()
    assert not session.retire(member.path, seen | {"run.log": session.sizes(member.path)["run.log"]})
    assert session.retire(member.path, session.sizes(member.path))
    assert list(tmp_path.iterdir()) == []
    assert not session.append_to_live(tmp_path, "r", [["t", "too late", "1"]])


# --- a file that cannot be written --------------------------------------------------------------


class Disk:
    """`os.write` of a disk with so many bytes left."""

    def __init__(self, monkeypatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(appender.os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        part = bytes(data[: max(0, self.room)])
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(part)
        return self._write(fd, part)


LINES = [encode_line(["m", "loss", float(n), 1, n]) for n in range(12)]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(0, 12), st.integers(0, 200), st.booleans())
def test_lines_wait_in_order_while_the_disk_is_full(tmp_path_factory, room, full_until, later, flush):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appender, "RETRY_EVERY", 0.0)
        file = Appender(tmp_path_factory.mktemp("disk") / "file")
        disk = Disk(patch, room)
        for number, line in enumerate(LINES):
            if number == full_until:
                disk.room += later
            if flush:
                file.flush(line)
            else:
                file.write(line)
        disk.room = 1 << 20
        file.sync()
        assert file.unwritten == 0
        assert file.path.read_bytes() == b"".join(LINES)
        file.close()


def test_when_memory_is_used_up_new_lines_are_given_up_and_older_ones_stay(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(appender, "MAX_PENDING", 100)
    monkeypatch.setattr(appender, "RETRY_EVERY", 0.0)
    file = Appender(tmp_path / "file")
    disk = Disk(monkeypatch, 10)
    with caplog.at_level(logging.WARNING):
        kept = [file.write(line) for line in LINES]
    assert not any(kept)
    assert file.unwritten <= 100
    disk.room = 1 << 20
    assert file.flush()
    events, _, bad = parse(file.path.read_bytes())
    assert bad == 0
    assert [event[4] for event in events] == list(range(len(events)))
    assert len(events) >= 2
    assert "training goes on" in caplog.text
    file.close()


def test_several_threads_lose_and_double_nothing_on_a_disk_that_is_full_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(appender, "RETRY_EVERY", 0.0)
    file = Appender(tmp_path / "file")
    disk = Disk(monkeypatch, 0)
    barrier = threading.Barrier(5)

    def log(thread: int) -> None:
        barrier.wait()
        for number in range(300):
            file.write(encode_line([thread, number]))
            if number % 50 == 25:
                # Room for whole lines only: a torn line belongs to whoever tore it.
                disk.room = 0 if disk.room else 1 << 30
            if number % 20 == 0:
                file.sync()

    threads = [threading.Thread(target=log, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    barrier.wait()
    for thread in threads:
        thread.join()
    disk.room = 1 << 30
    assert file.flush()
    events, _, bad = parse(file.path.read_bytes())
    assert bad == 0
    assert sorted(map(tuple, events)) == [(t, n) for t in range(4) for n in range(300)]
    file.close()


def test_the_header_says_who_writes(tmp_path):
    member = session.create(tmp_path, "r", {"session": "1" * 16, "role": "create"}, [], {"pid": 7, "rank": 3})
    (own,) = session.process_files(member.path)
    assert json.loads(own.read_bytes()[9:]) == [FORMAT, 1, {"pid": 7, "rank": 3}]
    member.close()


def test_syncing_a_file_that_another_thread_has_closed_is_nothing(tmp_path):
    file = Appender(tmp_path / "file")
    file.write(b"line\n")
    file.close()
    assert file.dirty
    file.sync()
    file.sync(anyway=True)
    assert (tmp_path / "file").read_bytes() == b"line\n"
