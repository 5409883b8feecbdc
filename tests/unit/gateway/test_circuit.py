"""The circuit of a service: given up after failures one after another, tried by one call, back with one answer."""

from services.gateway.circuit import FAILURES, OPEN_SECONDS, Circuit, State


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def given_up(time: Time) -> Circuit:
    circuit = Circuit(time)
    told = [circuit.failed() for _ in range(FAILURES)]
    assert told == [False] * (FAILURES - 1) + [True]
    return circuit


def test_it_opens_after_failures_one_after_another() -> None:
    circuit = Circuit(Time())
    for _ in range(3):
        for _ in range(FAILURES - 1):
            assert not circuit.failed()
        circuit.succeeded()
    assert (circuit.state, circuit.admit()) == (State.CLOSED, True)


def test_while_it_is_open_nobody_goes() -> None:
    time = Time()
    circuit = given_up(time)
    assert (circuit.state, circuit.admit(), circuit.rest_seconds) == (State.OPEN, False, OPEN_SECONDS)
    time.now += OPEN_SECONDS / 2
    assert not circuit.admit()


def test_after_its_rest_one_call_tries_and_the_others_wait_for_it() -> None:
    time = Time()
    circuit = given_up(time)
    time.now += OPEN_SECONDS
    assert circuit.state is State.HALF_OPEN
    assert [circuit.admit() for _ in range(3)] == [True, False, False]
    assert circuit.state is State.HALF_OPEN


def test_one_answer_closes_it_and_is_told_once() -> None:
    time = Time()
    circuit = given_up(time)
    time.now += OPEN_SECONDS
    assert circuit.admit()
    assert circuit.succeeded()
    assert (circuit.state, circuit.admit(), circuit.succeeded()) == (State.CLOSED, True, False)


def test_another_failure_lets_it_rest_again_and_is_told_no_second_time() -> None:
    time = Time()
    circuit = given_up(time)
    time.now += OPEN_SECONDS
    assert circuit.admit()
    assert not circuit.failed()
    assert (circuit.state, circuit.admit()) == (State.OPEN, False)


def test_a_caller_who_goes_away_while_trying_leaves_the_try_to_the_next() -> None:
    time = Time()
    circuit = given_up(time)
    time.now += OPEN_SECONDS
    assert circuit.admit()
    circuit.abandoned()
    assert circuit.admit()
