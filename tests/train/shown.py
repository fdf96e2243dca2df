"""What the runs of a cohort come to, to be compared."""


def shown(made):
    """All that the runs of a cohort show at their end but time, memory and counts of nothing."""
    made.advance(1000)
    found = []
    for number, result in enumerate(made.results()):
        cost = [result.cost[key] for key in ("steps", "forwards", "backwards")]
        skipped = [[kind, count] for kind, count in sorted(result.skipped.items()) if count]
        weights = [[name, value.double().flatten().tolist()] for name, value in sorted(made.weights(number).items())]
        curves = [[name, value] for name, value in sorted(result.history.items()) if isinstance(value, list)]
        metrics = [[task, list(values.values())] for task, values in result.metrics.items()]
        found.append([result.status, cost, skipped, result.best_step, result.selection, metrics, curves, weights])
    return found
