"""What the two Python peers of the bench have in common: everything but the store.

A chat service as a good engineer writes it with FastAPI: uvloop and httptools under uvicorn, aiohttp
for the model (streamed, kept connections), PyJWT for tokens, one pool of database connections for each
process, none of them held while the model is waited for.  A turn is a task of its own, so that it ends
and is stored though its client goes away.

A store (fastapi/app.py on asyncpg, sqlmodel/app.py on SQLModel) has four methods, each one committed
transaction: begin, step, end, fail.  The environment says the rest:

    PEER_DATABASE   postgresql://user@/name?host=/directory
    PEER_POOL       connections of this process
    PEER_MODEL_URL  http://127.0.0.1:PORT/v1, PEER_MODEL its name
    PEER_SECRET     of the HS256 tokens
    PEER_TOOLS      the file with what the model is told of the tools
"""

import asyncio
import dataclasses
import http
import itertools
import json
import os
import time
import uuid
from datetime import datetime, timezone

import aiohttp
import jwt
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, StrictBool, StrictStr, validator
from starlette.exceptions import HTTPException

HISTORY = 50
STEPS = 8
DEADLINE = 100
POOL = int(os.environ.get("PEER_POOL", "10"))
MODEL = os.environ["PEER_MODEL"]
MODEL_URL = os.environ["PEER_MODEL_URL"] + "/chat/completions"
SECRET = os.environ["PEER_SECRET"]
INSTRUCTIONS = "You are a helpful assistant who answers briefly and uses the tools to do what the user asks for."
with open(os.environ["PEER_TOOLS"], encoding="utf-8") as f:
    TOOLS = json.load(f)


class ApiError(Exception):
    """A refusal or a failure, as the client is told of it."""

    def __init__(self, status, code, message, **more):
        super().__init__(code)
        self.status, self.code, self.message, self.more = status, code, message, more

    def body(self, request_id):
        return {"status": "error", "error": http.HTTPStatus(self.status).phrase, "error_code": self.code,
                "message": self.message, "request_id": request_id, **self.more}


class ToolError(Exception):
    """What the model is told of a call that cannot be done."""


@dataclasses.dataclass
class Call:
    name: str = ""
    call_id: str = ""
    arguments: str = ""
    id: str = ""
    parameters: dict = dataclasses.field(default_factory=dict)
    result: object = None
    is_error: bool = False
    executed_at: datetime = None
    duration_ms: int = 0

    def stored(self):
        return {"id": self.call_id, "name": self.name, "arguments": self.arguments}

    def shown(self):
        return {"id": self.id, "tool_name": self.name, "parameters": self.parameters, "result": self.result,
                "is_error": self.is_error, "executed_at": stamp(self.executed_at), "duration_ms": self.duration_ms}


@dataclasses.dataclass
class Reply:
    text: str = ""
    calls: list = dataclasses.field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    ended: bool = False


class Turn:
    """A turn that is stored as running; history is what the model is told."""

    def __init__(self, user, conversation_id, number, message, message_id, history):
        self.user, self.conversation_id, self.number = user, conversation_id, number
        self.history = history + [{"role": "user", "content": message}]
        self.idx = 1
        self.input_tokens = self.output_tokens = 0
        self.calls, self.messages = [], []
        self.response = ""
        self.add("user", message, message_id, [])

    def add(self, role, content, message_id, calls):
        self.messages.append({"id": str(message_id), "turn": self.number, "turn_state": "done", "run": 1, "role": role,
                              "content": content, "created_at": stamp(), "tool_calls": [c.shown() for c in calls]})
        if role == "assistant":
            self.messages[-1]["model"] = MODEL

    def body(self):
        return {"status": "success", "conversation_id": str(self.conversation_id), "turn": self.number,
                "response": self.response, "tool_calls": [c.shown() for c in self.calls], "approvals_required": [],
                "messages": self.messages,
                "usage": {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens},
                "model": MODEL, "timestamp": stamp()}


