"""Search a grid; each point is a run nested in one parent run."""

import itertools

import gml


def score(depth: int, rate: float) -> float:
    """Stand in for a training: the best point is depth 4, rate 0.1."""
    return 1 - 0.02 * (depth - 4) ** 2 - abs(rate - 0.1)


gml.set_experiment("sweep")
with gml.start_run(run_name="sweep"):
    best: tuple[float, dict[str, float]] = (-1.0, {})
    with gml.batch():
        for depth, rate in itertools.product(range(1, 9), (0.05, 0.1, 0.2)):
            point = {"depth": depth, "rate": rate}
            with gml.start_run(run_name=f"depth-{depth}-rate-{rate}", nested=True):
                gml.log_params(point)
                gml.log_metric("score", score(depth, rate))
            best = max(best, (score(depth, rate), point), key=lambda pair: pair[0])
    gml.log_metric("best_score", best[0])
    gml.set_tags({f"best.{key}": value for key, value in best[1].items()})
    print(f"best: {best[1]} with {best[0]:.3f}")
