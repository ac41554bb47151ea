"""The set-up of the tests themselves: shapes are checked, and a test of bad input can do without."""

import jaxtyping
import pytest
import torch

from course_lib.attention import masked_softmax


def test_shape_annotations_are_checked():
    with pytest.raises(jaxtyping.TypeCheckError):
        masked_softmax(torch.zeros(3, dtype=torch.long))


def test_check_can_be_switched_off(unchecked_shapes):
    with pytest.raises(Exception) as raised:
        masked_softmax("three")
    assert not isinstance(raised.value, jaxtyping.TypeCheckError)


def test_check_is_on_again():
    test_shape_annotations_are_checked()
