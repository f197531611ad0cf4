from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from accounts.web.people import views as people
from accounts.web.signing_in import views as signing_in

handler500 = "wkportal.database.outage.broken"
urlpatterns = [
    path("", include("accounts.urls")),
    path("login/", signing_in.SignIn.as_view(), name="sign_in"),
    path("login/code/", signing_in.take_second_step, name="second_step"),
    path("login/provider/", signing_in.provider_page, {"page": "Start"}, name="provider"),
    path(
        "login/provider/callback/", signing_in.provider_page, {"page": "Callback"}, name="provider_callback"
    ),
    path("logout/", signing_in.SignOut.as_view(), name="sign_out"),
    path("language/setlang/", people.choose_language, name="set_language"),
    path("admin/login/", signing_in.admin_login, name="admin_login"),
    path("admin/logout/", signing_in.SignOut.as_view(), name="admin_sign_out"),
    path("admin/password_change/", RedirectView.as_view(pattern_name="me"), name="admin_own_password"),
    path("admin/", admin.site.urls),
]
