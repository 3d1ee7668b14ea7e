"""Paired differences: worked by hand, at their edges, and calibrated on sweeps in which nothing differs."""

import math

import numpy as np
import pytest
from scipy import stats

from uscl.errors import DataError
from uscl.report.stats import PairedDifference, Score, compare, holm, paired_differences, paired_interval

NAN = math.nan
NUM_SWEEPS, NUM_PATIENTS = 2000, 30
SPREADS = {
    "seeds vary most": (1.0, 0.3, 0.5),
    "seeds alone": (1.0, 0.0, 0.1),
    "as much each": (1.0, 1.0, 1.0),
    "patients vary most": (0.1, 1.0, 0.5),
    "hardest at 3 seeds": (0.7, 1.0, 0.5),
}
"""Standard deviation of seed, patient and residual."""
LEAST = {3: 0.926 - 0.01, 5: 0.943 - 0.01, 10: 0.948 - 0.01}
"""Coverage over the hardest mixture of seed and patient (200,000 sweeps each), less two standard errors of 2,000."""


def scores(table, *, draw=0):
    """Scores of a table by seed (its number) and patient (a letter)."""
    return [Score(seed, draw, "abcdef"[at], value) for seed, row in enumerate(table) for at, value in enumerate(row)]


def null_sweeps(rng, num_seeds, spreads):
    seed, patient, residual = spreads
    sweeps = rng.normal(0, seed, (NUM_SWEEPS, num_seeds, 1)) + rng.normal(0, patient, (NUM_SWEEPS, 1, NUM_PATIENTS))
    return sweeps + rng.normal(0, residual, (NUM_SWEEPS, num_seeds, NUM_PATIENTS))


def coverage(sweeps):
    results = [paired_interval(sweep) for sweep in sweeps]
    return float(np.mean([result.low <= 0 <= result.high for result in results]))


def test_two_by_three_by_hand():
    """Means 2 and 4 by seed, 1, 3 and 5 by patient."""
    differences = [[0.5, 1.5, 4.0], [1.5, 4.5, 6.0]]
    # seed means 2, 4 about 3: MS = 3 (1 + 1) / 1 = 6; patient means 1, 3, 5: MS = 2 (4 + 0 + 4) / 2 = 8
    # residuals .5 -.5 0 / -.5 .5 0: MS = 1 / 2; variance (6 + 8 - .5) / 6 = 2.25
    # degrees of freedom 13.5^2 / (36 / 1 + 64 / 2 + .25 / 2) = 182.25 / 68.125
    result = paired_interval(differences)
    half = stats.t.ppf(0.975, 182.25 / 68.125) * 1.5
    assert (result.mean, result.num_seeds, result.num_patients) == (pytest.approx(3), 2, 3)
    assert (result.low, result.high) == (pytest.approx(3 - half), pytest.approx(3 + half))
    assert result.p == pytest.approx(2 * stats.t.sf(2, 182.25 / 68.125))
    assert result.note == "two training runs: the interval can be too narrow"


def test_a_negative_component_counts_as_zero():
    """Both factors' means are equal: what is left is the residual, and never a negative variance."""
    result = paired_interval([[1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0]])
    # residuals +-1 and 0: MS = 6 / 4; variance 1.5 / 9; degrees of freedom 1.5^2 / (1.5^2 / 4)
    half = stats.t.ppf(0.975, 4) * math.sqrt(1.5 / 9)
    assert (result.low, result.high) == (pytest.approx(2 - half), pytest.approx(2 + half))


@pytest.mark.parametrize("turned", [False, True])
def test_one_seed_is_students_t_over_patients_and_never_bold(turned):
    differences = np.array([[1.0, 1.1, 0.9, 1.2, 0.8]])
    result = paired_interval(differences.T if turned else differences)
    low, high = stats.t.interval(0.95, 4, loc=1.0, scale=stats.sem(differences[0]))
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    assert result.p == pytest.approx(stats.ttest_1samp(differences[0], 0).pvalue)
    assert result.note == ("one patient: training runs only" if turned else "one training run: patients only")
    assert result.low > 0 and not result.bold


