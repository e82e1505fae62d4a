"""Calls of chat, completions, embeddings and stored completions."""

from __future__ import annotations

import json
from typing import Any

from call_log import Run, done, fields_for, same, walk
from pydantic import BaseModel

QUESTION = [
    {"role": "system", "content": "You turn requests into one line of booking code."},
    {"role": "user", "content": "free seats for wood drawing, friday ?"},
]
# Without an end a small model may count on and on.
SEATS = {"type": "integer", "minimum": 0, "maximum": 99}
SCHEMA = {
    "type": "object",
    "properties": {"day": {"type": "string", "enum": ["friday", "sunday"]}, "seats": SEATS},
    "required": ["day", "seats"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "book", "parameters": SCHEMA, "strict": True}}


class Seats(BaseModel):
    full: bool


def asked(run: Run, **more: Any) -> dict[str, Any]:
    return {"model": run.given["chat"][run.surface], "messages": QUESTION, "temperature": 0, "max_tokens": 24, **more}


async def chat(run: Run) -> None:
    completions = run.client.chat.completions
    async with run.call("chat.completions.create"):
        plain = await done(completions.create(**asked(run)))
        same((plain.object, len(plain.choices)), ("chat.completion", 1))
        same(plain.model, run.given["models"][run.surface], "model")
        message = plain.choices[0].message
        same((message.role, plain.choices[0].finish_reason), ("assistant", "stop"))
        assert message.content, plain
        same(plain.usage.prompt_tokens + plain.usage.completion_tokens, plain.usage.total_tokens, "total_tokens")
    async with run.call("chat.completions.create with stream"):
        fields = asked(run, stream=True, **fields_for(completions.create, stream_options={"include_usage": True}))
        chunks = await walk(completions.create(**fields))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        same(text, message.content, "streamed text")
        assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
        same([chunk.usage for chunk in chunks[:-1] if chunk.usage], [], "usage before the last chunk")
        same((chunks[-1].choices, chunks[-1].usage.total_tokens), ([], plain.usage.total_tokens))
    async with run.call("chat.completions.create with logprobs"):
        found = await done(completions.create(**asked(run, logprobs=True, top_logprobs=2)))
        tokens = found.choices[0].logprobs.content
        assert tokens, found
        assert all(token.logprob <= 0 for token in tokens)
        assert all(len(token.top_logprobs) == 2 for token in tokens)
        same("".join(token.token for token in tokens), message.content, "tokens")
    async with run.call("chat.completions.create with options"):
        options = {"n": 2, "seed": 7, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1, "stop": ["\n"]}
        fields = asked(run, logit_bias={"5": -100}, user="somebody", **options)
        found = await done(completions.create(**{**fields, "temperature": 0.5}))
        same([choice.index for choice in found.choices], [0, 1])
    async with run.call("chat.completions.create with an unknown deployment"):
        try:
            await done(completions.create(**{**asked(run), "model": "nobody"}))
            raise AssertionError("it was answered")
        except Exception as error:
            same(getattr(error, "status_code", error), 404)


async def structured(run: Run) -> None:
    completions = run.client.chat.completions
    wanted: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "seats", "schema": SCHEMA, "strict": True}}
    async with run.call("chat.completions.create with a tool"):
        choice = {"type": "function", "function": {"name": "book"}}
        fields = {"tools": [TOOL], "tool_choice": choice, "max_tokens": 100}
        found = await done(completions.create(**asked(run, **fields)))
        call = found.choices[0].message.tool_calls[0]
        same((call.type, call.function.name), ("function", "book"))
        same(sorted(json.loads(call.function.arguments)), ["day", "seats"], "arguments")
    async with run.call("chat.completions.create with a streamed tool"):
        chunks = await walk(completions.create(**asked(run, **fields), stream=True))
        pieces = [piece for c in chunks if c.choices for piece in c.choices[0].delta.tool_calls or []]
        same("".join(piece.function.arguments or "" for piece in pieces), call.function.arguments, "arguments")
        same(pieces[0].function.name, "book")
    async with run.call("chat.completions.create with the tool's answer"):
        turns = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}]
        turns.append({"role": "tool", "tool_call_id": call.id, "content": "done"})
        found = await done(completions.create(**asked(run, messages=turns, tools=[TOOL])))
        same(found.choices[0].message.role, "assistant")
    async with run.call("chat.completions.create with json_schema"):
        fields = fields_for(completions.create, response_format=wanted)
        found = await done(completions.create(**asked(run, max_tokens=100, **fields)))
        same(sorted(json.loads(found.choices[0].message.content)), ["day", "seats"])
    for path in ("chat.completions.parse", "beta.chat.completions.parse"):
        if run.has(path):
            parse = (run.client.beta if path.startswith("beta") else run.client).chat.completions.parse
            async with run.call(path):
                found = await done(parse(**asked(run, response_format=Seats, max_tokens=50)))
                assert isinstance(found.choices[0].message.parsed.full, bool), found


