"""What a bounded memory keeps, and what leaves it."""

from proxyindex.memo import Memo


def test_what_was_not_used_for_longest_leaves_first() -> None:
    memo: Memo[str, int] = Memo(2)
    memo.put("a", 1)
    memo.put("b", 2)
    assert memo.get("a") == 1
    memo.put("c", 3)
    assert [memo.get(key) for key in "abc"] == [1, None, 3]
    memo.put("a", 4)
    memo.put("d", 5)
    assert [memo.get(key) for key in "acd"] == [4, None, 5]


def test_to_look_whether_it_is_there_is_no_use() -> None:
    memo: Memo[str, None] = Memo(2)
    memo.put("a", None)
    memo.put("b", None)
    assert "a" in memo
    memo.put("c", None)
    assert ("a" in memo, "b" in memo, "c" in memo) == (False, True, True)


def test_values_are_bounded_by_their_weight_and_the_last_one_stays() -> None:
    memo: Memo[str, str] = Memo(10, len)
    for key, value in (("a", "four"), ("b", "four"), ("a", "x"), ("c", "fives")):
        memo.put(key, value)
    assert [memo.get(key) for key in "abc"] == ["x", "four", "fives"]
    memo.put("huge", "x" * 11)
    assert memo.items() == [("huge", "x" * 11)]
    memo.pop("huge")
    memo.pop("huge")
    memo.put("a", "x" * 10)
    memo.put("b", "")
    assert len(memo.items()) == 2, "what left weighs nothing any more"
