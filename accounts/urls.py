from django.urls import path

from accounts import feed, views

urlpatterns = [
    path("", views.accounts, name="accounts"),
    path("accounts/counts/", views.account_counts, name="account_counts"),
    path("accounts/new/", views.new_account, name="new_account"),
    path("accounts/<int:account_id>/", views.account, name="account"),
    path("accounts/<int:account_id>/edit/", views.edit_account, name="edit_account"),
    path("accounts/<int:account_id>/row/", views.account_row, name="account_row"),
    path("accounts/<int:account_id>/live/", views.account_live, name="account_live"),
    path("accounts/<int:account_id>/avatar.png", views.avatar, name="avatar"),
    path("accounts/<int:account_id>/login/", views.start_login, name="start_login"),
    path("attempts/<int:attempt_id>/", views.attempt, name="attempt"),
    path("attempts/<int:attempt_id>/live/", views.attempt_live, name="attempt_live"),
    path("attempts/<int:attempt_id>/qr.png", views.qr_png, name="qr_png"),
    path("attempts/<int:attempt_id>/cancel/", views.cancel_login, name="cancel_login"),
    path("attempts/<int:attempt_id>/code/", views.submit_code, name="submit_code"),
    path("alarm/", views.alarm, name="alarm"),
    path("events/", feed.stream, name="events"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
]
