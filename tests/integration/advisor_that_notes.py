"""An advisor in a process of its own: it notes each opened order, and says what it counted when it ends.

Environment: ADVISOR is its name, THINK_S how long it thinks, LIMITS its limits as JSON. On stdout: a line for each
thought, the counts each half second and in the end.
"""

from __future__ import annotations

import asyncio
import json
import os

from placet.advisor import Advice, Advisor, Drop, Limits, Signal, Snapshot

THINK_S = float(os.environ.get("THINK_S", "0"))
limits = Limits(**{"drop": Drop(os.environ.get("DROP", "oldest"))} | json.loads(os.environ.get("LIMITS", "{}")))
advisor = Advisor("order", name=os.environ["ADVISOR"], limits=limits)
thinking = 0
at_once = 0


@advisor.on("opened")
async def note(signal: Signal, order: Snapshot) -> Advice:
    global thinking, at_once  # noqa: PLW0603 - a program of one page
    thinking += 1
    at_once = max(at_once, thinking)
    try:
        await asyncio.sleep(THINK_S)
    finally:
        thinking -= 1
    return Advice("annotate", {"note": signal.signal_id}, model="m-1")


def report() -> None:
    print(json.dumps({**advisor.counts, "at_once": at_once}), flush=True)


async def main() -> None:
    async def tell() -> None:
        while True:
            report()
            await asyncio.sleep(0.5)

    telling = asyncio.create_task(tell())
    asyncio.get_running_loop().add_signal_handler(15, advisor.stop)
    await advisor.serve()
    telling.cancel()
    report()


asyncio.run(main())
