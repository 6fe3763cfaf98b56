"""The SQLModel peer of the bench: FastAPI, uvicorn, SQLModel (SQLAlchemy 1.4, asyncio) on asyncpg.

    uvicorn --app-dir sqlmodel app:app --uds SOCKET --loop uvloop --http httptools

The store is models and a session for each transaction, as SQLModel's users write it; SQLAlchemy caches
what it compiles and asyncpg's dialect prepares it.  shared/service.py is the rest of the service.
"""

import logging
import os
import uuid
from datetime import datetime, timedelta, timezone
from typing import Optional

from service import HISTORY, POOL, ToolError, Turn, compact, do_call, history_of, make_app, not_begun
from sqlalchemy import Column, DateTime, text, update
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlmodel import Field, SQLModel, select

LIVE = timedelta(seconds=100)


def now():
    return datetime.now(timezone.utc)


def key():
    return Column(UUID(as_uuid=True), primary_key=True)


def moment(nullable=False):
    return Column(DateTime(timezone=True), nullable=nullable)


class Conversation(SQLModel, table=True):
    __tablename__ = "conversations"
    id: uuid.UUID = Field(sa_column=key())
    user_id: str
    title: str
    turns: int = 1
    live_until: Optional[datetime] = Field(sa_column=moment(True))
    created_at: datetime = Field(default_factory=now, sa_column=moment())
    updated_at: datetime = Field(default_factory=now, sa_column=moment())


class TurnRow(SQLModel, table=True):
    __tablename__ = "turns"
    conversation_id: uuid.UUID = Field(sa_column=key())
    turn: int = Field(primary_key=True)
    state: str = "running"
    error_code: Optional[str] = None
    input_tokens: int = 0
    output_tokens: int = 0
    started_at: datetime = Field(default_factory=now, sa_column=moment())
    ended_at: Optional[datetime] = Field(sa_column=moment(True))


class Message(SQLModel, table=True):
    __tablename__ = "messages"
    conversation_id: uuid.UUID = Field(sa_column=key())
    turn: int = Field(primary_key=True)
    idx: int = Field(primary_key=True)
    id: uuid.UUID = Field(sa_column=Column(UUID(as_uuid=True), nullable=False))
    role: str
    content: str
    tool_calls: Optional[list] = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    tool_call_id: Optional[str] = None
    created_at: datetime = Field(default_factory=now, sa_column=moment())


class Task(SQLModel, table=True):
    __tablename__ = "tasks"
    id: Optional[int] = Field(default=None, primary_key=True)
    user_id: str
    title: str
    description: str = ""
    status: str = "pending"
    created_at: datetime = Field(default_factory=now, sa_column=moment())
    updated_at: datetime = Field(default_factory=now, sa_column=moment())


