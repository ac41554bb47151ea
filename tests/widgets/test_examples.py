"""The examples in the docstrings of the views print what they say."""

import doctest
import importlib
import pkgutil

import pytest

from course_lib import widgets

MODULES = [module.name for module in pkgutil.iter_modules(widgets.__path__)]
VIEWS = [name for name in widgets.__all__ if name != "live"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    assert doctest.testmod(importlib.import_module(f"course_lib.widgets.{name}")).failed == 0


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_an_example(name):
    finder = doctest.DocTestFinder(recurse=False)
    view = getattr(widgets, name)
    assert any(found.examples for found in finder.find(view, name, globs=vars(widgets)))


def test_a_wrong_example_would_be_noticed(capsys):
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(wrong).failed == 1
