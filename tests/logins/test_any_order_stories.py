"""Short stories out of tests/logins/test_any_order.py: steps of logins in an order that is seldom, and has to end well."""

import pytest

from tests.logins.test_any_order import machine
from tests.support.model_based.steps import PEOPLE
from tests.support.model_based.stories import Stories

__all__ = ["machine"]

STORIES = {
    "a late success that is doubtful is recorded once, also when the answer to its commit is lost": (
        lambda story: story.begin(1, worker="A"),
        lambda story: story.cancel(1),
        lambda story: story.begin(2, worker="B"),
        lambda story: story.phone("w2", who=PEOPLE[3]),
        lambda story: story.phone("w1", who=PEOPLE[3], heard=False),
        lambda story: story.answer(story.answers()[0], "committed, and the answer lost"),
        lambda story: story.go_on(story.tasks()[0]),
    ),
    "a sleeper that finds the account paused leaves the prompt to who has sent it": (
        lambda story: story.prompt(1, by_itself=True),
        lambda story: story.message(story.worker("A"), 1, at_once=False),
        lambda story: story.taken_over(story.worker("A")),
        lambda story: story.wanted(1, online=False),
        lambda story: story.begins(story.tasks()[-1]),
    ),
    "a confirmation counts after another login of the account was taken for it": (
        lambda story: story.begin(2, worker="A"),
        lambda story: story.cancel(1),
        lambda story: story.prompt(2, worker="A"),
        lambda story: story.phone("w1", heard=False),
        lambda story: story.taken_over(story.worker("A")),
        lambda story: story.phone("w2"),
    ),
}


@pytest.mark.parametrize("steps", STORIES.values(), ids=STORIES)
def test_a_story_ends_well(machine, steps):
    story = Stories(machine.world)
    for step in steps:
        step(story)
        story.rules.check()
    story.come_to_rest()
