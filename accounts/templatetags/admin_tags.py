"""Template tags of Django admin."""

from django import template

from accounts.admin.review import front_page

register = template.Library()


@register.simple_tag
def front_page_blocks(user) -> list[front_page.Block]:
    return list(front_page.blocks(user))
