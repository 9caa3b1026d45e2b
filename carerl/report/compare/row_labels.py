"""What a comparison's rows are called: the recipe, and the settings in which rows of one recipe differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carerl.runs.find import Run


def row_labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """The recipe, and the settings in which groups of the same recipe differ."""
    labels = []
    for group in groups:
        same = [other[0].settings for other in groups if other[0].recipe == group[0].recipe]
        labels.append(" · ".join([group[0].recipe, *differing(group[0].settings, same)]))
    return labels


def differing(settings: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """``name=value`` of the settings in which not all of ``others`` agree."""
    names = dict.fromkeys(name for other in others for name in other)
    return [
        f"{name}={settings.get(name, 'unset')}"
        for name in names
        if any(other.get(name) != settings.get(name) for other in others)
    ]


def short_labels(labels: Sequence[str]) -> list[str]:
    """Labels without the part that all recipes end in, as room in a picture is scarce.

    >>> short_labels(["none_grpo_tiny", "care_grpo_tiny · regularizer.estimator=score"])
    ['none', 'care · estimator=score']
    """
    recipes = [label.split(" · ")[0] for label in labels]
    parts = [recipe.split("_") for recipe in recipes]
    shared = 0
    if len(set(recipes)) > 1:
        while all(len(p) > shared + 1 for p in parts) and len({p[-shared - 1] for p in parts}) == 1:
            shared += 1
    shortened = []
    for label, part in zip(labels, parts, strict=True):
        settings = [s.split("=")[0].rsplit(".", 1)[-1] + "=" + s.split("=", 1)[1] for s in label.split(" · ")[1:]]
        shortened.append(" · ".join(["_".join(part[: len(part) - shared]), *settings]))
    return shortened if len(set(shortened)) == len(set(labels)) else list(labels)
