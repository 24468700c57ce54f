"""Servers are asked over real sockets: what is said of them follows from what they answer, and when they are asked."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters.inquiry import MISSES
from reconciler.model.observed import Health
from tests.adapters.asking import (
    COMPLETION,
    DEAD,
    DEADLINE,
    ELSE,
    EPOCH,
    NO_WEIGHTS,
    NOT_YET,
    REFUSED,
    REPEAT,
    Answer,
    Asker,
    Counting,
    FreePorts,
    Stub,
    asking,
    in_a_loop,
    listening,
    server,
    tasks,
    until,
)

# ------------------------------------------------------------------------------------------------- until it is proved


@in_a_loop
async def test_from_no_listener_over_loading_to_two_completions(free_ports: FreePorts) -> None:
    stub, process = Stub(NOT_YET), server(free_ports(1)[0])
    async with asking() as asker:
        first = asker.prober.judged(process, None)
        assert (first.health, first.cause, first.asked_since) == (Health.STARTING, "", EPOCH)
        await stub.listen(process.port)
        loading = await asker.says(process, lambda found: found.cause == "loading")
        assert loading.health is Health.STARTING
        assert "loads" in loading.detail
        await until(lambda: stub.asked, "it is asked while it loads")
        stub.answers, before = [COMPLETION], len(stub.asked)
        asker.now += 7
        found = await asker.becomes(process, Health.SERVING)
        assert (found.cause, found.detail, found.proved_at) == ("", "", EPOCH + 7)
        assert len(stub.asked) >= before + 2
        assert stub.asked[-1]["model"] == "default_model"
    stub.vanish()


@pytest.mark.parametrize(
    ("answers", "questions"),
    [
        ([COMPLETION, COMPLETION], 2),
        ([COMPLETION, NOT_YET, COMPLETION, COMPLETION], 4),
        ([COMPLETION, REFUSED, COMPLETION, REFUSED, COMPLETION, COMPLETION], 6),
        ([REFUSED, REFUSED, NOT_YET, REFUSED, REFUSED, COMPLETION, COMPLETION], 7),
    ],
)
@in_a_loop
async def test_two_completions_in_a_row_prove_it(answers: list[Answer], questions: int) -> None:
    async with listening(*answers) as stub, asking() as asker:
        await asker.becomes(server(stub.port), Health.SERVING)
        assert len(stub.asked) == questions


@pytest.mark.parametrize(
    ("answers", "questions", "cause"),
    [
        ([REFUSED], 3, "refuses-requests"),
        ([(500, b"{}")], 3, "refuses-requests"),
        ([COMPLETION, REFUSED], 4, "refuses-requests"),
        ([NOT_YET, DEAD], 2, "unable-to-generate"),
        ([ELSE], 1, "wrong-model"),
    ],
)
@in_a_loop
async def test_what_it_answers_condemns_it(answers: list[Answer], questions: int, cause: str) -> None:
    async with listening(*answers) as stub, asking() as asker:
        found = await asker.becomes(server(stub.port), Health.ZOMBIE)
        permanent = cause == "wrong-model"
        assert (found.cause, found.permanent, len(stub.asked)) == (cause, permanent, questions)
        assert found.detail == answers[-1][1].decode()
        await asker.says(server(stub.port), lambda again: again == found)
        assert not tasks(), "it is asked no more"


@in_a_loop
async def test_what_the_log_says_is_more_exact_than_the_answer(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(NO_WEIGHTS)
    async with listening(DEAD) as stub, asking() as asker:
        found = await asker.becomes(server(stub.port, log=log), Health.ZOMBIE)
        assert (found.cause, found.permanent) == ("weights-missing", True)
        assert found.detail == "the model's folder holds no model*.safetensors"


@in_a_loop
async def test_a_backend_that_is_not_installed_condemns_it() -> None:
    async with asking() as asker:
        found = asker.prober.judged(replace(server(8100), fields={"backend": "gone"}), None)
        assert (found.health, found.cause) == (Health.ZOMBIE, "backend-missing")
        assert not tasks()


@in_a_loop
async def test_a_question_says_that_it_is_json() -> None:
    """FastAPI, which mlx-openai-server is made with, reads no body whose type is something else."""
    async with listening(COMPLETION) as stub, asking() as asker:
        await asker.becomes(server(stub.port), Health.SERVING)
        assert set(stub.kinds) == {"application/json"}


@pytest.mark.fault("S17")
@in_a_loop
async def test_s17_a_secret_in_an_answer_is_not_repeated() -> None:
    async with listening((404, b"no right for hf_" + b"a" * 34)) as stub, asking() as asker:
        found = await asker.becomes(server(stub.port), Health.ZOMBIE)
        assert "aaaa" not in found.detail
        assert "no right for" in found.detail


@in_a_loop
async def test_an_answer_from_elsewhere_proves_nothing() -> None:
    async with listening(COMPLETION) as other:
        to = f"Location: http://127.0.0.1:{other.port}/v1/chat/completions\r\n"
        async with listening((307, b""), headers=to) as stub, asking() as asker:
            asker.prober.judged(server(stub.port), None)
            await until(lambda: len(stub.asked) == 2, "it was asked twice")
            assert other.asked == []
            assert asker.prober.judged(server(stub.port), None).health is Health.STARTING


# ---------------------------------------------------------------------------------------------------- once it is proved


@in_a_loop
async def test_a_proof_is_repeated_when_it_is_ten_minutes_old_and_not_before() -> None:
    async with listening(COMPLETION) as known, listening(COMPLETION) as unknown, asking() as asker:
        process = server(known.port)
        proof = asker.proof(process, REPEAT - 1)
        assert asker.prober.judged(process, proof).proved_at == proof.at
        await asker.becomes(server(unknown.port, "other"), Health.SERVING)
        assert (len(unknown.asked), known.asked) == (2, [])
    async with listening(COMPLETION) as known, asking() as asker:
        process = server(known.port)
        proof = asker.proof(process, REPEAT)
        assert asker.prober.judged(process, proof).health is Health.SERVING
        await asker.says(process, lambda found: found.proved_at == asker.now, proof)
        assert len(known.asked) == 1


@in_a_loop
async def test_the_proof_of_another_process_speaks_for_nobody() -> None:
    async with listening(COMPLETION) as stub, asking() as asker:
        process = server(stub.port)
        proof = asker.proof(replace(process, started=4), 1)
        assert asker.prober.judged(process, proof).health is Health.STARTING
        await asker.becomes(process, Health.SERVING, proof)
        newer = replace(process, started=6)
        assert asker.prober.judged(newer, proof).health is Health.STARTING
        await asker.becomes(newer, Health.SERVING, proof)
        assert len(stub.asked) == 4


@in_a_loop
async def test_traffic_in_the_log_stands_for_a_proof(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    async with listening(COMPLETION) as stub, asking() as asker:
        process = server(stub.port, log=log)
        proof = asker.proof(process, REPEAT - 0.2)
        asker.prober.judged(process, proof)
        log.write_text("POST /v1/chat/completions 200\n")
        await until(lambda: asker.prober.judged(process, proof).proved_at == asker.now, "the proof is renewed")
        assert stub.asked == []


@pytest.mark.parametrize("alive", [True, False])
@in_a_loop
async def test_a_log_that_says_it_died_is_reason_to_ask_at_once(tmp_path: Path, alive: bool) -> None:
    log = tmp_path / "log"
    log.write_text("")
    async with listening(COMPLETION if alive else DEAD) as stub, asking() as asker:
        process = server(stub.port, log=log)
        proof = asker.proof(process, 1)
        asker.prober.judged(process, proof)
        log.write_text(NO_WEIGHTS)
        asker.now += 3
        wanted = Health.SERVING if alive else Health.ZOMBIE
        found = await asker.says(
            process, lambda it: it.health is wanted and (not alive or it.proved_at == asker.now), proof
        )
        assert (found.cause, len(stub.asked)) == ("" if alive else "weights-missing", 1)


@pytest.mark.parametrize("grows", [False, True])
@in_a_loop
async def test_a_listener_that_is_gone_is_reason_to_ask_at_once(tmp_path: Path, grows: bool) -> None:
    log = tmp_path / "log"
    log.write_text("")
    backend = Counting(lambda: log.write_text("." * backend.count) if grows else None)
    async with listening(COMPLETION) as stub, asking(backend) as asker:
        process = server(stub.port, log=log)
        await asker.becomes(process, Health.SERVING)
        stub.vanish()
        assert asker.prober.judged(process, None).health is Health.SERVING, "a doubt is not yet a verdict"
        async with asyncio.timeout(5):
            await until(lambda: asker.prober.judged(process, None).health is Health.ZOMBIE, "it is condemned")
        found = asker.prober.judged(process, None)
        assert found.cause == "unresponsive"
        assert f"nothing listens on port {process.port}" in found.detail
        assert backend.count == 2 + MISSES


# ------------------------------------------------------------------------------------------------------ beginning, end


@in_a_loop
async def test_labels_that_are_gone_are_asked_no_more() -> None:
    async with listening(NOT_YET) as kept, listening(NOT_YET) as dropped, asking() as asker:
        for label, stub in (("kept", kept), ("dropped", dropped)):
            asker.prober.judged(server(stub.port, label), None)
        await until(lambda: kept.asked and dropped.asked, "both are asked")
        asker.prober.retain(["kept"])
        await until(lambda: tasks().isdisjoint({"ask dropped"}), "its task has ended")
        before = len(dropped.asked), len(kept.asked)
        await until(lambda: len(kept.asked) > before[1] + 1, "the other one is asked on")
        assert len(dropped.asked) == before[0]


@pytest.mark.parametrize("retained", [True, False])
@in_a_loop
async def test_close_leaves_no_task(retained: bool) -> None:
    stub = Stub(NOT_YET)
    await stub.listen()
    asker = Asker()
    asker.prober.judged(server(stub.port), None)
    await until(lambda: stub.asked, "it is asked")
    if not retained:
        asker.prober.retain([])
    await asker.prober.close()
    assert not {name for name in tasks() if name.startswith("ask ")}
    await asker.prober.close()
    stub.vanish()


@in_a_loop
async def test_new_evidence_wakes_who_waits_once() -> None:
    async with listening(COMPLETION) as stub, asking() as asker:
        waiting = asyncio.create_task(asker.prober.changed())
        assert (await asyncio.wait({waiting}, timeout=0.05))[0] == set()
        await asker.becomes(server(stub.port), Health.SERVING)
        async with asyncio.timeout(DEADLINE):
            await waiting
        again = asyncio.create_task(asker.prober.changed())
        assert (await asyncio.wait({again}, timeout=0.05))[0] == set()
        again.cancel()
