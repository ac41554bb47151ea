"""Views of attention that stay alive in a saved notebook and in the published page."""

from course_lib.widgets.alignment_view import alignment_view
from course_lib.widgets.attention_bench import attention_bench
from course_lib.widgets.attention_map import attention_map
from course_lib.widgets.beam_view import beam_view
from course_lib.widgets.compare import compare
from course_lib.widgets.generation_view import generation_view
from course_lib.widgets.head_view import head_view, model_view
from course_lib.widgets.kernel_regression_view import kernel_regression_view
from course_lib.widgets.live import live
from course_lib.widgets.patch_view import patch_view
from course_lib.widgets.positions_view import positions_view
from course_lib.widgets.predict_then_reveal import predict_then_reveal

__all__ = [
    "alignment_view",
    "attention_bench",
    "attention_map",
    "beam_view",
    "compare",
    "generation_view",
    "head_view",
    "kernel_regression_view",
    "live",
    "model_view",
    "patch_view",
    "positions_view",
    "predict_then_reveal",
]
