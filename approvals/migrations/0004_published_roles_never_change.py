"""The further groups of a published rule never change either: a trigger holds it."""

from django.db import migrations

CREATE = """
CREATE FUNCTION approvals_role_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  found text;
  ids uuid[] := CASE TG_OP
    WHEN 'INSERT' THEN ARRAY[NEW.rule_id]
    WHEN 'DELETE' THEN ARRAY[OLD.rule_id]
    ELSE ARRAY[OLD.rule_id, NEW.rule_id] END;
BEGIN
  FOR found IN
    SELECT version.status FROM approvals_policyversion version
    JOIN approvals_policyrule rule ON rule.version_id = version.id
    WHERE rule.id = ANY (ids) FOR SHARE OF version
  LOOP
    IF found <> 'draft' THEN
      RAISE EXCEPTION 'the rules of a % policy version never change', found USING ERRCODE = 'integrity_constraint_violation';
    END IF;
  END LOOP;
  IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER approvals_role_guard BEFORE INSERT OR UPDATE OR DELETE ON approvals_ruleapprovers
  FOR EACH ROW EXECUTE FUNCTION approvals_role_guard();
ALTER TABLE approvals_ruleapprovers ENABLE ALWAYS TRIGGER approvals_role_guard;
"""

DROP = """
DROP TRIGGER approvals_role_guard ON approvals_ruleapprovers;
DROP FUNCTION approvals_role_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("approvals", "0003_governance")]
    operations = [migrations.RunSQL(CREATE, DROP)]