class Store:
    async def open(self):
        url = os.environ["PEER_DATABASE"].replace("postgresql://", "postgresql+asyncpg://", 1)
        self.engine = create_async_engine(url, pool_size=POOL, max_overflow=0)
        self.session = sessionmaker(self.engine, class_=AsyncSession, expire_on_commit=False)

    async def close(self):
        await self.engine.dispose()

    async def ping(self):
        async with self.session() as db:
            await db.execute(text("SELECT 1"))

    async def begin(self, user, conversation_id, message):
        message_id, history = uuid.uuid4(), []
        async with self.session() as db, db.begin():
            if conversation_id is None:
                conversation_id, number = uuid.uuid4(), 1
                db.add(Conversation(id=conversation_id, user_id=user, title=message[:80], live_until=now() + LIVE))
                # There are no relationships that would tell the order.
                await db.flush()
            else:
                number = await self.take(db, user, conversation_id)
                history = await self.read(db, conversation_id)
            db.add(TurnRow(conversation_id=conversation_id, turn=number))
            await db.flush()
            db.add(Message(conversation_id=conversation_id, turn=number, idx=0, id=message_id, role="user",
                           content=message))
        return Turn(user, conversation_id, number, message, message_id, history)

    async def take(self, db, user, conversation_id):
        """Makes the conversation this turn's; the row stays locked until the commit."""
        query = select(Conversation).where(Conversation.id == conversation_id, Conversation.user_id == user)
        c = (await db.execute(query.with_for_update())).scalar_one_or_none()
        if c is None or (c.live_until is not None and c.live_until > now()):
            raise not_begun(c is not None)
        c.turns += 1
        c.live_until, c.updated_at = now() + LIVE, now()
        return c.turns

    async def read(self, db, conversation_id):
        query = (select(Message.role, Message.content, Message.tool_calls, Message.tool_call_id)
                 .where(Message.conversation_id == conversation_id)
                 .order_by(Message.turn.desc(), Message.idx.desc()).limit(HISTORY - 1))
        return history_of((await db.execute(query)).all())

    async def step(self, turn, message_id, text, calls):
        """What the model said, what its calls did, and their results: all of it or nothing."""
        of = {"conversation_id": turn.conversation_id, "turn": turn.number}
        async with self.session() as db, db.begin():
            db.add(Message(**of, idx=turn.idx, id=message_id, role="assistant", content=text,
                           tool_calls=[c.stored() for c in calls]))
            for n, call in enumerate(calls, 1):
                await do_call(call, lambda name, p: tool(db, turn.user, name, p))
                db.add(Message(**of, idx=turn.idx + n, id=uuid.uuid4(), role="tool", content=compact(call.result),
                               tool_call_id=call.call_id))

    async def end(self, turn, message_id, text):
        async with self.session() as db, db.begin():
            if await self.finish(db, turn, state="done", input_tokens=turn.input_tokens,
                                 output_tokens=turn.output_tokens):
                db.add(Message(conversation_id=turn.conversation_id, turn=turn.number, idx=turn.idx, id=message_id,
                               role="assistant", content=text))

    async def fail(self, turn, code):
        async with self.session() as db, db.begin():
            await self.finish(db, turn, state="failed", error_code=code)

    async def finish(self, db, turn, **values):
        done = await db.execute(
            update(TurnRow).where(TurnRow.conversation_id == turn.conversation_id, TurnRow.turn == turn.number,
                                  TurnRow.state == "running")
            .values(ended_at=now(), **values).execution_options(synchronize_session=False))
        await db.execute(
            update(Conversation).where(Conversation.id == turn.conversation_id, Conversation.turns == turn.number)
            .values(live_until=None, updated_at=now()).execution_options(synchronize_session=False))
        return done.rowcount


async def tool(db, user, name, p):
    title, description = p.get("title"), p.get("description")
    if not 1 <= len(title or "x") <= 255 or len(description or "") > 5000:
        raise ToolError("The title or the description is too long.")
    if name == "list_tasks":
        query = select(Task).where(Task.user_id == user).order_by(Task.id.desc()).limit(100)
        if p.get("status", "all") != "all":
            query = query.where(Task.status == p["status"])
        return {"tasks": [shown(t) for t in (await db.execute(query)).scalars()]}
    if name == "add_task":
        if not title:
            raise ToolError("Title is required.")
        task = Task(user_id=user, title=title, description=description or "")
        db.add(task)
        await db.flush()
        return result(task, "created")
    if name not in ("complete_task", "update_task", "delete_task"):
        raise ToolError(f"There is no tool {name}.")
    return await change(db, user, name, p, title, description)


async def change(db, user, name, p, title, description):
    if not isinstance(p.get("task_id"), int):
        raise ToolError("task_id is required.")
    query = select(Task).where(Task.user_id == user, Task.id == p["task_id"]).with_for_update()
    task = (await db.execute(query)).scalar_one_or_none()
    if task is None:
        raise ToolError(f"There is no task {p['task_id']}.")
    if name == "delete_task":
        await db.delete(task)
        return result(task, "deleted")
    task.title = task.title if title is None else title
    task.description = task.description if description is None else description
    task.status = "completed" if name == "complete_task" else task.status
    task.updated_at = now()
    return result(task, "completed" if name == "complete_task" else "updated")


def shown(task):
    return {"id": task.id, "title": task.title, "description": task.description, "status": task.status}


def result(task, status):
    return {"task_id": task.id, "status": status, "title": task.title, "task": shown(task)}


app = make_app(Store(), logging.getLogger("uvicorn.error"))
