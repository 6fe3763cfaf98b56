# What whoever runs a tool may do: everything that the role parley_tool can reach, by name.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Postgres;

my $pg = Parley::Postgres->new;

# A new tool, or a new function that one needs, is added here when it is made; nothing else ever is.
my @FUNCTIONS = qw(
	tasks.clean_description
	tasks.clean_title
	tasks.delete_question
	tasks.find
	tasks.result
	tasks.task_json
	tasks.who
	tools.add_task
	tools.complete_task
	tools.delete_task
	tools.list_tasks
	tools.update_task
);

sub names { [map { $_->{name} } @{$pg->rows($_[0])}] }

# Everybody may use what PostgreSQL brings along; beyond that a grant is needed.
my $OURS = q{n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'};

is_deeply names(qq{
	SELECT n.nspname || '.' || p.proname AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
	 WHERE $OURS AND has_schema_privilege('parley_tool', n.oid, 'USAGE')
	   AND has_function_privilege('parley_tool', p.oid, 'EXECUTE') ORDER BY 1}), \@FUNCTIONS, 'what it may execute';
is_deeply names(q{
	SELECT p.oid::regprocedure::text AS name FROM pg_proc p, aclexplode(p.proacl) a
	 WHERE a.grantee = 'parley_tool'::regrole AND a.is_grantable}), [], '... and may not hand on';
is_deeply names(q{
	SELECT p.oid::regprocedure::text AS name FROM pg_proc p, aclexplode(p.proacl) a
	 WHERE a.grantee = 'parley_tool'::regrole AND p.pronamespace = 'pg_catalog'::regnamespace}), [],
    'nothing of PostgreSQL that others may not';
is_deeply names(qq{
	SELECT n.nspname || '.' || c.relname || ' ' || x.what AS name
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
	       (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) x (what)
	 WHERE $OURS AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
	   AND (has_table_privilege('parley_tool', c.oid, x.what)
	     OR x.what IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege('parley_tool', c.oid, x.what))
	 ORDER BY 1}),
    [map { my $table = $_; map { "tasks.$table $_" } qw(DELETE INSERT SELECT UPDATE) } qw(counters tasks)], 'which tables';
is_deeply names(qq{
	SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE $OURS AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('parley_tool', c.oid, 'USAGE, SELECT, UPDATE') END}),
    [], 'no sequence';
is_deeply names(q{SELECT nspname AS name FROM pg_namespace n WHERE has_schema_privilege('parley_tool', n.oid, 'CREATE')}), [],
    'it makes nothing';
is_deeply names(q{SELECT oid::regrole::text AS name FROM pg_roles
	 WHERE oid <> 'parley_tool'::regrole AND pg_has_role('parley_tool', oid, 'MEMBER')}), [], 'it can become nobody else';
is_deeply $pg->rows(q{SELECT rolname FROM pg_roles WHERE rolname = 'parley_tool'
	 AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication)}), [],
    'and is nobody special';
is_deeply names(q{
	SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind IN ('r', 'p')
	   AND has_any_column_privilege('parley_tool', c.oid, 'SELECT') AND c.relnamespace = 'tasks'::regnamespace
	   AND NOT (c.relrowsecurity AND c.relforcerowsecurity)}), [], 'rows of its user alone';

done_testing;
