"""What control keeps of which there is one value: table ``meta``."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from headgate.registry.database import Base


class MetaRow(Base):
    """Table ``meta``: what has one value."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
