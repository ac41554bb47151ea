"""Views of attention that stay alive in a saved notebook and in the published page."""

from course_lib.widgets.alignment_view import alignment_view
from course_lib.widgets.attention_bench import attention_bench
from course_lib.widgets.attention_map import attention_map
from course_lib.widgets.compare import compare

__all__ = ["alignment_view", "attention_bench", "attention_map", "compare"]
