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
