"""The file of progress: written whole, read with care, kept aside when damaged."""

import html
import json

import pytest

from course_lib.exercises import progress as shown
from course_lib.exercises.progress import FILE_VARIABLE, note_solved, progress_file


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "kept ü" / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    return path


def test_nothing_is_solved_at_first_and_nothing_is_written(file):
    view = shown()
    assert "3  Scaled dot-product attention: 0 of 6" in repr(view)
    assert "✓ 3" not in repr(view) and not file.parent.exists()


def test_below_the_table_stands_what_it_means_and_where_it_is_kept(file):
    view = shown()
    last = repr(view).splitlines()[-1]
    assert "✓ is solved" in last and "○ is still to come" in last and "without a check are not listed" in last
    assert str(file) in last and html.escape(last) in view._repr_html_()


def test_what_is_solved_is_kept(file):
    assert note_solved("3.2") == note_solved("1.1") == note_solved("3.2") == ""
    assert set(json.loads(file.read_text())["solved"]) == {"1.1", "3.2"}
    assert "✓\u00a03.2" in repr(shown()) and "○\u00a03.1" in repr(shown())
    assert "1 of 6" in shown()._repr_html_()
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]  # no temporary file is left


def test_an_exercise_of_another_edition_stays_in_the_file(file):
    file.parent.mkdir()
    file.write_text('{"solved": {"99.1": "2026-01-02"}}')
    note_solved("1.1")
    assert set(json.loads(file.read_text())["solved"]) == {"1.1", "99.1"}


DAMAGE = {
    "cut short": b'{"solved": {"1.1": "2026-0',
    "empty": b"",
    "another kind": b"\x89PNG\r\n\x1a\n\xff\xfe",
    "another form": b"[1, 2]",
    "no table": b'{"solved": 3}',
    "no dates": b'{"solved": {"1.1": "<script>"}}',
    "numbers for dates": b'{"solved": {"1.1": 5}}',
    "deeply nested": b"[" * 100_000,
    "too large": b" " * 1_000_001,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_kept_aside_and_said_so(file, damage):
    file.parent.mkdir()
    file.write_bytes(DAMAGE[damage])
    note = note_solved("2.2")
    aside = file.with_name("progress.damaged-1.json")
    assert "damaged" in note and str(aside) in note
    assert aside.read_bytes() == DAMAGE[damage]
    assert set(json.loads(file.read_text())["solved"]) == {"2.2"}
    file.write_bytes(DAMAGE[damage])  # and once more: the first one stays as it is
    assert "damaged-2" in repr(shown())
    assert aside.read_bytes() == DAMAGE[damage]


def test_a_file_that_cannot_be_read_is_left_and_said_so(file):
    file.mkdir(parents=True)  # a folder of that name
    assert "cannot be read" in repr(shown())
    assert "could not be kept" in note_solved("1.1")
    assert file.is_dir()


@pytest.mark.parametrize("place", ["progress.json", "new/progress.json"])
def test_a_folder_that_cannot_be_written_is_said_so(locked, place, monkeypatch):
    folder, lock = locked
    file = folder / place
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    if file.parent == folder:
        note_solved("1.1")
    before = file.read_bytes() if file.exists() else None
    with lock():
        note = note_solved("1.2")
        assert "1.1" in repr(shown())
    assert note.startswith("Your progress could not be kept") and str(file.parent) in note
    assert (file.read_bytes() if file.exists() else None) == before
    assert list(folder.iterdir()) == ([] if before is None else [file])


def test_a_write_that_fails_leaves_the_old_file(file, monkeypatch):
    note_solved("1.1")
    before = file.read_bytes()

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", fail)
    assert "No space left" in note_solved("1.2")
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]


def test_without_a_setting_it_is_in_the_users_data_folder(monkeypatch):
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    assert progress_file().parts[-2:] == ("attention-you-can-check", "progress.json")