def stamp(at=None):
    return (at or datetime.now(timezone.utc)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def history_of(rows):
    """The model's view of messages, newest first: (role, content, tool_calls, tool_call_id)."""
    out = []
    for role, content, calls, call_id in rows:
        message = {"role": role, "content": content}
        if calls:
            message["content"] = content or None
            message["tool_calls"] = [{"id": c["id"], "type": "function",
                                      "function": {"name": c["name"], "arguments": c["arguments"]}} for c in calls]
        if call_id is not None:
            message["tool_call_id"] = call_id
        out.append(message)
    # A result whose call was cut off means nothing.
    while out and out[-1]["role"] == "tool":
        out.pop()
    return out[::-1]


async def ask(session, messages, on_text):
    """One request to the model, read as it streams."""
    now = datetime.now(timezone.utc).strftime("%A, %Y-%m-%d %H:%M (UTC)")
    system = {"role": "system", "content": f"{INSTRUCTIONS}\n\nThe user's local date and time: {now}."}
    body = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True},
            "messages": [system, *messages], "tools": TOOLS}
    reply = Reply()
    try:
        async with session.post(MODEL_URL, data=compact(body).encode(),
                                headers={"Content-Type": "application/json"}) as answer:
            if answer.status != 200:
                code = (503, "model_unavailable") if answer.status in (429, 503) else (502, "model_error")
                raise ApiError(*code, "The model could not answer. Try again in a moment.")
            async for line in answer.content:
                if line.startswith(b"data:"):
                    take(reply, line[5:].strip(), on_text)
    except asyncio.TimeoutError:
        raise ApiError(504, "model_timeout", "The model took too long. Try again in a moment.") from None
    except aiohttp.ClientError:
        raise ApiError(503, "model_unavailable", "The model cannot be reached. Try again in a moment.") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ApiError(502, "model_error", "The model answered something unusable.") from None
    if not reply.ended:
        raise ApiError(502, "model_error", "The model's answer was cut off.")
    return reply


def take(reply, data, on_text):
    if data == b"[DONE]":
        return
    event = json.loads(data)
    if event.get("usage"):
        reply.input_tokens = event["usage"].get("prompt_tokens", 0)
        reply.output_tokens = event["usage"].get("completion_tokens", 0)
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if delta.get("content"):
            reply.text += delta["content"]
            on_text(delta["content"])
        for part in delta.get("tool_calls") or ():
            index = part.get("index", 0)
            if index >= len(reply.calls):
                reply.calls.append(Call(id=str(uuid.uuid4())))
            call, function = reply.calls[index], part.get("function") or {}
            call.call_id = part.get("id") or call.call_id
            call.name += function.get("name") or ""
            call.arguments += function.get("arguments") or ""
        reply.ended = reply.ended or choice.get("finish_reason") is not None


def read_arguments(call):
    try:
        call.parameters = json.loads(call.arguments or "{}")
    except ValueError:
        call.parameters = None
    if not isinstance(call.parameters, dict):
        call.parameters, call.result, call.is_error = {}, {"error": "The arguments are not an object."}, True


async def do_call(call, tool):
    """Does one call; tool(name, parameters) is the store's."""
    began, call.executed_at = time.monotonic(), datetime.now(timezone.utc)
    if not call.is_error:
        try:
            call.result = await tool(call.name, call.parameters)
        except ToolError as e:
            call.result, call.is_error = {"error": str(e)}, True
    call.duration_ms = int((time.monotonic() - began) * 1000)


async def run(app, turn, emit):
    """Model, tools, model, ... until there is an answer; each step is committed before the next."""
    for _ in range(STEPS):
        reply = await ask(app.state.session, turn.history, lambda text: emit("delta", {"text": text}))
        turn.input_tokens += reply.input_tokens
        turn.output_tokens += reply.output_tokens
        message_id = uuid.uuid4()
        if not reply.calls:
            await app.state.store.end(turn, message_id, reply.text)
            turn.response = reply.text
            turn.add("assistant", reply.text, message_id, [])
            return turn.body()
        for call in reply.calls:
            read_arguments(call)
            emit("tool_call", {"id": call.id, "tool_name": call.name, "parameters": call.parameters})
        await app.state.store.step(turn, message_id, reply.text, reply.calls)
        turn.idx += 1 + len(reply.calls)
        turn.calls += reply.calls
        turn.add("assistant", reply.text, message_id, reply.calls)
        turn.history += history_of([("tool", compact(c.result), None, c.call_id) for c in reversed(reply.calls)]
                                   + [("assistant", reply.text, [c.stored() for c in reply.calls], None)])
        for call in reply.calls:
            emit("tool_result", {"id": call.id, "result": call.result, "is_error": call.is_error,
                                 "duration_ms": call.duration_ms})
    raise ApiError(500, "too_many_steps", "The assistant did not come to an end.")


async def carry_out(app, turn, emit):
    """A turn to its end, good or bad; raises ApiError."""
    try:
        return await asyncio.wait_for(run(app, turn, emit), DEADLINE)
    except asyncio.TimeoutError:
        error = ApiError(504, "turn_timeout", "The answer took too long.")
    except ApiError as e:
        error = e
    except Exception:
        app.state.log.exception("turn")
        error = ApiError(500, "internal_error", "Something went wrong on the server.")
    error.more = {"conversation_id": str(turn.conversation_id), "turn": turn.number}
    try:
        await app.state.store.fail(turn, error.code)
    except Exception:
        app.state.log.exception("the failure of a turn could not be stored")
    raise error


