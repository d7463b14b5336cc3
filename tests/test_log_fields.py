import threading
from contextvars import copy_context

from waveimport.log_fields import bind, bound, fields


def test_what_is_bound_in_a_block_ends_with_it_and_what_was_before_is_there_again() -> None:
    with bound(job="a", batch="1"):
        with bound(batch="2", wave=3):
            bind(request_id="r", job="b")
            assert fields() == {"job": "b", "batch": "2", "wave": 3, "request_id": "r"}
        assert fields() == {"job": "a", "batch": "1"}
    assert fields() == {}


def test_a_thread_has_none_of_anothers_and_all_of_the_context_it_is_given() -> None:
    seen = []
    with bound(job="a"):
        for run in (lambda work: work(), copy_context().run):
            thread = threading.Thread(target=run, args=(lambda: seen.append(dict(fields())),))
            thread.start()
            thread.join()
    assert seen == [{}, {"job": "a"}]
