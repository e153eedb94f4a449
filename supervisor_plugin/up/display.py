"""What a person sees while the fleet comes up: running steps on a terminal, one line per step elsewhere."""

import contextlib
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

Say = Callable[[str], None]
"""Tell what a step is doing now."""

RUNNING, DONE, FAILED = "running", "done", "failed"
_MARKS = {DONE: ("✓", "green"), FAILED: ("✗", "red")}


class _MarkColumn(ProgressColumn):
    """A spinner while a step runs, then how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self._spinner = SpinnerColumn()

    def render(self, task: Task) -> Text:
        """Draw one step's mark."""
        mark = _MARKS.get(str(task.fields["state"]))
        if mark is None:
            return Text.from_ansi(str(self._spinner.render(task)))
        return Text(mark[0], style=mark[1])


class Display:
    """Steps may run at the same time. Everything goes to standard error but `show`, which is for the result."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            _MarkColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
        )
        self._progress = Progress(*columns, console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Draw no more; what stands on the terminal stays."""
        if self._progress is not None:
            self._progress.stop()

    def note(self, text: str) -> None:
        """Print one line above the running steps."""
        console = self._progress.console if self._progress is not None else self._console
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, title: str) -> Generator[Say]:
        """Show a step from its beginning to its end; it has failed if an exception leaves it."""
        began, last = time.monotonic(), ""
        task = self._progress.add_task(title, state=RUNNING, detail="") if self._progress is not None else None

        def say(detail: str, state: str = RUNNING) -> None:
            nonlocal last
            last = detail
            if self._progress is not None and task is not None:
                self._progress.update(task, detail=detail, state=state)

        try:
            yield say
        except BaseException:
            say(last, FAILED)
            self._line(f"✗ {title}  {last}")
            raise
        seconds = f"{time.monotonic() - began:.1f} s"
        say(f"{last}  {seconds}" if last else seconds, DONE)
        self._line(f"✓ {title}  {last}")

    def _line(self, text: str) -> None:
        if self._progress is None:
            self._console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)
