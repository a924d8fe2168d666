"""One self-contained HTML page about finished runs, or about the runs behind a table: numbers with intervals, training
curves, errors, the best and the worst videos, configuration, and where everything comes from.

Equal stores give equal bytes: no date, no absolute path but those in configurations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from vislab.errors import UserError
from vislab.metrics.errors import ERROR_TYPES
from vislab.report.figures.training_curves import Series, draw_quantities, read_journal
from vislab.report.runs.error_costs import ErrorCosts, draw_error_costs, error_costs
from vislab.report.runs.inline_figures import drawn_for_page, inline_svg
from vislab.report.runs.labelled_videos import LabelledVideos, labelled_videos
from vislab.report.runs.stored_runs import Group, StoredRun, differences, flat
from vislab.report.runs.video_panels import best_and_worst, predictions, video_figure
from vislab.report.tables.html_page import table_part, whole_page
from vislab.report.tables.views import NOTHING, View

Notice = Callable[[str], None]

_STYLE = """\
h2 { font-size: 1.1rem; font-weight: 600; margin: 2.4rem 0 .6rem; padding-top: .6rem;
     border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; font-weight: 600; margin: 1.4rem 0 .4rem; }
p.note { color: var(--soft); max-width: 60rem; margin: .4rem 0; }
nav { margin: 0 0 1.4rem; } nav a { color: inherit; margin-right: 1.2rem; }
svg.chart { display: block; width: 100%; height: auto; margin: .8rem 0; }
svg.chart text { font-family: inherit !important; }
table.plain { font-size: .88rem; border-width: 1px; margin: .6rem 0; }
table.plain th, table.plain td { padding: .2rem .7rem .2rem 0; text-align: left; }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
details td code { white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin: .3rem 0; } summary { cursor: pointer; }
figure { margin: 1.2rem 0 1.8rem; } figcaption { margin-bottom: .4rem; }
.frames { display: grid; gap: 3px; align-items: center; color: var(--soft); font-size: .82rem; }
.frames img { width: 100%; display: block; } .frames span { text-align: center; overflow-wrap: anywhere; }
.frames .row { text-align: left; padding-right: .5rem; }
"""


def run_page(view: View, groups: Sequence[Group], num_videos: int, notice: Notice) -> str:
    """The page.

    Args:
        view: the table of numbers at its top.
        groups: what stands in it, in the order of its rows; the same label on several data sets is one row.
        num_videos: how many of the best videos of a data set are shown, and of the worst.
        notice: told what takes time, a line each.
    """
    errors, shown = _measured(groups, num_videos, notice)
    parts = {
        "Training": _training(groups),
        "Errors": errors,
        "Videos": shown,
        "Configuration": _configuration(groups),
        "Provenance": _provenance(groups),
    }
    parts = {name: part for name, part in parts.items() if part}
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in parts)
    sections = [f'<h2 id="{name.lower()}">{name}</h2>\n{part}' for name, part in parts.items()]
    return whole_page(view.title, "\n".join([f"<nav>{links}</nav>", table_part(view), *sections]), _STYLE)


def training_series(groups: Sequence[Group]) -> list[Series]:
    """The trainings behind groups, each once; groups that share one are named together."""
    labels: dict[tuple[tuple[str, ...], Group], list[str]] = {}
    first: dict[tuple[str, ...], Group] = {}
    for group in groups:
        owner = first.setdefault(group.trainings, group)
        labels.setdefault((group.trainings, owner), []).append(group.label)
    return [
        Series(
            names[0] if len(names) == 1 else f"{names[0]}, and {len(names) - 1} more",
            tuple(read_journal(run.folder / "metrics.jsonl") for run in group.runs),
        )
        for (_, group), names in labels.items()
    ]


def _measured(groups: Sequence[Group], num_videos: int, notice: Notice) -> tuple[str, str]:
    """Errors and videos; where the data is gone, the reason."""
    errors, shown = [], []
    for dataset, members in _by_dataset(groups).items():
        heading = _heading(dataset, groups)
        try:
            videos = labelled_videos(members[0].runs[0])
            notice(f"{dataset}: labels of {len(videos.dataset)} videos")
            errors.append(heading + _errors(members, videos, notice))
            shown.append(heading + _videos(members, videos, num_videos, notice))
        except UserError as error:
            errors.append(heading + _note(f"Not known: {error}"))
            shown.append(heading + _note(f"Not shown: {error}"))
    return "\n".join(errors), "\n".join(shown)


def _by_dataset(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """What is evaluated of each group, by what it is evaluated on."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        evaluated = tuple(run for run in group.runs if run.result is not None)
        if evaluated:
            found.setdefault(group.dataset, []).append(Group(group.label, group.dataset, evaluated))
    return found


def _heading(dataset: str, groups: Sequence[Group]) -> str:
    """Of a part about one data set of several."""
    return f"<h3>{escape(dataset)}</h3>\n" if len({group.dataset for group in groups}) > 1 else ""


def _training(groups: Sequence[Group]) -> str:
    parts = []
    for dataset in dict.fromkeys(group.dataset for group in groups):
        series = training_series([group for group in groups if group.dataset == dataset])
        with drawn_for_page():
            figure = draw_quantities(series)
        drawn = _note("No step was noted.") if figure is None else inline_svg(figure)
        parts.append(_heading(dataset, groups) + drawn)
    if any(len(group.runs) > 1 for group in groups):
        parts.append(_note("Lines: mean over seeds; bands: their standard deviation."))
    runs = {run.train_key: run for group in groups for run in group.runs}
    parts += [_note(f"Run {key} is not finished.") for key, run in runs.items() if run.trained is None]
    parts += [_note(f"Run {key} failed: {text}") for key, run in runs.items() for text in run.failures]
    return "\n".join(parts)


