"""What a user sees of warnings."""

import pytest

from benchmark.core.errors import in_a_line

pytestmark = pytest.mark.no_torch


def test_a_warning_is_one_line_and_only_what_a_user_can_mend(capsys):
    in_a_line(UserWarning("a file\n  is damaged"), UserWarning, "file.py", 3)
    in_a_line("mend this", UserWarning, "file.py", 3)
    for category in (DeprecationWarning, RuntimeWarning):
        in_a_line(category("for developers"), category, "file.py", 3)
    assert capsys.readouterr().err == "warning: a file is damaged\nwarning: mend this\n"
