"""A test that cannot run says what to install; where nothing may be left out, it fails."""

import pytest


def test_a_missing_browser_is_named(missing, monkeypatch):
    monkeypatch.delenv("COURSE_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Chromium is missing: apt-get install chromium"):
        missing("Chromium", "apt-get install chromium")


def test_a_missing_browser_fails_where_nothing_may_be_left_out(missing, monkeypatch):
    monkeypatch.setenv("COURSE_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="Chromium is missing"):
        missing("Chromium", "apt-get install chromium")


def test_a_node_that_is_missing_broken_or_too_old_is_passed_over(find_node, node, tmp_path):
    too_old = tmp_path / "node"
    too_old.write_text("#!/bin/sh\necho 'TypeError: unsupported format' >&2\nexit 1\n", encoding="utf-8")
    too_old.chmod(0o755)
    assert find_node([None, tmp_path / "nowhere", too_old, node]) == node
    assert find_node([None, too_old]) is None
