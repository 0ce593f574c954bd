from __future__ import annotations

import threading

import pytest

from crystalssl.training._background import in_background


def names():
    return [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_come_in_their_order(depth):
    assert list(in_background(iter(range(50)), depth)) == list(range(50))
    assert list(in_background([], depth)) == []


def test_they_are_made_ahead_by_another_thread():
    made, ready = [], threading.Event()

    def items():
        for number in range(4):
            made.append(threading.current_thread().name)
            if number == 3:
                ready.set()
            yield number

    found = in_background(items(), 2)
    assert next(found) == 0
    assert ready.wait(10)  # the fourth is made while nobody has asked for the second
    assert set(made) == {"crystalssl-reader"}
    assert list(found) == [1, 2, 3]


def test_errors_come_where_their_item_would():
    def items():
        yield 1
        raise OSError("disk")

    found = in_background(items(), 5)
    assert next(found) == 1
    with pytest.raises(OSError, match="disk"):
        next(found)
    assert "crystalssl-reader" not in names()


def test_the_thread_ends_with_its_reader():
    found = in_background(iter(range(10**9)), 2)
    next(found)
    assert "crystalssl-reader" in names()
    found.close()
    assert "crystalssl-reader" not in names()
