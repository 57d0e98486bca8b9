"""Events of a search as they happen, under a budget, and leaving early."""

import anyio

import tts


async def main() -> None:
    """Watch candidates come, and stop at the first that the verifier likes."""
    options: tts.SolveOptions = {
        "strategy": tts.strategy("best_of_n", n=64),
        "generator": "embedded",
        "verifier": "embedded",
        "budget": tts.Budget(tokens=4096, seconds=30),
    }
    async with tts.stream("Use 4, 6, 9, 10 to make 31.", **options) as events:
        async for event in events:
            if event.kind == "score":
                print(f"path {event.data['key']:>3} scored {event.data['score']:.3f}")
                if event.data["score"] > 0.9:
                    break


if __name__ == "__main__":
    anyio.run(main)
