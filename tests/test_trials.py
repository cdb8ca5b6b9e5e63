"""What `auto` makes of measurements: by crews whose speed is given, and a clock that they move."""

from wyrm.training.auto import Auto, Trial


class _Timed:
    """A crew whose runs take as long as they are said to, by a clock of its own."""

    def __init__(self, schedule: str, threads: int, rates: list[float], clock: list[float]) -> None:
        self.schedule, self.num_threads, self.rates, self.clock = schedule, threads, rates, clock
        self.batch_size, self.runs, self.slices = 1, [], 0
        self.repeatable = True

    def run(self, order, choice, start, stop, progress):
        rate = self.rates[min(self.slices, len(self.rates) - 1)]
        self.slices += 1
        self.clock[0] += (stop - start) / rate
        self.runs.append(range(start, stop))


def _auto(monkeypatch, *rates: list[float]) -> Auto:
    clock = [0.0]
    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(f"wyrm.training.auto.time.{name}", lambda: clock[0])
    return Auto([_Timed("abc"[n], 1 + (n > 0), each, clock) for n, each in enumerate(rates)], Trial())


def _run(crew: Auto, number: int) -> None:
    """So many examples, each by exactly one candidate."""
    for candidate in crew.candidates:
        candidate.runs.clear()
    crew.run(None, None, 0, number, None)
    ran = sorted((each.start, each.stop) for candidate in crew.candidates for each in candidate.runs)
    assert [0, *(stop for _, stop in ran)] == [*(start for start, _ in ran), number]


def test_the_fastest_candidate_is_chosen(monkeypatch):
    for rates, expected in (([1e5, 1.04e5], "a"), ([1e5, 1.06e5], "b"), ([1e5, 0.5e5], "a"), ([1e5, 1.1e5, 1.2e5], "c")):
        crew = _auto(monkeypatch, *([rate] for rate in rates))
        _run(crew, 1_000_000)
        assert crew.schedule == expected and crew.trial.chosen == "abc".index(expected)
        tried = [len(candidate.runs) for candidate in crew.candidates if candidate.schedule not in ("a", expected)]
        assert all(number == 3 for number in tried)


def test_where_slices_contradict_each_other_there_are_more(monkeypatch):
    crew = _auto(monkeypatch, [1e5], [1.3e5, 1.3e5, 0.9e5, 0.9e5, 0.9e5, 0.9e5])
    _run(crew, 1_000_000)
    assert crew.schedule == "a" and len(crew.candidates[1].runs) == 9


def test_what_was_chosen_is_compared_again(monkeypatch):
    crew = _auto(monkeypatch, [1e5], [2e5])
    _run(crew, 100)
    assert crew.repeatable  # up to here it was one thread
    _run(crew, 100_000)
    assert not crew.repeatable
    assert crew.schedule == "b" and len(crew.candidates[0].runs) < 20
    crew.candidates[1].rates = [0.5e5]  # from now on
    for _ in range(10):
        _run(crew, 100_000)
    assert crew.schedule == "a"


def test_a_trial_goes_on_over_the_chunks_of_a_stream(monkeypatch):
    """Each too short for a round; and candidates of another kind are tried from the beginning."""
    crew = _auto(monkeypatch, [1e5], [2e5])
    for _ in range(30):
        crew = Auto(crew.candidates, crew.trial)
        _run(crew, 700)
    assert crew.schedule == "b" and "too little" not in crew.reason
    crew.candidates[1].schedule = "c"
    assert Auto(crew.candidates, crew.trial).schedule == "a"
