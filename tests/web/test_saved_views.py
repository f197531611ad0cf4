"""Saved views: filters and an order under a name, for the person who saved them."""

from accounts.models import SavedView
from accounts.models.operators.saved_view import VIEWS_EACH


def save(person, name: str, query: str):
    return person.client.post("/accounts/views/", {"name": name, "query": query})


def test_a_view_is_saved_as_the_list_understands_it_and_listed(people):
    answer = save(people.operator, "  Rack 3 ", "?rack=Rack+3&sort=place&junk=1&page=%3E7")
    assert answer["Location"] == "/accounts/?rack=Rack+3&sort=place"
    view = SavedView.objects.get()
    assert (view.user, view.name, view.query) == (people.operator, "Rack 3", "?rack=Rack+3&sort=place")
    page = people.operator.client.get("/accounts/" + view.query).content.decode()
    assert 'href="/accounts/?rack=Rack+3&amp;sort=place"' in page


def test_a_name_that_exists_is_given_to_the_new_view(people):
    save(people.operator, "Night", "?tag=night")
    save(people.operator, "Night", "?tag=night&group=offline")
    save(people.mate, "Night", "?tag=other")
    mine = people.operator.saved_views.get()
    assert mine.query == "?group=offline&tag=night"


def test_views_without_a_name_too_many_or_of_somebody_else_are_refused(people):
    assert save(people.operator, " \x00 ", "?tag=a").status_code == 302
    for number in range(VIEWS_EACH + 1):
        save(people.operator, f"View {number}", "")
    assert people.operator.saved_views.count() == VIEWS_EACH
    view = people.operator.saved_views.first()
    assert people.mate.client.post(f"/accounts/views/{view.pk}/remove/").status_code == 404
    assert people.operator.client.post(f"/accounts/views/{view.pk}/remove/").status_code == 302
    assert not SavedView.objects.filter(pk=view.pk).exists()
