"""Plans compute their times with cronsim: expressions that only Celery's parser read are written out."""

from celery.schedules import crontab
from cronsim import CronSim, CronSimError
from django.db import migrations, models
from django.utils import timezone

FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def write_out(apps, schema_editor):
    """Keep the meaning of ranges that wrap around (22-2) and of long names (monday)."""
    plans = apps.get_model("accounts", "Plan").objects.using(schema_editor.connection.alias)
    for plan in plans.exclude(crontab=""):
        try:
            CronSim(plan.crontab, timezone.now())
        except CronSimError:
            words = plan.crontab.split()
            read = crontab(**dict(zip(FIELDS, words, strict=True)))
            sets = (getattr(read, name) for name in FIELDS)
            plan.crontab = " ".join(
                "*" if word == "*" else ranges(numbers) for word, numbers in zip(words, sets, strict=True)
            )
            plan.save(update_fields=["crontab"])


def ranges(numbers: set[int]) -> str:
    """Return {0, 1, 2, 7} as "0-2,7"."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_drop_celery_beat")]

    operations = [
        migrations.RunPython(write_out, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="plan",
            name="crontab",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Minute, hour, day of month, month, day of week. “30 9 * * 1-5” means 9:30, Monday to Friday; “0 9 L * *” means 9:00 on the last day of the month. If you set both kinds of days, both must match.",
                max_length=200,
                verbose_name="cron expression",
            ),
        ),
        # The column keeps its name: processes of the version before read and write it while this one starts.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveConstraint(model_name="planrun", name="one_run_per_slot"),
                migrations.AlterField(
                    model_name="planrun",
                    name="slot_at",
                    field=models.DateTimeField(db_column="slot_at", verbose_name="scheduled"),
                ),
                migrations.RenameField(model_name="planrun", old_name="slot_at", new_name="scheduled_at"),
                migrations.AddConstraint(
                    model_name="planrun",
                    constraint=models.UniqueConstraint(
                        fields=("plan", "scheduled_at"), name="one_run_per_slot"
                    ),
                ),
            ],
        ),
    ]
