"""The curves of a page: gaps stay gaps, and the last point is kept."""

import itertools

import pytest

from flax_resnet.inference.calibration import Bin
from flax_resnet.report.charts import HEIGHT, WIDTH, Chart, charts, reliability_chart


def rows(*losses: float | None) -> list[dict[str, object]]:
    return [dict(kind="train", step=at, loss=loss) for at, loss in enumerate(losses, 1)]


def only(drawn: list[Chart]) -> Chart:
    (chart,) = drawn
    return chart


def points(part: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in part.split()]  # type: ignore[misc]


def test_a_falling_loss_falls_from_left_to_right_inside_the_chart() -> None:
    (line,) = only(charts([("run", rows(4.0, 2.0, 1.0))])).lines
    (part,) = line.parts
    for (x, y), (later, lower) in itertools.pairwise(points(part)):
        assert 0 < x < later < WIDTH
        assert 0 < y < lower < HEIGHT  # SVG counts from the top.
    assert line.ends == points(part)[-1]


def test_a_curve_is_cut_where_its_values_are_not_finite() -> None:
    (line,) = only(charts([("run", rows(4.0, 3.0, None, 2.0, None))])).lines
    assert [len(points(part)) for part in line.parts] == [2, 1]
    assert line.ends == points(line.parts[1])[-1]


@pytest.mark.parametrize("losses", [(), (None,), (None, None)])
def test_metrics_without_a_finite_value_have_no_chart(losses: tuple[None, ...]) -> None:
    assert charts([("run", rows(*losses))]) == []


def test_one_constant_point_is_a_chart() -> None:
    (line,) = only(charts([("run", rows(0.0))])).lines
    assert len(points(line.parts[0])) == 1


def test_long_curves_are_thinned_but_keep_their_end() -> None:
    long = only(charts([("run", rows(*range(1, 5001)))]))
    (line,) = long.lines
    assert len(points(line.parts[0])) <= 400
    assert line.ends[0] == pytest.approx(WIDTH - 10)


def test_several_runs_share_a_chart_in_different_colors() -> None:
    chart = only(charts([("a", rows(1.0)), ("b", rows(2.0))]))
    assert [line.name for line in chart.lines] == ["a: training", "b: training"]
    assert len({line.color for line in chart.lines}) == 2


def test_the_best_step_is_marked_at_its_point_of_the_curve() -> None:
    chart = only(charts([("run", rows(3.0, 2.0, 1.0))], best=2))
    (line,) = chart.lines
    assert chart.best == points(line.parts[0])[1][0]


@pytest.mark.parametrize("losses", [(6.50063,), (0.0167468, 0.0167469), (0.0,), (-3.0, -3.0)])
def test_almost_constant_curves_have_distinct_short_tick_labels(losses: tuple[float, ...]) -> None:
    labels = [label for _, label in only(charts([("run", rows(*losses))])).y_ticks]
    assert len(set(labels)) == len(labels) >= 2
    assert max(map(len, labels)) <= 6


def test_a_network_that_is_too_sure_is_drawn_below_the_diagonal() -> None:
    bins = [Bin(0, 0.5, 0, float("nan"), float("nan")), Bin(0.5, 1, 8, 0.8, 0.6)]
    diagonal, curve = reliability_chart([("as trained", bins)]).lines
    ((x, y),) = points(curve.parts[0])
    (left, bottom), (right, top) = points(diagonal.parts[0])
    assert (x - left) / (right - left) == pytest.approx(0.8, abs=1e-3)
    assert (y - bottom) / (top - bottom) == pytest.approx(0.6, abs=1e-3)
    assert curve.name == "as trained"


def test_the_gradient_norms_of_stages_share_a_chart_of_their_logarithms() -> None:
    norms = [dict(kind="train", step=at) for at in (1, 2)]
    for row, scale in zip(norms, (1.0, 0.1), strict=True):
        row |= {"gradient_norm/stem": 10 * scale, "gradient_norm/head": scale}
    chart = only(charts([("run", norms)]))
    assert [line.name for line in chart.lines] == ["stem", "head"]
    # A tenth is one tick of the logarithm further down for both.
    falls = [points(line.parts[0])[1][1] - points(line.parts[0])[0][1] for line in chart.lines]
    assert falls[0] > 0
    assert falls[0] == pytest.approx(falls[1])
