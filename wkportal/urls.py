from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

handler500 = "wkportal.database.outage.broken"
urlpatterns = [
    path("", include("accounts.urls")),
    path(
        "login/",
        LoginView.as_view(template_name="accounts/sign_in.html", redirect_authenticated_user=True),
        name="sign_in",
    ),
    path("logout/", LogoutView.as_view(), name="sign_out"),
    path("language/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
]