class Chat(BaseModel):
    message: StrictStr
    conversation_id: uuid.UUID = None
    stream: StrictBool = False

    @validator("message")
    def whole(cls, text):
        text = text.strip()
        if not 1 <= len(text) <= 2000:
            raise ValueError("message must have 1 to 2000 characters")
        return text


async def user(request: Request):
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError(401, "missing_token", "Sign in first: the request has no bearer token.")
    try:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.ExpiredSignatureError:
        raise ApiError(401, "token_expired", "The session has expired. Sign in again.") from None
    except jwt.InvalidTokenError:
        raise ApiError(401, "invalid_token", "The token is not valid. Sign in again.") from None
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise ApiError(401, "invalid_token", "The token names no user.")
    return claims["sub"]


def request_id(request):
    if not hasattr(request.state, "id"):
        request.state.id = str(uuid.uuid4())
    return request.state.id


def background(app, work):
    """A task that lives on though nobody waits for it."""
    task = asyncio.create_task(work)
    app.state.tasks.add(task)
    task.add_done_callback(app.state.tasks.discard)
    return task


def sse(number, event, data):
    return f"event: {event}\nid: {number}\ndata: {compact(data)}\n\n".encode()


def begin_stream(app, turn, rid):
    """Begins the turn, whether or not the stream is ever read; what it says comes in the queue."""
    queue = asyncio.Queue()

    async def work():
        try:
            queue.put_nowait(("done", await carry_out(app, turn, lambda *event: queue.put_nowait(event))))
        except ApiError as e:
            queue.put_nowait(("error", e.body(rid)))

    queue.put_nowait(("turn", {"conversation_id": str(turn.conversation_id), "turn": turn.number,
                               "message_id": turn.messages[0]["id"]}))
    background(app, work())
    return queue


async def events(queue):
    for number in itertools.count():
        event, data = await queue.get()
        yield sse(number, event, data)
        if event in ("done", "error"):
            return


def make_app(store, log):
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.log = log

    @app.on_event("startup")
    async def startup():
        app.state.tasks = set()
        app.state.store = store
        await store.open()
        # Turns are many, and each waits for the model at the same time.
        app.state.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0),
                                                  timeout=aiohttp.ClientTimeout(total=DEADLINE))

    @app.on_event("shutdown")
    async def shutdown():
        if app.state.tasks:
            await asyncio.wait(app.state.tasks, timeout=5)
        await app.state.session.close()
        await store.close()

    @app.exception_handler(ApiError)
    async def on_error(request, e):
        headers = {"X-Request-Id": request_id(request)}
        if e.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="peer"'
        if e.status in (409, 503):
            headers["Retry-After"] = "1"
        return JSONResponse(e.body(request_id(request)), e.status, headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request, e):
        first = e.errors()[0]
        if first["type"] == "value_error.jsondecode":
            return await on_error(request, ApiError(400, "invalid_json", "The body is not one JSON object."))
        field = {"field": str(first["loc"][1])} if len(first["loc"]) > 1 else {}
        return await on_error(request, ApiError(422, "validation_error", first["msg"], **field))

    @app.exception_handler(HTTPException)
    async def on_http(request, e):
        code = {404: "not_found", 405: "method_not_allowed"}.get(e.status_code, "bad_request")
        return await on_error(request, ApiError(e.status_code, code, str(e.detail)))

    @app.exception_handler(Exception)
    async def on_crash(request, e):
        return await on_error(request, ApiError(500, "internal_error", "Something went wrong on the server."))

    @app.get("/api/health")
    async def health():
        await store.ping()
        return JSONResponse({"status": "ok", "database": "ok"})

    @app.post("/api/chat")
    async def chat(request: Request, body: Chat, who: str = Depends(user)):
        rid = request_id(request)
        turn = await store.begin(who, body.conversation_id, body.message)
        if body.stream or "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(events(begin_stream(app, turn, rid)), media_type="text/event-stream", headers={
                "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Request-Id": rid})
        answer = await asyncio.shield(background(app, carry_out(app, turn, lambda *event: None)))
        return JSONResponse(answer, headers={"X-Request-Id": rid, "Cache-Control": "no-store"})

    return app


def not_begun(exists):
    """Why a conversation could not be gone on with."""
    if exists:
        return ApiError(409, "conversation_busy", "This conversation is still being answered. Try again in a moment.")
    return ApiError(404, "conversation_not_found", "There is no conversation with this id.")
