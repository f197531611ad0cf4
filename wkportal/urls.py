from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from accounts.web.people import views as people

handler500 = "wkportal.database.outage.broken"
urlpatterns = [
    path("", include("accounts.urls")),
    path("login/", people.SignIn.as_view(), name="sign_in"),
    path("logout/", LogoutView.as_view(), name="sign_out"),
    path("language/setlang/", people.choose_language, name="set_language"),
    path("admin/", admin.site.urls),
]
