"""Published and retired versions of workflows never change, and a workflow that was published keeps its name: triggers."""

from django.db import migrations

CREATE = """
CREATE FUNCTION agents_workflow_version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status = 'draft' THEN
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
  END IF;
  IF TG_OP = 'UPDATE' AND OLD.status = 'published' AND NEW.status = 'retired'
     AND to_jsonb(NEW) - 'status' = to_jsonb(OLD) - 'status' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'workflow version % is %: it never changes', OLD.id, OLD.status
    USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER agents_workflow_version_guard BEFORE UPDATE OR DELETE ON agents_workflowversion
  FOR EACH ROW EXECUTE FUNCTION agents_workflow_version_guard();
ALTER TABLE agents_workflowversion ENABLE ALWAYS TRIGGER agents_workflow_version_guard;

CREATE FUNCTION agents_workflow_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.name <> OLD.name
     AND EXISTS (SELECT FROM agents_workflowversion WHERE workflow_id = OLD.id AND status <> 'draft') THEN
    RAISE EXCEPTION 'workflow % was published: its name stays', OLD.name
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER agents_workflow_guard BEFORE UPDATE ON agents_workflow
  FOR EACH ROW EXECUTE FUNCTION agents_workflow_guard();
ALTER TABLE agents_workflow ENABLE ALWAYS TRIGGER agents_workflow_guard;
"""

DROP = """
DROP TRIGGER agents_workflow_guard ON agents_workflow;
DROP TRIGGER agents_workflow_version_guard ON agents_workflowversion;
DROP FUNCTION agents_workflow_guard();
DROP FUNCTION agents_workflow_version_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0004_workflows")]
    operations = [migrations.RunSQL(CREATE, DROP)]
