"""Published and retired versions, and their rules, never change: triggers hold it, whoever asks.

A rule's trigger locks its version FOR SHARE, so that an edit that is under way and a publication wait for one another.
Labels of decisions hold a policy's name: it stays, once a version was published.
"""

from django.db import migrations

CREATE = """
CREATE FUNCTION approvals_version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.status <> 'draft' THEN
      RAISE EXCEPTION 'policy version % is %: it never goes', OLD.id, OLD.status USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
  END IF;
  IF OLD.status = 'draft' THEN
    RETURN NEW;
  END IF;
  IF OLD.status = 'published' AND NEW.status = 'retired'
     AND to_jsonb(NEW) - 'status' = to_jsonb(OLD) - 'status' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'policy version % is %: it never changes', OLD.id, OLD.status USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER approvals_version_guard BEFORE UPDATE OR DELETE ON approvals_policyversion
  FOR EACH ROW EXECUTE FUNCTION approvals_version_guard();
ALTER TABLE approvals_policyversion ENABLE ALWAYS TRIGGER approvals_version_guard;

CREATE FUNCTION approvals_rule_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  found text;
  ids uuid[] := CASE TG_OP
    WHEN 'INSERT' THEN ARRAY[NEW.version_id]
    WHEN 'DELETE' THEN ARRAY[OLD.version_id]
    ELSE ARRAY[OLD.version_id, NEW.version_id] END;
BEGIN
  FOR found IN SELECT status FROM approvals_policyversion WHERE id = ANY (ids) FOR SHARE LOOP
    IF found <> 'draft' THEN
      RAISE EXCEPTION 'the rules of a % policy version never change', found USING ERRCODE = 'integrity_constraint_violation';
    END IF;
  END LOOP;
  IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER approvals_rule_guard BEFORE INSERT OR UPDATE OR DELETE ON approvals_policyrule
  FOR EACH ROW EXECUTE FUNCTION approvals_rule_guard();
ALTER TABLE approvals_policyrule ENABLE ALWAYS TRIGGER approvals_rule_guard;

CREATE FUNCTION approvals_policy_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.name <> OLD.name
     AND EXISTS (SELECT FROM approvals_policyversion WHERE policy_id = OLD.id AND status <> 'draft') THEN
    RAISE EXCEPTION 'policy % was published: its name stays', OLD.name USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER approvals_policy_guard BEFORE UPDATE ON approvals_policy
  FOR EACH ROW EXECUTE FUNCTION approvals_policy_guard();
ALTER TABLE approvals_policy ENABLE ALWAYS TRIGGER approvals_policy_guard;
"""

DROP = """
DROP TRIGGER approvals_policy_guard ON approvals_policy;
DROP TRIGGER approvals_rule_guard ON approvals_policyrule;
DROP TRIGGER approvals_version_guard ON approvals_policyversion;
DROP FUNCTION approvals_policy_guard();
DROP FUNCTION approvals_rule_guard();
DROP FUNCTION approvals_version_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("approvals", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
