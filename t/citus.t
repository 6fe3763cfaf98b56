# schema/citus.sql without Citus: migrate passes it over, and what it asks for is every table of users and the
# functions that begin with the user.  Whether Citus does it is not tested.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Postgres;

my $pg = Parley::Postgres->new;
is $pg->one(q{SELECT count(*) FROM parley.migrations WHERE name = 'citus.sql'}), 0, 'migrate passes it over';

# What Citus has of these names, so that one sees what it was asked for.
my ($rc, $out) = $pg->psql(<<'SQL');
CREATE TABLE pg_dist_partition (logicalrelid regclass PRIMARY KEY, column_name text, beside text);
CREATE TABLE asked (function regprocedure, argument text, beside text);
CREATE FUNCTION create_distributed_table(table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL) RETURNS void LANGUAGE sql
    AS 'INSERT INTO pg_dist_partition VALUES ($1, $2, $4)';
CREATE FUNCTION create_reference_table(table_name regclass) RETURNS void LANGUAGE sql AS 'INSERT INTO pg_dist_partition VALUES ($1)';
CREATE FUNCTION create_distributed_function(function_name regprocedure, distribution_arg_name text DEFAULT NULL,
    colocate_with text DEFAULT 'default', force_delegation bool DEFAULT NULL) RETURNS void LANGUAGE sql
    AS 'INSERT INTO asked VALUES ($1, $2, $3)';
SQL
is $rc, 0, 'stand-ins' or diag $out;
my $file = "$FindBin::Bin/../schema/citus.sql";
my $text = do { local (@ARGV, $/) = $file; <> };
for my $time ('it runs', 'and again') {
	($rc, $out) = $pg->psql($text);
	is $rc, 0, $time or diag $out;
}

is_deeply $pg->rows(q{SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
    WHERE c.relnamespace IN ('parley'::regnamespace, 'tasks'::regnamespace) AND c.relkind = 'r'
      AND NOT EXISTS (SELECT FROM pg_dist_partition d WHERE d.logicalrelid = c.oid AND d.column_name = 'user_id')}), [],
    'every table of users is distributed by them';
is $pg->one(q{SELECT string_agg(beside, ' ' ORDER BY beside) FROM (SELECT DISTINCT beside FROM pg_dist_partition) x}),
    'none parley.conversations', 'all beside the first';
is_deeply $pg->rows(q{SELECT logicalrelid AS name FROM pg_dist_partition WHERE column_name IS NULL}), [{ name => 'parley.facts' }],
    'facts are everywhere';
is_deeply $pg->rows(q{SELECT DISTINCT function FROM asked a JOIN pg_proc p ON p.oid = a.function
    WHERE (argument = 'p_user') IS DISTINCT FROM (NOT prosecdef AND pg_get_function_arguments(p.oid) LIKE 'p_user text%' OR NULL)}), [],
    'functions that begin with the user are distributed by him, and no others';
ok $pg->one("SELECT count(*) FROM asked WHERE argument = 'p_user' AND function::text LIKE 'parley.$_(%'"), "$_ is"
    for qw(turn_begin turn_step tool_run turn_end turn_take conversation_list);
is $pg->one(q{SELECT count(*) FROM pg_proc p WHERE p.pronamespace::regnamespace::text IN ('parley', 'tools', 'tasks')
    AND p.prokind = 'f' AND NOT EXISTS (SELECT FROM asked a WHERE a.function = p.oid)}), 0, 'the others are everywhere';
# What a distributed table cannot have.
is_deeply $pg->rows(q{SELECT i.indexrelid::regclass AS name FROM pg_index i JOIN pg_dist_partition d ON d.logicalrelid = i.indrelid
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = d.column_name
    WHERE i.indisunique AND NOT a.attnum = ANY (i.indkey)}), [], 'every unique index holds the user';

done_testing;
