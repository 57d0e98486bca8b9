"""One problem, six strategies, on the bundled model."""

import tts

STRATEGIES = ("best_of_n", "self_consistency", "beam", "a_star", "particle_filter", "first_finish")


def main() -> None:
    """Solve it six times."""
    for strategy in STRATEGIES:
        outcome = tts.solve_sync(
            "Use 3, 5, 7, 2 to make 24.", strategy=strategy, generator="embedded", verifier="embedded", seed=7
        )
        print(f"{strategy:18} {outcome.answer or 'no answer':24} {outcome.usage.generated} tokens")


if __name__ == "__main__":
    main()
