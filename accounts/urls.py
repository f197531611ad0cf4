from django.urls import path
from django.views.generic import RedirectView

from accounts.realtime import sse
from accounts.web.views import accounts, health, incidents, logins, scan_queue, unmanaged, upstream_callback

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="accounts", query_string=True), name="overview"),
    path("accounts/", accounts.account_list, name="accounts"),
    path("accounts/counts/", accounts.account_counts, name="account_counts"),
    path("accounts/new/", accounts.new_account, name="new_account"),
    path("accounts/<int:account_id>/", accounts.account_detail, name="account"),
    path("accounts/<int:account_id>/edit/", accounts.edit_account, name="edit_account"),
    path("accounts/<int:account_id>/row/", accounts.account_row, name="account_row"),
    path("accounts/<int:account_id>/live/", accounts.account_live, name="account_live"),
    path("accounts/<int:account_id>/avatar.png", accounts.avatar, name="avatar"),
    path("accounts/<int:account_id>/login/", logins.start_login, name="start_login"),
    path("accounts/<int:account_id>/popup/", logins.send_prompt, name="ask_phone"),
    path("accounts/<int:account_id>/check/", accounts.check_account, name="check_account"),
    path("accounts/<int:account_id>/log-out/", accounts.log_out_account, name="log_out_account"),
    path("accounts/<int:account_id>/keep-online/", accounts.keep_online, name="keep_online"),
    path("accounts/<int:account_id>/due/", accounts.set_relogin_time, name="due"),
    path("accounts/check/", accounts.check_all, name="check_all"),
    path("to-scan/", scan_queue.scan_queue, name="to_scan"),
    path("incidents/", incidents.incident_list, name="incidents"),
    path("incidents/<int:incident_id>/", incidents.incident_detail, name="incident"),
    path("incidents/<int:incident_id>/recover/", incidents.recover_incident, name="recover_incident"),
    path("discovered/", unmanaged.unmanaged_accounts, name="unmanaged"),
    path("discovered/<int:unmanaged_id>/adopt/", unmanaged.adopt, name="adopt"),
    path("discovered/<int:unmanaged_id>/ignore/", unmanaged.ignore, name="ignore"),
    path("attempts/<int:attempt_id>/", logins.attempt, name="attempt"),
    path("attempts/<int:attempt_id>/live/", logins.attempt_live, name="attempt_live"),
    path("attempts/<int:attempt_id>/qr.png", logins.qr_png, name="qr_png"),
    path("attempts/<int:attempt_id>/cancel/", logins.cancel_login, name="cancel_login"),
    path("attempts/<int:attempt_id>/meant/", logins.take_as_meant, name="take_as_meant"),
    path("attempts/<int:attempt_id>/code/", logins.submit_verification_code, name="submit_code"),
    path("alarm/", health.alarm, name="alarm"),
    path("waiting/", health.waiting, name="waiting"),
    path("events/", sse.stream, name="events"),
    path("callbacks/wkteam/<str:secret>/", upstream_callback.wkteam, name="callback"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
