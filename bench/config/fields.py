"""Types that several sections of the configuration share."""

from typing import Annotated

from pydantic import Field

from bench.config.validation import allowed

MAX_SEED = 2**31 - 1

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$"),
    allowed("a name of up to 64 letters, digits, and any of _ . + -"),
]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), allowed(f"a whole number from 0 to {MAX_SEED:,}")]
Number = Annotated[float, allowed("a finite number")]
Positive = Annotated[float, Field(gt=0), allowed("a finite number above 0")]

MAX_STEPS = 100_000_000
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS), allowed(f"a whole number from 1 to {MAX_STEPS:,}")]
