"""Who a person is at the company's OpenID Connect provider."""

from django.conf import settings
from django.db import models


class Identity(models.Model):
    """Names a person by what the provider never gives to another: an e-mail address or a name would not do."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="identity")
    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    linked_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint("issuer", "subject", name="one_person_of_identity")]

    def __str__(self) -> str:
        return f"identity of {self.user_id}"