async def completions(run: Run) -> None:
    create = run.client.completions.create
    fields = {"model": run.given["completion"][run.surface], "prompt": "SELECT", "max_tokens": 6, "temperature": 0}
    async with run.call("completions.create"):
        plain = await done(create(**fields, logprobs=2))
        same((plain.object, len(plain.choices)), ("text_completion", 1))
        assert len(plain.choices[0].logprobs.token_logprobs) <= 6, plain
        assert plain.usage.completion_tokens <= 6, plain
    async with run.call("completions.create with stream"):
        # The SDK's type of a choice has no null finish_reason, which OpenAI's own chunks carry: no strict client here.
        chunks = await walk(run.lenient.completions.create(**fields, stream=True))
        same("".join(c.choices[0].text for c in chunks if c.choices), plain.choices[0].text, "streamed text")


async def embeddings(run: Run) -> None:
    create, model = run.client.embeddings.create, run.given["embedding"][run.surface]
    async with run.call("embeddings.create"):
        # The SDK asks for base64, and in strict mode looks at the answer before it has decoded it.
        found = await done(run.lenient.embeddings.create(model=model, input=["a room", "two seats"]))
        same((found.object, [row.index for row in found.data]), ("list", [0, 1]))
        vector = found.data[0].embedding
        assert abs(sum(number * number for number in vector) - 1) < 1e-3, "not of length one"
        assert found.usage.prompt_tokens == found.usage.total_tokens > 0
    async with run.call("embeddings.create with floats"):
        other = await done(create(model=model, input="a room", encoding_format="float"))
        close = zip(other.data[0].embedding, vector, strict=True)
        assert max(abs(one - two) for one, two in close) < 1e-4, "another vector for the same text"


async def stored(run: Run) -> None:
    if not run.has("chat.completions.list"):
        return
    completions = run.client.chat.completions
    async with run.call("chat.completions.create with store"):
        kept = await done(completions.create(**asked(run, store=True, metadata={"run": run.label})))
    async with run.call("chat.completions.list"):
        listed = await walk(completions.list(metadata={"run": run.label}))
        same([item.id for item in listed], [kept.id])
        same(listed[0].choices[0].message.content, kept.choices[0].message.content)
    async with run.call("chat.completions.retrieve"):
        found = await done(completions.retrieve(kept.id))
        same((found.id, found.to_dict()["metadata"]), (kept.id, {"run": run.label}))
    async with run.call("chat.completions.update"):
        changed = await done(completions.update(kept.id, metadata={"run": run.label, "seen": "yes"}))
        same(changed.to_dict()["metadata"], {"run": run.label, "seen": "yes"})
    async with run.call("chat.completions.messages.list"):
        # The SDK's type of these messages is the one of answers, whose only role is the assistant's.
        messages = await walk(run.lenient.chat.completions.messages.list(kept.id))
        same([(m.role, m.content) for m in messages], [(m["role"], m["content"]) for m in QUESTION])
    async with run.call("chat.completions.delete"):
        gone = await done(completions.delete(kept.id))
        same((gone.id, gone.object, gone.deleted), (kept.id, "chat.completion.deleted", True))