def test_the_unit_is_named():
    result = paired_interval([[1.0, 2.0, 4.0]], unit="case")
    assert (result.unit, result.note) == ("case", "one training run: cases only")


def test_all_zero_is_no_difference():
    assert paired_interval(np.zeros((3, 4))) == PairedDifference(0, 0, 0, 1, 3, 4, "all differences are zero")


def test_differences_that_do_not_vary_have_no_interval():
    scores_of_row = np.array([[0.3, 0.4, 0.7], [0.8, 0.1, 0.2], [0.5, 0.6, 0.9]])
    result = paired_interval(scores_of_row - (scores_of_row - 0.1))
    assert result.mean == pytest.approx(0.1) and not result.bold
    assert all(math.isnan(value) for value in (result.low, result.high, result.p))
    assert result.note == "no interval: differences do not vary"


def test_one_run_named_thrice_is_one_run():
    once = paired_interval([[1.0, 2.0, 4.0]])
    thrice = paired_interval([[1.0, 2.0, 4.0]] * 3)
    assert (thrice.low, thrice.high, thrice.num_seeds) == (once.low, once.high, 1)
    assert thrice.note == "one training run: patients only; training runs equal in every value: counted as one"


@pytest.mark.parametrize(
    ("differences", "note"),
    [
        ([[1.0]], "one training run, one patient; no interval"),
        (np.empty((0, 0)), "nothing to compare; no interval"),
        ([[NAN, NAN]], "nothing to compare; 1 of 1 training runs left out: no value in both rows; no interval"),
        (
            [[1.0, NAN], [NAN, 1.0]],
            "nothing to compare; 2 of 2 patients left out: no value in some training run; no interval",
        ),
    ],
)
def test_too_little_for_an_interval(differences, note):
    result = paired_interval(differences)
    assert math.isnan(result.low) and math.isnan(result.high) and math.isnan(result.p) and not result.bold
    assert result.note == note


def test_what_is_missing_is_left_out_and_counted():
    full = [[1.0, 2.0, 4.0], [2.0, 2.5, 3.0], [0.0, 1.0, 1.5]]
    holes = [[1.0, 9.0, 2.0, 4.0], [NAN] * 4, [2.0, NAN, 2.5, 3.0], [0.0, 9.0, 1.0, 1.5]]
    whole, result = paired_interval(full), paired_interval(holes)
    assert (result.mean, result.low, result.high, result.p) == (whole.mean, whole.low, whole.high, whole.p)
    assert (result.num_seeds, result.num_patients, whole.note) == (3, 3, "")
    assert result.note == (
        "1 of 4 training runs left out: no value in both rows; 1 of 4 patients left out: no value in some training run"
    )


def test_an_infinite_difference_is_refused():
    with pytest.raises(DataError) as error:
        paired_interval([[1.0, 2.0], [1.0, math.inf]])
    assert str(error.value) == "difference of training run 1, patient 1 is infinite; leave it out as NaN"


def test_pairs_meet_by_seed_draw_and_patient_whatever_their_order():
    row = scores([[3.0, 5.0], [7.0, 1.0]]) + scores([[5.0, 9.0], [7.0, 3.0]], draw=(1, 0))
    reference = scores([[1.0, 1.0], [2.0, 2.0]]) + scores([[1.0, 1.0], [4.0, 4.0]], draw=(1, 0))
    np.testing.assert_allclose(paired_differences(row, reversed(reference)), [[3.0, 6.0], [4.0, -1.0]])


def test_a_draw_or_patient_that_one_row_lacks_is_missing():
    row = scores([[3.0, 5.0], [7.0, 1.0]]) + scores([[5.0, 9.0]], draw=1)
    reference = scores([[1.0, 1.0, 1.0], [2.0, 2.0, NAN]])
    np.testing.assert_array_equal(paired_differences(row, reference), [[NAN, NAN, NAN], [5.0, -1.0, NAN]])