def _errors(members: Sequence[Group], videos: LabelledVideos, notice: Notice) -> str:
    rows: dict[str, ErrorCosts] = {}
    for group in members:
        notice(f"{group.dataset}, {group.label}: errors")
        rows[group.label] = error_costs(group.runs, videos)
    with drawn_for_page():
        figure = draw_error_costs({"": rows})
    head = ["", *ERROR_TYPES]
    lines = []
    for label, costs in rows.items():
        cells = [
            f"{_points(lost.value)} [{_points(lost.ci_low)}, {_points(lost.ci_high)}] ({costs.counts[name]:.0f})"
            for name, lost in costs.lost.items()
        ]
        lines.append([escape(label), *cells])
    about = (
        "AP50 that each type of error costs, in percentage points [95 % bootstrap interval over videos] (number of "
        "errors, mean over seeds): wrong category, poor masks, wrong extent in time or identity, both, object found "
        "already, no object there, object not found."
    )
    return "\n".join([inline_svg(figure), _plain_table(head, lines), _note(about)])


def _videos(members: Sequence[Group], videos: LabelledVideos, number: int, notice: Notice) -> str:
    ranked = best_and_worst([run for group in members for run in group.runs], number)
    shown = {group.label: predictions(group.runs[0], videos) for group in members}
    labels = {label: "prediction" for label in shown} if len(shown) == 1 else {label: label for label in shown}
    notice(f"{members[0].dataset}: {len(ranked)} videos")
    figures = [video_figure(each, videos, {labels[name]: found for name, found in shown.items()}) for each in ranked]
    seeds = sorted({group.runs[0].seed for group in members})
    about = (
        f"Predictions of seed {' or '.join(map(str, seeds))} that score 0.3 or more, in the colour of the labelled "
        "object that they overlap best over the whole video. Videos are chosen by their AP, mean over all runs above."
    )
    return "\n".join([*figures, _note(about if figures else "No video to show.")])


def _configuration(groups: Sequence[Group]) -> str:
    configs = [group.runs[0].config for group in groups]
    parts = []
    apart = differences(configs)
    if apart:
        several = len({group.dataset for group in groups}) > 1
        names = [f"{group.label}, {group.dataset}" if several else group.label for group in groups]
        rows = [[_code(path), *(_code(_text(value)) for value in values)] for path, values in apart.items()]
        parts.append("<p>What is set differently:</p>\n" + _plain_table(["", *map(escape, names)], rows))
    first = "" if len(groups) == 1 else f" of {escape(groups[0].label)}"
    for name, value in configs[0].items():
        if isinstance(value, Mapping):
            rows = [[_code(path), _code(_text(held))] for path, held in flat(value).items()]
            parts.append(f"<details><summary>{escape(name)}{first}</summary>\n{_plain_table([], rows)}\n</details>")
    return "\n".join(parts)


def _provenance(groups: Sequence[Group]) -> str:
    environments: list[dict[str, Any]] = []
    rows = []
    head = [
        "", "data", "seed", "train key", "eval key", "AP", "steps", "min", "parameters", "weights",
        "training data", "evaluated data", "code", "env.",
    ]  # fmt: skip
    for group in groups:
        for run in group.runs:
            environment = {k: v for k, v in run.environment.items() if k not in ("git", "command")}
            if environment and environment not in environments:
                environments.append(environment)
            number = str(environments.index(environment) + 1) if environment else NOTHING
            rows.append([*map(escape, (group.label, group.dataset)), *_origin(run), number])
    tables = [
        f"<details><summary>environment {number}</summary>\n"
        + _plain_table([], [[escape(path), _code(_text(value))] for path, value in flat(each).items()])
        + "\n</details>"
        for number, each in enumerate(environments, 1)
    ]
    about = "min: of training. Hashes, shortened: weights by SHA-256, data by fingerprint, code by git."
    return "\n".join([_plain_table(head, rows), _note(about), *tables])


def _origin(run: StoredRun) -> Iterator[str]:
    trained, result, git = run.trained or {}, run.result or {}, run.environment.get("git")
    precision = (result.get("metrics") or {}).get("AP")
    seconds = trained.get("train_seconds")
    yield str(run.seed)
    yield _code(run.train_key)
    yield _code(run.eval_key) if run.eval_key else NOTHING
    yield NOTHING if precision is None else f"{100 * precision:.1f}"
    yield str(trained.get("steps", NOTHING))
    yield NOTHING if seconds is None else f"{seconds / 60:.1f}"
    yield f"{trained['parameters']:,}" if "parameters" in trained else NOTHING
    for hashed in (trained.get("weights_sha256"), trained.get("data_fingerprint"), result.get("data_fingerprint")):
        yield _code(hashed[:12]) if hashed else NOTHING
    yield _code(git["sha"][:12] + (" with changes" if git["dirty"] else "")) if git else "no git checkout"


def _plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are HTML already."""
    top = f"<thead><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr></thead>\n" if head else ""
    lines = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="plain">\n{top}<tbody>\n{lines}\n</tbody></table></div>'


def _points(fraction: float) -> str:
    return NOTHING if math.isnan(fraction) else f"{round(100 * fraction, 1) + 0.0:.1f}"  # no negative zero


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
