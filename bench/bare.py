"""The reference: an asyncio client that holds the same calls, with or without the rows that a login writes.

    python -m bench.bare hold      # holds the calls, reads the answers
    python -m bench.bare rows      # and writes, from eight threads, the rows that the product writes

Written as one would write it who needs just this: no queue, no leases, no recovery, no retries. On each line
of its standard input, a JSON list `[first, count, warm]`, it starts the logins of those numbers; with `rows` all
attempts that wait and that nobody has taken, whatever the line says.
"""

import asyncio
import concurrent.futures
import importlib
import json
import os
import sys

import aiohttp

from bench import standin

THREADS = 8


class Waits:
    def __init__(self, session: aiohttp.ClientSession, ledger):
        self.session, self.ledger = session, ledger
        self.pool = concurrent.futures.ThreadPoolExecutor(THREADS)
        self.running: set[asyncio.Task] = set()
        self.begun: set[int] = set()

    async def start(self, line: str) -> None:
        if self.ledger:
            waiting = await asyncio.get_running_loop().run_in_executor(self.pool, self.ledger.waiting)
            logins = [login for login in waiting if login[0] not in self.begun]
            self.begun.update(attempt_id for attempt_id, _account_id, _w_id in logins)
        else:
            first, count, warm = json.loads(line)
            logins = [(0, 0, standin.w_id(number, warm)) for number in range(first, first + count)]
        for login in logins:
            task = asyncio.create_task(self.one(*login))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def one(self, attempt_id: int, account_id: int, w_id: str) -> None:
        loop = asyncio.get_running_loop()
        if self.ledger:
            await loop.run_in_executor(self.pool, self.ledger.take, attempt_id, account_id)
        async with self.session.post("/getIPadLoginInfo", json={"wId": w_id}) as response:
            answer = await response.json(content_type=None)
        if str(answer["code"]) != "1000":
            raise RuntimeError(answer)
        if self.ledger:
            await loop.run_in_executor(self.pool, self.ledger.finish, attempt_id, account_id, answer)


async def main(mode: str) -> None:
    ledger = importlib.import_module("bench.ledger") if mode == "rows" else None
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    headers = {"Authorization": os.environ["WK_AUTHORIZATION"]}
    async with aiohttp.ClientSession(
        os.environ["WK_BASE_URL"], connector=connector, timeout=timeout, headers=headers
    ) as session:
        waits = Waits(session, ledger)
        print("ready.", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await waits.start(line)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
