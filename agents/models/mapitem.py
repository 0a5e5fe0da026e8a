"""What became of each item of a map."""

from django.db import models

from agents.models.step import Step


class MapItem(models.Model):
    """One item of a map step, as it ended: a row an item, written in the commit that ends its chunk.

    step: the map; chunk: the step that did it, None for an item that policy refused before any ran; result: summary,
    data, text.
    """

    id = models.BigAutoField(primary_key=True)
    step = models.ForeignKey(Step, on_delete=models.PROTECT, related_name="items", db_index=False)
    chunk = models.ForeignKey(Step, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    index = models.PositiveIntegerField(help_text="place in the list, from 0")
    ok = models.BooleanField()
    result = models.JSONField(default=dict)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["step", "index"]
        constraints = [models.UniqueConstraint(fields=["step", "index"], name="map_item_once")]

    def __str__(self) -> str:
        return f"item {self.index}"