def test_rows_without_a_common_seed_have_nothing_to_compare():
    result = compare([Score(0, 0, "a", 1.0)], [Score(1, 0, "a", 1.0)])
    assert (result.num_seeds, result.note.split(";")[0]) == (0, "nothing to compare")
    assert paired_differences([], []).shape == (0, 0)


def test_a_score_given_twice_is_refused():
    with pytest.raises(DataError) as error:
        compare(scores([[1.0]]) * 2, scores([[1.0]]))
    assert str(error.value) == (
        "seed 0, draw 0, patient a: two scores in one row; "
        "average a patient's cases first, and give each row one network per seed and draw"
    )


def test_compare_is_row_minus_reference_and_bold_needs_an_interval_off_zero():
    rng = np.random.default_rng(0)
    reference = rng.normal(0.6, 0.1, (3, 6))
    row = reference + rng.normal(0.2, 0.01, (3, 6))
    better, worse = (compare(scores(a), scores(b)) for a, b in [(row, reference), (reference, row)])
    assert better.bold and worse.bold and better.mean == pytest.approx(0.2, abs=0.01)
    assert (worse.mean, worse.low, worse.high) == pytest.approx((-better.mean, -better.high, -better.low))
    assert not paired_interval(rng.normal(0.01, 1, (3, 6))).bold


@pytest.mark.parametrize(("num_seeds", "bold"), [(2, False), (3, True)])
def test_two_seeds_are_not_bold_however_clear(num_seeds, bold):
    result = paired_interval(np.random.default_rng(0).normal(1, 0.001, (num_seeds, 6)))
    assert result.low > 0 and result.bold == bold


def test_p_and_interval_agree():
    sweeps = null_sweeps(np.random.default_rng(1), 3, SPREADS["as much each"])[:200]
    results = [paired_interval(sweep, confidence=0.8) for sweep in sweeps]
    assert [result.p < 0.2 for result in results] == [result.bold for result in results]
    assert 0 < sum(result.bold for result in results) < 200


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ((0.01, 0.04, 0.03), (0.03, 0.06, 0.06)),
        ((0.5, 0.01, 0.4, 0.02), (0.8, 0.04, 0.8, 0.06)),
        ((0.02, NAN, 0.9), (0.06, NAN, 1.0)),
        ((), ()),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted, nan_ok=True)


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("case", SPREADS)
def test_coverage(case, num_seeds):
    """2,000 sweeps without any effect: one point of coverage is two standard errors. science.md 10."""
    covered = coverage(null_sweeps(np.random.default_rng(num_seeds), num_seeds, SPREADS[case]))
    print(f"{case}, {num_seeds} seeds x {NUM_PATIENTS} patients: {covered:.1%} of nominal 95 %")
    assert LEAST[num_seeds] <= covered <= 0.97


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_coverage_where_neither_seed_nor_patient_matters(num_seeds):
    """The residual alone: cautious, never too narrow."""
    covered = coverage(null_sweeps(np.random.default_rng(num_seeds), num_seeds, (0, 0, 1)))
    print(f"residual alone, {num_seeds} seeds x {NUM_PATIENTS} patients: {covered:.1%} of nominal 95 %")
    assert covered >= 0.95


def test_two_seeds_cover_less_and_say_so():
    sweeps = null_sweeps(np.random.default_rng(2), 2, SPREADS["seeds vary most"])
    covered = coverage(sweeps)
    print(f"seeds vary most, 2 seeds x {NUM_PATIENTS} patients: {covered:.1%} of nominal 95 %")
    assert 0.86 <= covered <= 0.94
    assert paired_interval(sweeps[0]).note == "two training runs: the interval can be too narrow"


def test_patients_alone_would_cover_too_little():
    """Why both factors: an interval over patients takes what the seeds did for an effect."""
    over_seeds = null_sweeps(np.random.default_rng(3), 3, SPREADS["as much each"]).mean(axis=1)
    half = stats.t.ppf(0.975, NUM_PATIENTS - 1) * stats.sem(over_seeds, axis=1)
    covered = float((abs(over_seeds.mean(axis=1)) <= half).mean())
    print(f"t over patients alone, 3 seeds: {covered:.1%} of nominal 95 %")
    assert covered < 0.75
