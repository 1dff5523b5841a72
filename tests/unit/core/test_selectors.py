import pytest

from benchmark.core.errors import UserError
from benchmark.core.selectors import Registry, parse_selector, split_selectors

pytestmark = pytest.mark.no_torch

FRUIT = Registry("fruit", lambda: {"apple": 1, "apricot": 2, "pear": 3})


def test_commas_inside_brackets_do_not_split():
    assert split_selectors("a[x=1,y=2], b ,,c*") == ["a[x=1,y=2]", "b", "c*"]


def test_alternatives_expand_to_all_combinations():
    name, combinations = parse_selector("lora[rank=4|16,alpha=1|2]")
    assert name == "lora"
    assert combinations == [
        {"rank": "4", "alpha": "1"},
        {"rank": "4", "alpha": "2"},
        {"rank": "16", "alpha": "1"},
        {"rank": "16", "alpha": "2"},
    ]


def test_select_keeps_order_and_drops_repeats():
    assert FRUIT.select("pear,ap*,apple") == [("pear", {}), ("apple", {}), ("apricot", {})]


def test_a_glob_takes_fields():
    assert FRUIT.select("ap*[n=1]") == [("apple", {"n": "1"}), ("apricot", {"n": "1"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aple", "unknown fruit 'aple'; did you mean 'apple'?"),
        ("zzz", "choose from apple, apricot, pear"),
        ("q*", "no fruit matches 'q*'"),
        ("", "no fruit selected"),
        ("apple[", "write name or name[field=value,...]"),
        ("apple[x]", "'x' is not field=value"),
        ("apple[x=1,x=2]", "given twice"),
    ],
)
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(UserError) as error:
        FRUIT.select(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
